"""What happens to runs: the states they pass, one active run per job, child jobs, timeouts, CML's Job Retry.

Law: every change of a run's status happens here, under the workspace's lock, and carries the time at which it
was due.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from airflow_provider_cml.emulator.identifiers import random_engine_id
from airflow_provider_cml.emulator.objects import OVER, Job, Life, Run, Status, status_named
from airflow_provider_cml.emulator.prospects import is_made_again, life_of
from airflow_provider_cml.emulator.scripts import (
    OUTPUT_FOLDER,
    Script,
    ScriptError,
    cdsw_values,
    end_orphan,
    environment_of,
    locate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_cml.emulator.registry import Registry


class RunIsOverError(Exception):
    """A stop was asked for a run that is over."""


class Engine:
    """Moves the runs of a registry along."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.agenda = registry.agenda
        #: Seconds in each state for runs of scripts, whose running takes as long as it takes.
        self.scheduling = 0.0
        self.starting = 0.0
        self.stopping = 0.2
        self.engine_ids_are_run_ids = False
        #: Where the workspace is served, for CDSW_API_URL and its like.
        self.address = ""
        self._scripts: dict[str, Script] = {}
        #: Killed, and perhaps not quite gone.
        self._ending: list[Script] = []

    # ------------------------------------------------------------------ start

    def create(
        self,
        job: Job,
        *,
        api: str,
        environment: Mapping[str, str] | None = None,
        arguments: str | None = None,
        at: float | None = None,
    ) -> Run:
        """A run of a job, entered and not yet begun."""
        project = self.registry.projects[job.project_id]
        now = self.agenda.clock() if at is None else at
        given = dict(environment or {})
        run_id = random_engine_id()
        run = Run(
            id=run_id,
            # Whether v1's engine id is the v2 run id is not known (INFER: probably). Different by default, so
            # that whoever relies on it finds out here.
            engine_id=run_id if self.engine_ids_are_run_ids else random_engine_id(),
            project_id=project.id,
            job_id=job.id,
            job=job.name,
            number=job.number,
            sequence=self.registry.next_sequence(),
            created_at=now,
            scheduling_at=now,
            updated_at=now,
            api=api,
            creator=self.registry.user.username,
            environment=given,
            merged={**project.environment, **job.environment, **given},
            arguments=job.arguments if arguments is None else arguments,
            kernel=job.kernel,
            runtime_identifier=job.runtime_identifier,
            cpu=job.cpu,
            memory=job.memory,
            nvidia_gpu=job.nvidia_gpu,
        )
        run.life = life_of(job, run, self.registry.runs_of(job))
        self.registry.keep_run(run)
        return run

    def start(self, run: Run) -> None:
        """Begin a run, if its job is free; else it becomes a Skipped entry in the history (LIVE)."""
        others = (other for other in self.registry.runs_of(self._job(run)) if other is not run)
        # DOC: runs made by Job Retry may go on beside normal ones.
        if run.api != "retry" and any(not other.is_over for other in others):
            self.finish(run, Status.SKIPPED, run.created_at)
        else:
            self._enter(run, Status.SCHEDULING, run.created_at)

    def _job(self, run: Run) -> Job:
        return self.registry.jobs[run.job_id]

    def _enter(self, run: Run, status: Status, at: float) -> None:
        """Enter a state that is passed through, and note when it is left."""
        run.status, run.updated_at = status, at
        pace = run.life or Life(self.scheduling, self.starting)
        match status:
            case Status.SCHEDULING:
                run.scheduling_at = at
                self._later(run, at, pace.scheduling, lambda due: self._enter(run, Status.STARTING, due))
            case Status.STARTING:
                run.starting_at = at
                self._later(run, at, pace.starting, lambda due: self._enter(run, Status.RUNNING, due))
            case _:
                run.running_at, run.executed = at, True
                timeout = self._job(run).timeout
                if timeout:
                    self._later(run, at, timeout, lambda due: self.finish(run, Status.TIMEDOUT, due))
                if run.life is None:
                    self._launch(run, at)
                else:
                    self._later(run, at, run.life.running, lambda due: self._end(run, due))
        self.registry.tell(run)

    def _later(self, run: Run, at: float, seconds: float | None, action: Callable[[float], None]) -> None:
        if seconds is not None:
            self.agenda.at(at + seconds, run.id, action)

    def _end(self, run: Run, at: float) -> None:
        life = run.life or Life()
        run.message, run.oom_killed = life.message, life.oom_killed
        ending = status_named(life.ending)
        if ending in OVER:
            self.finish(run, ending, at, life.failure)
        else:
            run.status, run.updated_at = ending, at
            self.registry.tell(run)

    # ------------------------------------------------------------------ end

    def finish(self, run: Run, status: str, at: float, failure: str = "script") -> None:
        """End a run, and begin what its end begins."""
        self.agenda.strike(run.id)
        # kill_on_timeout=false: whether the process goes on then is not known of CML; here nothing is left.
        self._kill(run)
        run.status, run.finished_at, run.updated_at = status, at, at
        self.registry.tell(run)
        job = self._job(run)
        if status == Status.SUCCEEDED:
            # DOC: children start after the parent succeeded, each as its own run of its own job. Nothing says that they
            # inherit the parent run's environment. That a paused one does not start is inferred.
            for child in tuple(self.registry.jobs.values()):
                if child.parent_id == job.id and not child.paused:
                    self.start(self.create(child, api="child", at=at))
        elif is_made_again(job, run, failure):
            self.agenda.at(at + job.retry_delay, ("retry", run.id), lambda due: self._retry(job, run, due))

    def _retry(self, job: Job, run: Run, at: float) -> None:
        """CML's Job Retry: a new run (DOC); that it has the same environment is INFER."""
        if job.id not in self.registry.jobs:
            return
        again = self.create(job, api="retry", environment=run.environment, arguments=run.arguments, at=at)
        again.attempt, again.retry_of = run.attempt + 1, run.id
        self.start(again)

    def stop(self, run: Run, seconds: float | None = None) -> None:
        """Ask a run to stop: STOPPING now, STOPPED later."""
        now = self.agenda.clock()
        run.stop_requests.append(now)
        if run.is_over:
            self.registry.tell(run)
            raise RunIsOverError(f"job run {run.id} is not active")
        if run.status == Status.STOPPING:
            self.registry.tell(run)
            return
        self.agenda.strike(run.id)
        run.status, run.updated_at = Status.STOPPING, now
        if run.id in self._scripts:
            self._scripts[run.id].signal(signal.SIGTERM)
        self._later(run, now, self.stopping if seconds is None else seconds, self._stopped(run))
        self.registry.tell(run)

    def _stopped(self, run: Run) -> Callable[[float], None]:
        return lambda due: self.finish(run, Status.STOPPED, due)

    def set_status(self, run: Run, status: str) -> None:
        """Move a run by hand; from here on it does nothing by itself."""
        now = self.agenda.clock()
        self.agenda.strike(run.id)
        if status in (Status.RUNNING, Status.SUCCEEDED, Status.TIMEDOUT):
            run.executed, run.running_at = True, run.running_at or now
        if status in OVER:
            self.finish(run, status, now)
        else:
            run.status, run.updated_at, run.finished_at = status, now, None
            self.registry.tell(run)

    # ------------------------------------------------------------------ scripts

    def _launch(self, run: Run, at: float) -> None:
        project, root = self.registry.projects[run.project_id], self.registry.root
        folder = self.registry.folder_of(project)
        try:
            path = locate(root, folder, self._job(run).script)
            assert root is not None
            assert folder is not None
            output = root / OUTPUT_FOLDER / f"{run.id}.log"
            values = cdsw_values(run, self._job(run), project, self.address)
            script = Script(path, folder, environment_of(folder, run.merged, values), output)
        except (ValueError, OSError) as error:
            run.message = str(error)
            self.finish(run, Status.FAILED, at, "script" if isinstance(error, ScriptError) else "system")
            return
        run.output = str(output)
        self._scripts[run.id] = script
        run.process = script.process
        script.watch(lambda code: self._exited(run, code))

    def _exited(self, run: Run, code: int) -> None:
        with self.registry.lock:
            if self._scripts.pop(run.id, None) is None or run.id not in self.registry.runs:
                return
            run.exit_code, run.process = code, None
            if run.status == Status.RUNNING:
                self.finish(run, Status.SUCCEEDED if code == 0 else Status.FAILED, self.agenda.clock())
            else:  # being stopped, or moved by hand
                self.registry.tell(run)

    def _kill(self, run: Run) -> None:
        script = self._scripts.pop(run.id, None)
        run.process = None
        if script is not None:
            script.signal(signal.SIGKILL)
            self._ending = [*(other for other in self._ending if other.is_there), script]

    def abandon(self, run: Run) -> None:
        """Its job is deleted: end it without consequences."""
        self.agenda.strike(run.id)
        self._kill(run)
        run.status, run.finished_at = Status.STOPPED, self.agenda.clock()
        self.registry.tell(run)

    # ------------------------------------------------------------------ shutdown and restart

    def kill_scripts(self) -> None:
        """End every script: the workspace goes away.

        Their runs FAILED. CML's word for a lost engine could be UNKNOWN too, but such a run would keep its
        job busy for ever.
        """
        with self.registry.lock:
            scripts = [*self._scripts.values(), *self._ending]
            lost = [self.registry.runs[run_id] for run_id in self._scripts]
            self._scripts, self._ending = {}, []
            for run in lost:
                self._lose(run)
        for script in scripts:
            script.kill()

    def _lose(self, run: Run) -> None:
        """Nothing follows from this end: no retry, for nobody is there to run it."""
        now = self.agenda.clock()
        self.agenda.strike(run.id)
        was_stopping = run.status == Status.STOPPING
        run.status, run.finished_at, run.updated_at = Status.STOPPED if was_stopping else Status.FAILED, now, now
        run.message, run.process = "the emulator went away while the script was running", None
        self.registry.tell(run)

    def resume(self, run: Run) -> None:
        """Carry on with a run that was active when an emulator ended."""
        if run.is_over:
            return
        if run.process is not None:
            end_orphan(run.process, run.engine_id)
        if run.status == Status.STOPPING:
            self.finish(run, Status.STOPPED, self.agenda.clock())
        elif run.life is None and run.status == Status.RUNNING:
            self._lose(run)
        elif run.status == Status.SCHEDULING:
            self._enter(run, Status.SCHEDULING, run.scheduling_at or run.created_at)
        elif run.status == Status.STARTING:
            self._enter(run, Status.STARTING, run.starting_at or run.created_at)
        elif run.status == Status.RUNNING:
            self._enter(run, Status.RUNNING, run.running_at or run.created_at)
