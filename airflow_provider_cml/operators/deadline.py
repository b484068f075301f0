"""What becomes of a run when the time of its try is over: it is stopped, and the task's error says what came of it.

The law: a stop is confirmed by looking. Whoever could not confirm it says that the run may still be active, and where
to look; and a run that has succeeded meanwhile is a success.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_cml.api.conversations.watching import Ending, Outcome
from airflow_provider_cml.api.errors import CmlError, CmlInterruptedError
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.events import run_times
from airflow_provider_cml.failures import CmlTimeoutError, CmlUnansweredError, failure_of, still, with_facts
from airflow_provider_cml.outlets import run_facts, tell_outlets
from airflow_provider_cml.task_context import push

if TYPE_CHECKING:
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.run_key import RunKey
    from airflow_provider_cml.compat import AirflowTaskTimeout
    from airflow_provider_cml.failures import CmlTaskError
    from airflow_provider_cml.operators.attempt import JobRunAttempt


def end_run(attempt: JobRunAttempt, run: JobRun | None, when: str) -> tuple[JobRun | None, CmlTaskError | None]:
    """Stop the run of a try whose time is over: the run as it then is, and the task's error; none if it succeeded.

    :param run: as last seen; None if this process has not seen it yet.
    :param when: what struck, in words.
    """
    hook, watched = attempt.hook, attempt.watched
    why = ""
    after: JobRun | None = None
    try:
        run = run or hook.get_job_run(watched.project_id, watched.job_id, watched.run_id)
        after = hook.stop_and_confirm(watched.ids, watched.run_id)
    except CmlInterruptedError as error:
        raise with_facts(failure_of(error), watched, Outcome(Ending.TIMED_OUT, run)) from error
    except Exception as error:  # noqa: BLE001 - Airflow's too: in a task that was woken the connection may be gone
        why = f" {error}"
    came = _what_came(after) + why
    attempt.task.log.info("Run %s: %s", watched.run_id, came)
    if after is not None:
        push(attempt.context, {"status": str(after.status), **run_times(after)})
        if after.status.is_success:
            return after, None
    failed = CmlTimeoutError(f"{still(run, watched, when)} {came} Look at it in CML: {_where(attempt)}")
    return after or run, with_facts(failed, watched, Outcome(Ending.TIMED_OUT, run))


def out_of_time(attempt: JobRunAttempt, struck: AirflowTaskTimeout) -> str:
    """Airflow's execution_timeout struck while the task was at work in its worker: the same as `timeout`."""
    key = attempt.last_key()
    if not attempt.watched.run_id and key is not None:
        _find_sent(attempt, key)
    if attempt.watched.run_id:
        run, error = end_run(attempt, None, "when execution_timeout struck")
        if error is not None:
            raise error from struck
        if run is not None:
            tell_outlets(attempt.task, attempt.context, run_facts(attempt.watched, run))
        return attempt.watched.run_id
    if key is None:
        message = "execution_timeout struck before a run was started."
    else:
        message = (
            f"execution_timeout struck while the answer to a start was out. A run may exist: look in CML for a run "
            f"with {RUN_KEY_VARIABLE}={key}"
        )
    raise with_facts(CmlTimeoutError(message), attempt.watched) from struck


def overslept(attempt: JobRunAttempt, reported: Exception) -> str:
    """Airflow woke the task because its triggerer did not report in time: the run is stopped all the same.

    It gives no event then, so what is known of the run comes from XCom.
    """
    watched = attempt.watched
    if not watched.run_id:
        message = (
            f"The triggerer did not report in time ({reported}). The task was waiting for its job to be free; it knows "
            f"of no run of its own."
        )
        raise with_facts(CmlTimeoutError(message), watched) from reported
    run, error = end_run(attempt, None, f"when the triggerer had not reported in time ({reported})")
    if error is not None:
        raise error from reported
    if run is not None:
        tell_outlets(attempt.task, attempt.context, run_facts(attempt.watched, run))
    return attempt.watched.run_id


def unwatched(attempt: JobRunAttempt, reported: Exception) -> CmlTaskError:
    """The error where the triggerer could not even run the trigger."""
    name = f"Run {attempt.watched.run_id}" if attempt.watched.run_id else "The job"
    return with_facts(
        CmlUnansweredError(
            f"{name} could not be watched: the triggerer could not run the wait ({reported}). Is this package "
            f"installed there, in this version? Nothing was stopped; a retry finds the run, if there is one."
        ),
        attempt.watched,
    )


def _find_sent(attempt: JobRunAttempt, key: RunKey) -> None:
    """One look for the run of a start whose answer is out."""
    try:
        run = attempt.hook.look_by_key(attempt.watched.ids, key)
    except CmlError as error:
        attempt.task.log.warning("Could not look for the run of the start that is out: %s", error)
        return
    if run is not None:
        attempt.watched = replace(attempt.watched, run_id=run.id, run_key=str(key))
        push(attempt.context, {"return_value": run.id, "run_key": str(key)})


def _where(attempt: JobRunAttempt) -> str:
    """The link to the run; or, where it is missing, as much of the way as is known."""
    if attempt.watched.run_url:
        return attempt.watched.run_url
    try:
        workspace = f"{attempt.hook.endpoint.base_url}, "
    except Exception:  # noqa: BLE001 - see end_run
        workspace = ""
    return f"{workspace}project {attempt.watched.project_id}"


def _what_came(after: JobRun | None) -> str:
    if after is None:
        return "It could not be stopped and may still be active in CML."
    if after.status is JobRunStatus.STOPPED:
        return "It was stopped."
    if after.status.is_over:
        return f"It is over: {after.status}."
    return f"It was asked to stop, is {after.status}, and may still be active in CML."
