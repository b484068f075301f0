"""What a task does while its job is busy: stand in line in the triggerer, or end as its author said.

The law: a job that was busy for too long is an ending of its own; no run is started, stopped or adopted here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from airflow_provider_cml import events
from airflow_provider_cml.compat import AirflowSkipException
from airflow_provider_cml.failures import CmlJobBusyFailError, CmlTimeoutError, with_facts
from airflow_provider_cml.task_context import line_date
from airflow_provider_cml.triggers.cml import CmlJobFreeTrigger

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.start import Busy
    from airflow_provider_cml.events import Watched
    from airflow_provider_cml.failures import CmlTaskError, CmlTaskFailError
    from airflow_provider_cml.operators.attempt import JobRunAttempt


def stay_away(attempt: JobRunAttempt, busy: Busy) -> NoReturn:
    """The job takes no start now: go to sleep until it may, or end the task."""
    task, watched = attempt.task, attempt.watched
    left = events.seconds_to(watched.free_deadline)
    if task.deferrable and task.on_busy == "wait" and left != 0:
        task.log.info("Waiting in the triggerer: %s.", busy.reason)
        ti = attempt.context["ti"]
        task.defer(
            trigger=CmlJobFreeTrigger(
                task.cml_conn_id,
                replace(watched, refusals=busy.refusals, waited=attempt.waited).to_json(),
                task.poll_interval,
                date=line_date(attempt.context),
                map_index=attempt.key.map_index,
                name=f"{ti.dag_id}/{ti.run_id}/{ti.task_id}",
                gap=busy.gap,
            ),
            method_name="execute_when_free",
            timeout=events.backstop(left),
        )
    message = f"Job {task.job} of project {task.project} is busy: {busy.reason}."
    if task.on_busy == "skip":
        raise AirflowSkipException(message)
    if task.on_busy == "wait":
        raise too_long_busy(watched, message)
    raise with_facts(CmlJobBusyFailError(message), watched)


def too_long_busy(watched: Watched, message: str) -> CmlTaskError | CmlTaskFailError:
    """The error where the job was busy until a deadline: of the wait for it, or of the whole try."""
    if watched.deadline is not None and watched.free_deadline == watched.deadline:
        return with_facts(
            CmlTimeoutError(f"The time of this try was over before a run was started. {message}"), watched
        )
    return with_facts(CmlJobBusyFailError(f"{message} (busy_timeout)"), watched)
