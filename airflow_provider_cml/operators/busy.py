"""What a task does while it cannot start its run: wait in the triggerer, or end as `on_busy` says.

A job that was busy for too long is an ending of its own; no run is started, stopped or adopted here.
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
    from airflow_provider_cml.api.conversations.start import Busy, Postponed
    from airflow_provider_cml.events import Watched
    from airflow_provider_cml.failures import CmlTaskError, CmlTaskFailError
    from airflow_provider_cml.operators.attempt import JobRunAttempt


def postpone(attempt: JobRunAttempt, postponed: Postponed) -> NoReturn:
    """Wait in the triggerer: in line for the job, or for time to pass."""
    task = attempt.task
    watched = attempt.watched.with_progress(postponed.progress)
    deadline = watched.free_deadline if postponed.for_job else watched.deadline
    left = events.seconds_to(deadline)
    if left == 0:
        raise too_long_busy(watched, f"Job {task.job} of project {task.project}: {postponed.reason}.")
    if postponed.for_job:
        task.log.info("Waiting in the triggerer until the job is free: %s.", postponed.reason)
    else:
        task.log.info("Waiting in the triggerer for %.0f s: %s.", postponed.seconds, postponed.reason)
    ti = attempt.context["ti"]
    task.defer(
        trigger=CmlJobFreeTrigger(
            task.cml_conn_id,
            replace(watched, waited=attempt.waited).to_json(),
            task.poll_interval,
            date=line_date(attempt.context),
            map_index=attempt.key.map_index,
            name=f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{attempt.key.loop_index}{attempt.key.region}",
            gap=postponed.seconds,
            only_gap=not postponed.for_job,
        ),
        method_name="execute_when_free",
        timeout=events.backstop(left),
    )


def fail_busy(attempt: JobRunAttempt, busy: Busy) -> NoReturn:
    """End the task because its job takes no start now."""
    task, watched = attempt.task, attempt.watched
    message = f"Job {task.job} of project {task.project} is busy: {busy.reason}."
    if task.on_busy == "skip":
        raise AirflowSkipException(message)
    if task.on_busy == "wait":
        raise too_long_busy(watched, message)
    raise with_facts(CmlJobBusyFailError(message), watched)


def too_long_busy(watched: Watched, message: str) -> CmlTaskError | CmlTaskFailError:
    """The error where the job was busy until a deadline: of the wait for it, or of the whole try."""
    if watched.deadline is not None and (
        watched.free_deadline == watched.deadline or events.seconds_to(watched.deadline) == 0
    ):
        return with_facts(
            CmlTimeoutError(f"The time of this try was over before a run was started. {message}"), watched
        )
    return with_facts(CmlJobBusyFailError(f"{message} (busy_timeout)"), watched)
