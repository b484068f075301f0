"""What `CmlJobRunSensor` does when its turn comes. Loaded only then: no DAG file needs the API to be read.

The law: every mode ends in the same error, by the one table of `failures`; see the sensor's module for `soft_fail`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.waiting import AGE_SHARE
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, Pace, Target, missing, outcome_of
from airflow_provider_cml.api.errors import CmlError, CmlJobRunError, CmlUnavailableError
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.compat import first_poke
from airflow_provider_cml.durations import TEN_YEARS
from airflow_provider_cml.failures import (
    CmlSensorTimeout,
    CmlTaskError,
    CmlTaskFailError,
    CmlTimeoutError,
    failure,
    failure_of,
    read_event,
    still,
    with_facts,
)
from airflow_provider_cml.hooks.task import CmlTaskHook
from airflow_provider_cml.outlets import run_facts, tell_outlets
from airflow_provider_cml.reasons import explained
from airflow_provider_cml.sensors.target import connect, find_target, jobs_link
from airflow_provider_cml.sensors.verdict import verdict_on
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger

if TYPE_CHECKING:
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.compat import Context
    from airflow_provider_cml.sensors.cml import CmlJobRunSensor


class JobRunWatch:
    """One sensor's view of the run that is meant.

    :param task: the sensor, with what the DAG author wants.
    """

    def __init__(self, task: CmlJobRunSensor) -> None:
        self.task = task
        self.limit = task.execution_timeout
        """As the DAG author gave it; the task's own grows where Airflow has to count anew."""
        self._hook: CmlTaskHook | None = None
        self._target: Target | None = None
        self._said = ""
        self._run: JobRun | None = None
        self._began: float | None = None

    def look(self, context: Context) -> str | None:
        """One look; the run's id if it succeeded, None if it goes on, otherwise the task's error."""
        if self._began is None:
            self._began = time.time()
        run = self._look(context)
        if run is None or not run.status.is_over:
            return None
        return self._end(context, Outcome(Ending.OVER, run), self._watched())

    def sleep(self, context: Context) -> str:
        """Look once, so that a run that is over never defers; then let the triggerer wait."""
        task = self.task
        deadline = events.moment_after(self._seconds)
        found = self.look(context)
        if found is not None:
            return found
        target = self._find_target()
        task.defer(
            trigger=CmlJobRunTrigger(
                task.cml_conn_id,
                self._watched(deadline).to_json(),
                poll_interval=task.poke_interval if task.poll_interval is None else task.poll_interval,
                run_key=target.run_key,
                since=target.since.isoformat() if target.since else None,
                looked_at=target.looked_at.isoformat() if target.looked_at else None,
            ),
            method_name="execute_complete",
            timeout=events.backstop(self._seconds),
        )
        message = "Airflow went on after a deferral."
        raise AssertionError(message)

    def wake(self, context: Context, event: dict[str, Any]) -> str:
        """What the triggerer saw: the run's id, or the task's error."""
        outcome, watched = read_event(event)
        # Not read before it is needed: how the run ended is known, whatever has become of the connection.
        self._hook = CmlTaskHook(self.task.cml_conn_id)
        return self._end(context, outcome, watched)

    def judge(self, error: BaseException) -> None:
        """Raise what the task ends in, where that differs from what Airflow's base class makes of it."""
        verdict = verdict_on(self.task, error, self._time_over)
        if verdict is not error:
            raise verdict from verdict.__cause__

    def _look(self, context: Context) -> JobRun | None:
        try:
            run = self._see(context)
        except CmlJobRunError as error:
            outcome = outcome_of(error)
            raise self._time_over() if outcome.ending is Ending.TIMED_OUT else self._error(outcome) from error
        except CmlError as error:
            if isinstance(error, CmlUnavailableError) and self._left(context) <= 0:
                raise self._time_over(message=str(error)) from error
            raise failure_of(error) from error
        self._say(f"There is not {self._find_target()} yet." if run is None else f"Run {run.id} is {run.word}.")
        return run

    def _see(self, context: Context) -> JobRun | None:
        """The run as it is now.

        A status nobody knows is seen to its end or its bound on the spot, in this process: a sensor that is rescheduled
        could not tell how long it has lasted.
        """
        hook, target = self._connect(), self._find_target(context)
        run = self._run = hook.look_at_job_run(target)
        if run is not None:
            # Looked for again it might not be found: CML enters each refused start above it.
            self._target = Target(target.ids, run.id)
        if run is None or run.status is not JobRunStatus.UNKNOWN or self.task.deferrable:
            return run
        self._say(f"Run {run.id} is {run.word!r}, a status nobody knows.")
        gap = self.task.poke_interval
        pace = Pace(gap, self._left(context), age=gap / AGE_SHARE, first_gap=gap)
        run = self._run = hook.wait_until_clear(target.ids, run.id, pace)
        return run

    def _say(self, text: str) -> None:
        if text != self._said:
            self.task.log.info(text)
            self._said = text

    def _left(self, context: Context) -> float:
        """Seconds until Airflow's own clock calls the sensor's time over."""
        first = first_poke(context) if self.task.reschedule else None
        began = first.timestamp() if first else self._began or time.time()
        return began + self.task.timeout - time.time()

    @property
    def _seconds(self) -> float:
        """How long a deferred sensor sleeps at most. Airflow 3 does not watch execution_timeout meanwhile."""
        limit = self.limit.total_seconds() if self.limit else TEN_YEARS
        return min(self.task.timeout, limit, TEN_YEARS)

    def _end(self, context: Context, outcome: Outcome, watched: events.Watched) -> str:
        try:
            return self._conclude(context, outcome, watched)
        except (CmlTaskError, CmlTaskFailError) as error:
            if self.task.explain_failure:
                explained(error, self.task, self._connect(), outcome)
            raise

    def _conclude(self, context: Context, outcome: Outcome, watched: events.Watched) -> str:
        self._run = outcome.run
        if outcome.ending is Ending.TIMED_OUT:
            raise self._time_over(watched, outcome.message)
        if failure(outcome, watched) is not None:
            raise self._error(outcome, watched)
        if outcome.run is None:
            return watched.run_id
        tell_outlets(self.task, context, run_facts(watched, outcome.run))
        return outcome.run.id

    def _error(self, outcome: Outcome, watched: events.Watched | None = None) -> Exception:
        """The error a wait ended in, with a link where there is a run to look at."""
        watched = self._located(outcome.run, watched or self._watched())
        return failure(outcome, watched) or AssertionError("a run that succeeded is no error")

    def _time_over(
        self, watched: events.Watched | None = None, message: str = "", *, struck: bool | None = None
    ) -> CmlTimeoutError | CmlSensorTimeout:
        """The error where the run was not over in time, the same in every mode.

        :param struck: whether it was Airflow's execution_timeout; None where nobody knows which clock it was.
        """
        if struck is None:
            limited = self.limit is not None and self.limit.total_seconds() < self.task.timeout
            struck = self.task.deferrable and limited
        watched = watched or (events.Watched("", "") if self._target is None else self._watched())
        run = self._run
        watched = self._located(run, watched)
        where = f" Look at it in CML: {watched.run_url}" if watched.run_url else ""
        limit = "execution_timeout struck" if struck else f"the sensor's timeout of {self.task.timeout:g} s was over"
        if run is not None:
            text = f"{still(run, watched, f'when {limit}')}{where}"
        else:
            message = message or (missing(self._target) if self._target else "")
            text = f"{message} {limit[0].upper()}{limit[1:]}.{where}".strip()
        error = (CmlTimeoutError if struck else CmlSensorTimeout)(text)
        return with_facts(error, watched, Outcome(Ending.TIMED_OUT, run))

    def _located(self, run: JobRun | None, watched: events.Watched) -> events.Watched:
        """What is known of a run, with a link where there is one."""
        return watched if run is None else replace(watched, run_url=jobs_link(self._connect(), watched.project_id))

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
        target = self._find_target()
        return events.Watched(target.ids.project_id, target.ids.job_id, run_id=target.run_id or "", deadline=deadline)
