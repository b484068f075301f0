"""Which run a sensor means, and in which workspace it is.

The law: exactly one of `run_id`, `run_key` and `since` tells it; what cannot be meant is refused before CML is asked.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_cml.api.conversations.watching import Target
from airflow_provider_cml.api.errors import CmlInputError
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.compat import AirflowTaskTimeout, first_poke
from airflow_provider_cml.durations import check_seconds
from airflow_provider_cml.hooks.task import CmlTaskHook
from airflow_provider_cml.sensors.since import moment_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.compat import Context
    from airflow_provider_cml.sensors.cml import CmlJobRunSensor


def connect(conn_id: str) -> CmlTaskHook:
    """The hook to a workspace that shows its runs.

    :raises CmlInputError: the connection is for API v1.
    """
    hook = CmlTaskHook(conn_id)
    if hook.is_v1:
        message = (
            f"cml_conn_id: connection {conn_id!r} is for API v1, which shows no runs. Give the "
            f"sensor a connection for API v2; it finds a run that v1 started by its run_key."
        )
        raise CmlInputError(message)
    return hook


def jobs_link(hook: CmlTaskHook, project_id: str) -> str:
    """To the project's jobs. Whatever becomes of the question, the connection gone included, loses only the link."""
    try:
        return hook.jobs_url(project_id)
    except (Exception, AirflowTaskTimeout):  # noqa: BLE001 - see above
        return ""


def find_target(task: CmlJobRunSensor, hook: Callable[[], CmlTaskHook], context: Context | None) -> Target:
    """The run a sensor means, its job by ids.

    Asked for the newest since a moment, a sensor keeps to the answer of its first look, wherever it goes on: a run that
    comes later is another one's business. For one that is rescheduled Airflow knows when that look was.
    """
    if task.poll_interval is not None:
        check_seconds("poll_interval", task.poll_interval)
    given = [name for name in ("run_id", "run_key", "since") if getattr(task, name) not in (None, "")]
    if len(given) != 1:
        message = f"run_id, run_key, since: give exactly one of them, not {' and '.join(given) or 'none'}."
        raise CmlInputError(message)
    run_id = _run_id(task.run_id) if given == ["run_id"] else None
    run_key = _run_key(task.run_key) if given == ["run_key"] else None
    since = moment_of(task.since) if given == ["since"] else None
    ids = hook().find_job_ids(str(task.project), str(task.job))
    if since is None:
        return Target(ids, run_id, run_key)
    looked_at = first_poke(context) if task.reschedule and context is not None else None
    return Target(ids, since=since, looked_at=looked_at or datetime.now(UTC))


def _run_id(given: object) -> str:
    """A run's id. A DAG that renders natively makes a number of one that consists of digits."""
    text = str(given).strip()
    if isinstance(given, bool) or not isinstance(given, str | int) or text in ("", "None"):
        message = f"run_id: {given!r} is no run's id; it must be what the task that started it returned."
        raise CmlInputError(message)
    return text


def _run_key(given: object) -> str:
    """A run key. A text that is none is never found: the sensor would wait until its time is over."""
    text = given.strip() if isinstance(given, str) else None
    if text is None or RunKey.parse(text) is None:
        message = f"run_key: {given!r} is no run key; it must be the XCom run_key of the task that started the run."
        raise CmlInputError(message)
    return text
