"""A CML workspace in memory: what tests and the routes hold in their hands.

Law: thread-safe, and independent of any server: without an emulator it advances when it is asked something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.emulator.engine import Engine
from airflow_provider_cml.emulator.objects import Job, Run, status_named
from airflow_provider_cml.emulator.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_provider_cml.emulator.agenda import Clock


class Workspace(Registry):
    """Users, projects and jobs, declared in code or in a workspace.toml, and the runs that come of them.

    :param root: the folder with the scripts, as root/owner/slug; needed only for jobs that have a script
    :param user: whom the keys belong to; default: the owner of the first project
    :param scheduling: seconds that a run of a script stays in SCHEDULING; `starting` in STARTING
    :param stopping: seconds from STOPPING to STOPPED
    :param busy: what a second start is answered: 400 (code 9), or 200 with a SKIPPED run. Both were seen
        (LIVE); which build gives which is not known
    :param engine_ids_are_run_ids: v1's engine id is the v2 run id (INFER: probably so on CML)
    :param page_size_cap: the server gives no larger pages than this (INFER: one client says 50)
    :param clock: seconds since the epoch; tests may give one of their own
    """

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        user: str = "",
        scheduling: float = 0.0,
        starting: float = 0.0,
        stopping: float = 0.2,
        busy: int = 400,
        engine_ids_are_run_ids: bool = False,
        page_size_cap: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(root, user, clock)
        self.busy = busy
        self.page_size_cap = page_size_cap
        self.engine = Engine(self)
        self.engine.scheduling, self.engine.starting, self.engine.stopping = scheduling, starting, stopping
        self.engine.engine_ids_are_run_ids = engine_ids_are_run_ids

    def advance(self) -> None:
        """Let everything happen that is due."""
        self.agenda.advance()

    def start(
        self,
        job: Job,
        environment: Mapping[str, str] | None = None,
        arguments: str | None = None,
        *,
        api: str = "hand",
    ) -> Run:
        """Start a job as CML does; when it is busy the run that comes back is SKIPPED."""
        with self.lock:
            self.advance()
            run = self.engine.create(job, api=api, environment=environment, arguments=arguments)
            self.engine.start(run)
            return run

    def stop(self, run: Run, seconds: float | None = None) -> None:
        """Stop a run, taking `seconds` from STOPPING to STOPPED."""
        with self.lock:
            self.advance()
            self.engine.stop(run, seconds)

    def add_run(
        self,
        job: Job,
        status: str = "running",
        *,
        environment: Mapping[str, str] | None = None,
        arguments: str | None = None,
        created_at: float | None = None,
        api: str = "hand",
    ) -> Run:
        """Put a run into the history that nobody started here and that does nothing by itself.

        It is there beside an active one too, if there is one.
        """
        with self.lock:
            run = self.engine.create(job, api=api, environment=environment, arguments=arguments, at=created_at)
            self.engine.set_status(run, status_named(status))
            return run

    def set_status(self, run: Run | str, status: str, message: str | None = None, *, oom_killed: bool = False) -> Run:
        """Move a run to any status, made-up words included; from here on it does nothing by itself.

        An end by hand has the consequences of any other: child jobs, CML's Job Retry, the next start. `message` and
        `oom_killed` are what /api/v2/usage tells of it.
        """
        with self.lock:
            self.advance()
            run = self.runs[run] if isinstance(run, str) else run
            run.message, run.oom_killed = run.message if message is None else message, run.oom_killed or oom_killed
            self.engine.set_status(run, status_named(status))
            return run

    def restore_run(self, run: Run) -> None:
        """Take over a run from the state of an earlier emulator."""
        with self.lock:
            self.last_sequence = max(self.last_sequence, run.sequence)
            self.keep_run(run)

    def resume(self) -> None:
        """Carry on with what was active when the earlier emulator ended."""
        with self.lock:
            for run in tuple(self.runs.values()):
                self.engine.resume(run)

    def delete_job(self, job: Job) -> None:
        """Delete a job with its runs; a script that runs is ended."""
        with self.lock:
            for run in self.runs_of(job):
                if not run.is_over:
                    self.engine.abandon(run)
            self.remove_job(job)
