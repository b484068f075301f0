"""One try of a task, from its start to its end: what `CmlRunJobOperator` does, in worker and after every deferral.

The law: the run's id reaches XCom before anything else can fail, and how a wait ended is read from one value, whether
it happened here or in the triggerer.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.start import Busy, Origin, Postponed, Start
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, Pace, Target
from airflow_provider_cml.api.errors import CmlError, CmlInterruptedError
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.compat import AirflowTaskTimeout
from airflow_provider_cml.failures import failure, failure_of, with_facts
from airflow_provider_cml.links.cml import RUN_URL
from airflow_provider_cml.operators.busy import fail_busy, postpone
from airflow_provider_cml.operators.deadline import end_run, out_of_time
from airflow_provider_cml.operators.variables import given_variables
from airflow_provider_cml.outlets import run_facts, tell_outlets
from airflow_provider_cml.reasons import explained
from airflow_provider_cml.task_context import push, run_key
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.start import Started
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.compat import Context
    from airflow_provider_cml.hooks.task import CmlTaskHook
    from airflow_provider_cml.operators.cml import CmlRunJobOperator


class JobRunAttempt:
    """One try, as far as it has come.

    :param task: the operator, with what the DAG author wants.
    :param context: Airflow's.
    :param hook: the way to CML.
    :param watched: what this try knows of its run already; grows as it goes.
    """

    def __init__(self, task: CmlRunJobOperator, context: Context, hook: CmlTaskHook, watched: events.Watched) -> None:
        self.task = task
        self.context = context
        self.hook = hook
        self.watched = watched
        self.key = run_key(context)
        # A resumed task knows its job already, so CML has answered this try before.
        self.has_connected = bool(watched.project_id)
        self.seen: JobRun | None = None
        self._sent: list[RunKey] = []
        self._refusal = ""
        self._is_killed = False
        self._here_since = time.monotonic()

    @property
    def waited(self) -> float:
        """Seconds this try has taken at least. The wall clocks of two workers are never compared."""
        return self.watched.waited + time.monotonic() - self._here_since

    def run(self, variables: dict[str, str]) -> str:
        """Start or find the run, wait for it, and once more where CML or an earlier try took it away."""
        try:
            while True:
                self._end_if_killed()
                started = self._start(variables)
                self._announce(started)
                self._end_if_killed()
                if not self.task.wait_for_completion:
                    tell_outlets(self.task, self.context, run_facts(self.watched, started.run))
                    return started.run.id
                if self._is_over(self._wait(started)):
                    return self.watched.run_id
        except CmlInterruptedError as error:
            raise with_facts(failure_of(error), self.watched) from error
        except AirflowTaskTimeout as error:
            return out_of_time(self, error)

    def go_on(self, outcome: Outcome) -> str:
        """Conclude from what the triggerer saw; start anew if it says nothing about this task."""
        try:
            if self._is_over(outcome):
                return self.watched.run_id
        except AirflowTaskTimeout as error:
            return out_of_time(self, error)
        return self.run_anew()

    def run_anew(self) -> str:
        """Take part again, in a process that did not begin this try: the run's variables are made anew."""
        try:
            variables = given_variables(self.task, self.context)
        except CmlError as error:
            raise with_facts(failure_of(error), self.watched) from error
        return self.run(variables)

    def kill(self) -> None:
        """Stop the run while the process is being killed; the wait, interrupted, ends by itself."""
        self._is_killed = True
        self.hook.interrupt()
        self._stop_in_passing()

    def _stop_in_passing(self) -> None:
        key = self.last_key()
        if self.task.cancel_on_kill and key is not None:
            self.hook.stop_in_passing(self.watched.ids, key, self.watched.run_id)

    def _end_if_killed(self) -> None:
        """Airflow 3 goes on with a task it has told to end, until it kills it: nothing may be started then.

        The answer to a start may have come after the kill; only now is the id of its run known.
        """
        if self._is_killed:
            if self.watched.run_id:
                self._stop_in_passing()
            message = "The task was told to end."
            raise CmlInterruptedError(message)

    # ---------------------------------------------------------------- start

    def _start(self, variables: dict[str, str]) -> Started:
        task, watched = self.task, self.watched
        start = Start(
            watched.ids,
            self.key,
            environment=variables,
            arguments=task.arguments,
            durable=task.durable,
            stop_former=task.cancel_on_kill,
            wait_when_busy=task.on_busy == "wait",
            can_defer=task.deferrable,
            progress=watched.progress,
            rejection=self._refusal,
            busy_timeout=events.seconds_to(watched.free_deadline),
            poll_interval=task.poll_interval,
            waited=self.waited,
            dag_run_age=None if self.key.nonce else time.time() - self.key.start / 1_000_000,
            excluded=frozenset(watched.excluded),
            has_connected=self.has_connected,
        )
        self._sent, self._refusal = start.sent, ""
        try:
            result = self.hook.start_job_run_once(start)
        except CmlError as error:
            raise with_facts(failure_of(error), watched) from error
        self.has_connected = True
        if isinstance(result, Postponed):
            self._end_if_killed()
            postpone(self, result)
        if isinstance(result, Busy):
            self._end_if_killed()
            fail_busy(self, result)
        return result

    def _announce(self, started: Started) -> None:
        """Tell XCom and log which run is ours, before anything else can fail."""
        task, run = self.task, started.run
        self.seen = run
        deadlines = [self.watched.deadline, events.moment_after(task.timeout)]
        self.watched = replace(
            self.watched,
            run_id=run.id,
            run_key=str(started.key),
            began=self.watched.began or time.time(),
            losses=max(started.losses, self.watched.losses),
            deadline=min((moment for moment in deadlines if moment is not None), default=None),
        )
        names = ("run_key", "project_id", "job_id")
        push(self.context, {"return_value": run.id, **{name: getattr(self.watched, name) for name in names}})
        try:
            run_url = self.hook.jobs_url(self.watched.project_id)
        except Exception as error:  # noqa: BLE001 - Airflow's too: a 401 has the connection read again
            task.log.warning("The link to CML is missing: %s", error)
            run_url = ""
        push(self.context, {RUN_URL: run_url})
        self.watched = replace(self.watched, run_url=run_url)
        task.log.info("Run %s is %s. %s", run.id, run.status, run_url)
        matters = self.key.retries or task.wait_for_completion
        if started.origin is Origin.STARTED and matters and self.hook.retries_itself(self.watched.ids):
            what = (
                "and so are Airflow's retries: use one of them."
                if self.key.retries
                else "but the task has no retries: if the run fails, the task fails while CML goes on to run it again."
            )
            task.log.warning("CML's own Job Retry is on for this job, %s", what)
        if started.origin is Origin.STARTED and run.arguments != (task.arguments or run.arguments):
            task.log.warning("CML shows other arguments for run %s than were given: it may have ignored them.", run.id)

    # ---------------------------------------------------------------- wait

    def _wait(self, started: Started) -> Outcome:  # noqa: RET503 - defer raises
        """Wait here, or go to sleep and let the triggerer wait. A run that is over already never defers."""
        task = self.task
        target = Target(self.watched.ids, run_id=self.watched.run_id)
        if started.run.status.is_over:
            return Outcome(Ending.OVER, started.run)
        left = events.seconds_to(self.watched.deadline)
        if not task.deferrable:
            pace = Pace(poll_interval=task.poll_interval, timeout=left)
            return self.hook.watch_job_run(target, pace)
        try:
            run = self.hook.look_in_passing(self.watched.ids, self.watched.run_id)
        except CmlInterruptedError:
            raise
        except CmlError as error:
            task.log.warning("Could not look at the run before deferring: %s", error)
        else:
            if run.status.is_over:
                return Outcome(Ending.OVER, run)
        self._end_if_killed()
        task.defer(
            trigger=CmlJobRunTrigger(
                task.cml_conn_id,
                replace(self.watched, waited=self.waited).to_json(),
                task.poll_interval,
                cancel_on_kill=task.cancel_on_kill,
            ),
            method_name="execute_complete",
            timeout=events.backstop(left),
        )

    # ---------------------------------------------------------------- conclude

    def _is_over(self, outcome: Outcome) -> bool:
        """True if the run succeeded, False if the task has to take part again; otherwise the task's error."""
        run, log = outcome.run, self.task.log
        self.seen = run or self.seen
        if run is not None:
            push(self.context, {"status": str(run.status), **events.run_times(run)})
            if run.status.is_over:
                log.info("Run %s is over: %s.", run.id, run.word or run.status)
        error = failure(outcome, self.watched)
        if error is not None and self._says_nothing(outcome):
            return False
        if outcome.ending is Ending.TIMED_OUT:
            run, error = end_run(self, run, "when the time of this try was over")
        if self.watched.losses:
            self._look_for_doubles()
        if error is not None:
            raise explained(error, self.task, self.hook, outcome) if self.task.explain_failure else error
        if run is not None:
            tell_outlets(self.task, self.context, run_facts(self.watched, run))
        return True

    def _says_nothing(self, outcome: Outcome) -> bool:
        """Whether this ending is none of the task: the run never ran, or our own former worker may have stopped it."""
        run, key = outcome.run, RunKey.parse(self.watched.run_key)
        if outcome.ending is not Ending.OVER or run is None:
            return False
        is_adopted = key is not None and key.try_number < self.key.try_number
        excluded, refusals = self.watched.excluded, self.watched.refusals
        if run.status is JobRunStatus.SKIPPED:
            self.task.log.info("Run %s was skipped: the job is busy.", run.id)
            # CML has refused the start, only later than it mostly does; no look may ever show because of which run.
            refusals += 1
            self._refusal = f"CML skipped run {run.id}"
        elif run.status is JobRunStatus.STOPPED and is_adopted and not self.watched.excluded:
            self.task.log.info("Run %s was stopped, perhaps by the earlier try that started it.", run.id)
            excluded = (*excluded, run.id)
        else:
            return False
        self.watched = replace(self.watched, run_id="", run_key="", began=0.0, excluded=excluded, refusals=refusals)
        # Airflow may wake the task next without an event; then XCom is all it knows, and must not name this run.
        push(self.context, {"return_value": "", "run_key": ""})
        return True

    def _look_for_doubles(self) -> None:
        key = RunKey.parse(self.watched.run_key)
        if key is None:
            return
        try:
            self.hook.look_for_doubles(self.watched.ids, key, self.watched.run_id)
        except Exception as error:  # noqa: BLE001 - Airflow's too: in a task that was woken the connection may be gone
            self.task.log.warning("Could not look for a second run after a lost answer: %s", error)

    def last_key(self) -> RunKey | None:
        """The key of the run, or of the start that is out."""
        return RunKey.parse(self.watched.run_key) or (self._sent[-1] if self._sent else None)
