"""What a sensor ends in, whatever Airflow's base class has made of an error in this mode and on this version.

The law: `soft_fail` skips where time is over or the run ended badly, and nowhere else; `never_fail` skips everything.
Airflow's base class decides these differently by mode and version, so what it has decided is decided once more here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferralError,
    TaskDeferralTimeout,
)
from airflow_provider_cml.failures import (
    TRIGGER_FAILURE,
    CmlRunFailedError,
    CmlRunSkippedError,
    CmlRunStoppedError,
    CmlSensorTimeout,
    CmlTaskError,
    CmlTaskFailError,
    CmlTimeoutError,
    CmlUnansweredError,
)

if TYPE_CHECKING:
    from typing import Protocol

    from airflow_provider_cml.sensors.cml import CmlJobRunSensor

    class TimeOver(Protocol):
        """Makes the error of a sensor whose time is over; see `JobRunWatch`."""

        def __call__(self, *, message: str = "", struck: bool | None = None) -> CmlTimeoutError | CmlSensorTimeout:
            """With words where there are any, and whether it was Airflow's execution_timeout."""


_SOFT = (AirflowSensorTimeout, CmlTimeoutError, CmlRunFailedError, CmlRunStoppedError, CmlRunSkippedError)
"""What `soft_fail` turns into a skip."""
_ENDINGS = (
    AirflowSkipException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    CmlTaskError,
    CmlTaskFailError,
    TaskDeferralError,
    TaskDeferralTimeout,
)
"""What a sensor ends in, when it does not end well."""


def verdict_on(task: CmlJobRunSensor, error: BaseException, time_over: TimeOver) -> BaseException:
    """The error a sensor ends in; `error` itself where Airflow is right, or where it is nothing of ours."""
    if not isinstance(error, _ENDINGS):
        return error
    cause: BaseException = error
    if isinstance(error, AirflowSkipException):
        if error.__cause__ is None and not task.soft_fail:
            return error
        # Airflow's own skip has a cause, except for the one that says that a soft sensor's time is over.
        cause = error.__cause__ or AirflowSensorTimeout(str(error))
    if isinstance(cause, TaskDeferralError | TaskDeferralTimeout) or isinstance(cause.__cause__, TaskDeferralTimeout):
        cause = _without_event(task, cause, time_over)
    elif isinstance(cause, AirflowTaskTimeout):
        cause = time_over(struck=True)
    elif isinstance(cause, AirflowSensorTimeout) and not isinstance(cause, CmlSensorTimeout):
        cause = time_over()
    if not (task.never_fail or (task.soft_fail and isinstance(cause, _SOFT))):
        return cause
    skip = AirflowSkipException(f"Skipped, because {'soft' if task.soft_fail else 'never'}_fail is set. {cause}")
    skip.__cause__ = cause
    return skip


def _without_event(task: CmlJobRunSensor, reported: BaseException, time_over: TimeOver) -> BaseException:
    """Airflow woke the sensor without an event: its triggerer is late, or could not run the trigger."""
    if str(reported) == TRIGGER_FAILURE:
        return CmlUnansweredError(f"The triggerer could not run the wait ({reported}); see its log.")
    meant = task.run_id or task.run_key or f"a run since {task.since}"
    return time_over(message=f"The triggerer that watched {meant} did not report in time ({reported}).")
