"""What the running task tells about itself: its run key, the variables every run is given, and its XComs.

The law: facts from Airflow's database only. The key's meaning is `api.run_key`'s; here it is only filled in.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_cml.api.environment import as_text
from airflow_provider_cml.api.errors import CmlInputError
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.compat import airflow_base_url, conf, context_to_airflow_vars, mask_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_UNSENT = frozenset({"AIRFLOW_CTX_DAG_EMAIL", "AIRFLOW_CTX_DAG_OWNER"})
"""Facts about people, which a run in another system has no need of."""

_PROCESS = uuid.uuid4().hex[:8]
"""Tells two processes apart where the dag run's start date does not."""


def deployment() -> tuple[str, bool]:
    """The name of this Airflow in every key, and whether it was set.

    It is `[cml] deployment`, else the host of Airflow's base URL, else `localhost`.
    """
    name = (conf.get("cml", "deployment", fallback="") or "").strip()
    return name or _base_host(), bool(name)


def run_key(context: Mapping[str, Any]) -> RunKey:
    """The key of this try.

    `dag_run.start_date` tells a dag run that was deleted and made again from its forerunner. Under `dags test` it
    equals the logical date (2.11 and 3.x), which the next test run shares; there each process is a dag run of its own.
    """
    ti, dag_run, task = context["ti"], context["dag_run"], context["task"]
    start = dag_run.start_date
    name, is_configured = deployment()
    loop_index, region = _iteration(context)
    dates = (getattr(dag_run, "logical_date", None), getattr(dag_run, "run_after", None))
    return RunKey(
        deployment=name,
        is_configured=is_configured,
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        loop_index=loop_index,
        region=region,
        start=_microseconds(start) if start else 0,
        max_tries=ti.max_tries,
        retries=task.retries or 0,
        try_number=ti.try_number,
        nonce=_PROCESS if start is None or start in dates else "",
        clear_number=getattr(dag_run, "clear_number", None),
    )


def _iteration(context: Mapping[str, Any]) -> tuple[int, str]:
    """Index and region of the iteration in a looped task group (Airflow 3.4); -1 and "" outside of loops.

    All iterations share every other fact of the task instance, their start date and number of tries among them. The
    region's id is cut to its random end. Not `ti.region_index`: of a task that is mapped it is the map index.
    """
    loop = context.get("loop")
    return (-1, "") if loop is None else (loop.index, context["ti"].region_id.hex[-12:])


def push(context: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Tell XCom."""
    for name, value in values.items():
        context["ti"].xcom_push(key=name, value=value)


def pulled(context: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """What this try itself has told XCom under these names; "" for what it has not."""
    ti = context["ti"]
    index = -1 if ti.map_index is None else ti.map_index
    return [str(ti.xcom_pull(task_ids=ti.task_id, key=name, map_indexes=index) or "") for name in names]


def line_date(context: Mapping[str, Any]) -> str:
    """The date by which tasks stand in line before a busy job: the logical date, or when the run was due, in UTC."""
    dag_run = context["dag_run"]
    date = getattr(dag_run, "logical_date", None) or getattr(dag_run, "run_after", None) or dag_run.start_date
    return "" if date is None else date.astimezone(UTC).isoformat(timespec="microseconds")


def run_variables(context: Mapping[str, Any], environment: object, private_environment: object) -> dict[str, str]:
    """What a run is given, but for its key: Airflow's standard AIRFLOW_CTX_* variables and those of the DAG author.

    The e-mail and owner of the DAG stay here. Private values are made known to Airflow's masker, which blots them out
    of every log; it ignores values of fewer than five characters.

    :param environment: {name: value}, rendered.
    :param private_environment: {name: value}, rendered.
    :raises CmlInputError: a name or value cannot be used, or a name is given twice.
    """
    private = as_text(private_environment, "private_environment")
    for value in private.values():
        mask_secret(value)
    public = as_text(environment)
    twice = sorted(set(public) & set(private))
    if twice:
        message = f"private_environment: {', '.join(twice)} is in environment too; give it once."
        raise CmlInputError(message)
    found = context_to_airflow_vars(context, in_env_var_format=True)
    return {**{name: value for name, value in found.items() if name not in _UNSENT}, **public, **private}


def _microseconds(moment: datetime) -> int:
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


def _base_host() -> str:
    parts = urlsplit(airflow_base_url())
    return (parts.netloc + parts.path).strip("/") or "localhost"
