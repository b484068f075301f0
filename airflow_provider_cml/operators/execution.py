"""What `CmlRunJobOperator` does when its turn comes. Loaded only then: no DAG file needs the API to be read.

The law: whatever depends on rendered templates happens here, and nothing is sent before all of it has been looked at.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.start import Busy
from airflow_provider_cml.api.conversations.starting_v1 import LegacyStart
from airflow_provider_cml.api.conversations.watching import Ending
from airflow_provider_cml.api.environment import literal_names
from airflow_provider_cml.api.errors import CmlError, CmlInputError
from airflow_provider_cml.compat import AirflowSkipException, TaskDeferralTimeout, is_mapped
from airflow_provider_cml.durations import check_seconds
from airflow_provider_cml.failures import TRIGGER_FAILURE, CmlJobBusyFailError, failure, failure_of, read_event
from airflow_provider_cml.hooks.task import CmlTaskHook
from airflow_provider_cml.legacy import check_legacy, legacy_key, split_project, start_through_v1
from airflow_provider_cml.links.cml import RUN_URL
from airflow_provider_cml.operators.attempt import JobRunAttempt
from airflow_provider_cml.operators.busy import too_long_busy
from airflow_provider_cml.operators.deadline import overslept, unwatched
from airflow_provider_cml.operators.variables import given_variables
from airflow_provider_cml.outlets import tell_outlets
from airflow_provider_cml.task_context import pulled, push, run_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.run_key import RunKey
    from airflow_provider_cml.compat import Context
    from airflow_provider_cml.operators.cml import CmlRunJobOperator

ON_BUSY = ("wait", "fail", "skip")
TOLD = ("project_id", "job_id", "return_value", "run_key", "run_url")
"""XComs that tell which run a task has."""


def begin(task: CmlRunJobOperator, context: Context) -> str:
    """Start the run and wait for it; returns its id."""
    key = run_key(context)
    try:
        _check(task)
        seconds = task.execution_timeout.total_seconds() if task.execution_timeout else None
        watched = events.Watched(
            "",
            "",
            # Airflow 3 does not watch execution_timeout while a task is deferred, so the wait does.
            deadline=events.moment_after(seconds if task.deferrable else None),
            busy_deadline=events.moment_after(task.busy_timeout),
        )
        _warn_of_literals(task)
        variables = given_variables(task, context)
        hook = CmlTaskHook(task.cml_conn_id)
        # From here on a kill has somebody to tell.
        task.attempt = JobRunAttempt(task, context, hook, watched)
        if hook.is_v1:
            return _start_v1(task, context, hook, key, variables)
        ids = hook.find_task_job(str(task.project), str(task.job))
    except CmlError as error:
        raise failure_of(error) from error
    task.attempt.watched = replace(watched, project_id=ids.project_id, job_id=ids.job_id)
    task.attempt.has_connected = ids != JobIds(str(task.project), str(task.job))  # ids cost no request
    return task.attempt.run(variables)


def go_on(task: CmlRunJobOperator, context: Context, event: dict[str, Any]) -> str:
    """Go on when the triggerer says how the run ended."""
    outcome, watched = read_event(event)
    task.attempt = JobRunAttempt(task, context, CmlTaskHook(task.cml_conn_id), watched)
    return task.attempt.go_on(outcome)


def go_on_when_free(task: CmlRunJobOperator, context: Context, event: dict[str, Any]) -> str:
    """Play the whole turn again when the triggerer says that the job is free."""
    outcome, watched = read_event(event)
    if outcome.ending is Ending.TIMED_OUT:
        raise too_long_busy(watched, outcome.message)
    error = None if outcome.ending is Ending.FREE else failure(outcome, watched)
    if error is not None:
        raise error
    task.attempt = JobRunAttempt(task, context, CmlTaskHook(task.cml_conn_id), watched)
    return task.attempt.run_anew()


def go_on_without_event(task: CmlRunJobOperator, context: Context, reported: Exception) -> str:
    """Airflow woke the task without an event: its triggerer is late, or could not run the trigger."""
    project_id, job_id, run_id, key, run_url = pulled(context, TOLD)
    watched = events.Watched(project_id, job_id, run_id, key, run_url, began=time.time())
    task.attempt = JobRunAttempt(task, context, CmlTaskHook(task.cml_conn_id), watched)
    # 2.11 has one error for both, and tells them apart in words.
    if isinstance(reported, TaskDeferralTimeout) and str(reported) != TRIGGER_FAILURE:
        return overslept(task.attempt, reported)
    raise unwatched(task.attempt, reported) from reported


def _start_v1(
    task: CmlRunJobOperator, context: Context, hook: CmlTaskHook, key: RunKey, variables: Mapping[str, str]
) -> str:
    check_legacy(task.cml_conn_id, task.arguments, wait_for_completion=task.wait_for_completion)
    push(context, {"run_key": str(legacy_key(key))})
    owner, slug = split_project(str(task.project))
    start = LegacyStart(owner, slug, str(task.job), variables, task.on_busy == "wait", task.busy_timeout)
    engine_id = start_through_v1(hook, start, key, durable=task.durable)
    if isinstance(engine_id, Busy):
        message = f"Job {task.job} of project {task.project} is busy: {engine_id.reason}."
        raise AirflowSkipException(message) if task.on_busy == "skip" else CmlJobBusyFailError(message)
    run_url = f"{hook.endpoint.base_url}/{task.project}/jobs/{task.job}"
    push(context, {"return_value": engine_id, RUN_URL: run_url})
    tell_outlets(task, context, {"engine_id": engine_id, "run_url": run_url, "run_key": str(legacy_key(key))})
    task.log.info("Started job %s through API v1: engine %s. %s", task.job, engine_id, run_url)
    return engine_id


def _warn_of_literals(task: CmlRunJobOperator) -> None:
    """What `.partial()`, `.expand()` and a DAG's `default_args` are given, Airflow keeps in its database as it is."""
    names = set(literal_names(task.private_environment)) if is_mapped(task) else set()
    dag = task.get_dag()
    if dag is not None:
        names |= set(literal_names((dag.default_args or {}).get("private_environment")))
    if names:
        task.log.warning(
            "private_environment: the values of %s stand in clear in Airflow's database, because it keeps what "
            ".partial(), .expand() and a DAG's default_args are given. Give templates instead, such as "
            "{{ conn.warehouse.password }}.",
            ", ".join(sorted(names)),
        )


def _check(task: CmlRunJobOperator) -> None:
    if task.on_busy not in ON_BUSY:
        message = f"on_busy: {task.on_busy!r} is none of {', '.join(ON_BUSY)}."
        raise CmlInputError(message)
    for name in ("poll_interval", "timeout", "busy_timeout"):
        seconds = getattr(task, name)
        if seconds is not None or name == "poll_interval":
            check_seconds(name, seconds)
    if task.arguments is not None and not isinstance(task.arguments, str):
        message = f"arguments: must be one string, not {type(task.arguments).__name__}."
        raise CmlInputError(message)
