"""What `CmlJobRunSensor` does when its turn comes. Loaded only then: no DAG file needs the API to be read.

The law: every mode ends in the same error, by the one table of `failures`; see the sensor's module for `soft_fail`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.succession import may_be_made_again
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, Target
from airflow_provider_cml.api.errors import CmlError
from airflow_provider_cml.compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferralError,
    TaskDeferralTimeout,
)
from airflow_provider_cml.failures import (
    CmlRunFailedError,
    CmlRunSkippedError,
    CmlRunStoppedError,
    CmlTaskError,
    CmlTaskFailError,
    failure,
    failure_of,
    read_event,
)
from airflow_provider_cml.outlets import run_facts, tell_outlets
from airflow_provider_cml.reasons import explained
from airflow_provider_cml.sensors.chain import ChainWatch, sleep_below
from airflow_provider_cml.sensors.target import connect, find_target
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger

if TYPE_CHECKING:
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.compat import Context
    from airflow_provider_cml.hooks.task import CmlTaskHook
    from airflow_provider_cml.sensors.cml import CmlJobRunSensor

_SOFT = (AirflowSensorTimeout, CmlRunFailedError, CmlRunStoppedError, CmlRunSkippedError)
"""What `soft_fail` turns into a skip."""
_ENDINGS = (
    AirflowSkipException,
    AirflowSensorTimeout,
    CmlTaskError,
    CmlTaskFailError,
    TaskDeferralError,
    TaskDeferralTimeout,
)
"""What a sensor ends in, when it does not end well."""


class JobRunWatch:
    """One sensor's view of the run that is meant.

    :param task: the sensor, with what the DAG author wants.
    """

    def __init__(self, task: CmlJobRunSensor) -> None:
        self.task = task
        self._hook: CmlTaskHook | None = None
        self._target: Target | None = None
        self._seen = ""
        self._chain: ChainWatch | None = None

    def look(self, context: Context) -> str | None:
        """One look; the run's id if it succeeded, None if it goes on, otherwise the task's error."""
        run = self._chain.top if self._chain else self._look(context)
        if run is not None and self.task.follow_retries and may_be_made_again(run):
            run = None if self.task.deferrable else self._last_retry(run)
        if run is None or not run.status.is_over:
            return None
        return self._end(context, Outcome(Ending.OVER, run), self._watched())

    def sleep(self, context: Context) -> str:
        """Look once, so that a run that is over never defers; then let the triggerer wait."""
        task = self.task
        deadline = events.moment_after(task.timeout)
        found = self.look(context)
        if found is not None:
            return found
        if self._chain is not None:
            sleep_below(task, self._chain.top, self._watched(deadline))
        since, looked_at = self._find_target().since, self._find_target().looked_at
        task.defer(
            trigger=CmlJobRunTrigger(
                task.cml_conn_id,
                self._watched(deadline).to_json(),
                poll_interval=task.poke_interval if task.poll_interval is None else task.poll_interval,
                run_key=task.run_key,
                since=since.isoformat() if since else None,
                follow_retries=task.follow_retries,
                looked_at=looked_at.isoformat() if looked_at else None,
            ),
            method_name="execute_complete",
            timeout=events.backstop(task.timeout),
        )
        message = "Airflow went on after a deferral."
        raise AssertionError(message)

    def wake(self, context: Context, event: dict[str, Any]) -> str:
        """What the triggerer saw: the run's id, or the task's error."""
        outcome, watched = read_event(event)
        found = self._end(context, outcome, watched)
        if found is None and outcome.run is not None:
            sleep_below(self.task, outcome.run, watched)
        return found or watched.run_id

    def judge(self, error: Exception) -> None:
        """Raise what the task ends in, where that differs from what Airflow's base class makes of it."""
        if not isinstance(error, _ENDINGS):
            return
        verdict = self._verdict(error)
        if verdict is not error:
            raise verdict from verdict.__cause__

    def _look(self, context: Context) -> JobRun | None:
        is_first_try = context["ti"].try_number <= 1
        try:
            target = self._find_target(context)
            run = self._connect().look_at_job_run(target)
        except CmlError as error:
            raise failure_of(error, is_first_try=is_first_try) from error
        seen = f"There is not {target} yet." if run is None else f"Run {run.id} is {run.word or run.status}."
        if seen != self._seen:
            self.task.log.info(seen)
            self._seen = seen
        return run

    def _end(self, context: Context, outcome: Outcome, watched: events.Watched) -> str | None:
        try:
            return self._conclude(context, outcome, watched)
        except (CmlTaskError, CmlTaskFailError) as error:
            if self.task.explain_failure and self._chain is None:
                explained(error, self.task, self._connect(), outcome)
            raise

    def _last_retry(self, run: JobRun) -> JobRun:
        ids, task = self._find_target().ids, self.task
        try:
            return self._connect().find_last_retry(ids, run, task.timeout, task.poke_interval)
        except CmlError as error:
            raise failure_of(error, is_first_try=False) from error

    def _conclude(self, context: Context, outcome: Outcome, watched: events.Watched) -> str | None:
        if outcome.ending is Ending.TIMED_OUT:
            raise AirflowSensorTimeout(outcome.message)
        error = failure(outcome, watched)
        if error is not None:
            raise error
        if outcome.run is None:
            return watched.run_id
        if self.task.follow_children:
            self._chain = self._chain or ChainWatch(self.task, self._connect(), watched, outcome.run)
            if not self._chain.look(context):
                return None
        tell_outlets(self.task, context, run_facts(watched, outcome.run))
        return outcome.run.id

    def _verdict(self, error: BaseException) -> BaseException:
        """What the task ends in, whatever Airflow's base class has made of `error` in this mode and version."""
        # Airflow's own skip has a cause, except for the one that says that a soft sensor's time is over.
        cause = error.__cause__ or error if isinstance(error, AirflowSkipException) else error
        if isinstance(cause, TaskDeferralTimeout):
            cause = AirflowSensorTimeout("The triggerer did not report in the time given to wait.")
        if isinstance(cause, AirflowSkipException) or not (
            self.task.never_fail or (self.task.soft_fail and isinstance(cause, _SOFT))
        ):
            return cause
        skip = AirflowSkipException(
            f"Skipped, because {'soft' if self.task.soft_fail else 'never'}_fail is set. {cause}"
        )
        skip.__cause__ = cause
        return skip

    def _connect(self) -> CmlTaskHook:
        if self._hook is None:
            self._hook = connect(self.task.cml_conn_id)
        return self._hook

    def _find_target(self, context: Context | None = None) -> Target:
        """Which run is meant; names are looked up once."""
        if self._target is None:
            self._target = find_target(self.task, self._connect, context)
        return self._target

    def _watched(self, deadline: float | None = None) -> events.Watched:
        ids = self._find_target().ids
        return events.Watched(ids.project_id, ids.job_id, run_id=self.task.run_id or "", deadline=deadline)
