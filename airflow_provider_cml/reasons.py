"""The reason CML gives for the end of a run, where it gives one, in the error of the task and in its log.

The law: the run has ended as it has. Whatever becomes of the question, an error of any kind included, the task ends as
it would have without it; a reason is only ever more text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from airflow_provider_cml.api.conversations.watching import Ending
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.compat import AirflowTaskTimeout
from airflow_provider_cml.failures import CmlTaskError, CmlTaskFailError

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.watching import Outcome
    from airflow_provider_cml.api.models import JobRun, Usage
    from airflow_provider_cml.compat import BaseOperator
    from airflow_provider_cml.hooks.task import CmlTaskHook

LENGTH = 200
"""Characters of CML's message that are told."""
_MEMORY = "out of memory"

_Failure = TypeVar("_Failure", bound=CmlTaskError | CmlTaskFailError)


def explained(error: _Failure, task: BaseOperator, hook: CmlTaskHook, outcome: Outcome) -> _Failure:
    """The error, with CML's reason in its text and its `reason`, where the run ended badly and CML has one.

    A skipped run never ran, and one that was stopped because its time was over needs no reason: neither is asked for.
    """
    run = outcome.run
    if outcome.ending is not Ending.OVER or run is None or run.status is JobRunStatus.SKIPPED:
        return error
    usage = _usage(task, hook, run)
    reason = _reason(usage) if usage else ""
    if usage and reason:
        link = f" {usage.url}" if usage.url.startswith(("https://", "http://")) and len(usage.url) <= LENGTH else ""
        error.reason = reason
        error.args = (f"{error} CML's list of workloads gives as the reason: {reason}.{link}",)
    return error


def _usage(task: BaseOperator, hook: CmlTaskHook, run: JobRun) -> Usage | None:
    try:
        return hook.find_usage(run)
    except (Exception, AirflowTaskTimeout) as error:  # noqa: BLE001 - see the law
        task.log.info("CML was asked for the reason of the end of run %s, without success: %s", run.id, error)
        return None


def _reason(usage: Usage) -> str:
    message = _message(usage)
    if not usage.oom_killed:
        return message
    return f"{_MEMORY} ({message})" if message else _MEMORY


def _message(usage: Usage) -> str:
    text = " ".join(usage.message.split())
    return (text if len(text) <= LENGTH else f"{text[:LENGTH]}...").rstrip(".")
