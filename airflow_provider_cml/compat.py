"""The only module that knows Airflow versions: each name once, from where 2.11 to 3.3 keep it.

The law: the newest place is tried first, so that no supported version warns; nothing here has behaviour of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator
    from airflow.sdk import Connection as Connection  # noqa: PLC0414 - said to mypy: for others, as a type
    from airflow.sdk import Context as Context  # noqa: PLC0414
    from airflow.sdk.bases.sensor import PokeReturnValue
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralError,
        TaskDeferralTimeout,
    )
    from airflow.sdk.execution_time.context import context_to_airflow_vars
    from airflow.sdk.log import mask_secret as tell_masker
    from airflow.sdk.types import TaskInstanceKey as TaskInstanceKey  # noqa: PLC0414
    from airflow.triggers.base import BaseEventTrigger as BaseEventTrigger  # noqa: PLC0414
else:
    from airflow.exceptions import AirflowException, AirflowNotFoundException

    try:  # 3.0+
        from airflow.sdk import BaseOperator, BaseOperatorLink, BaseSensorOperator
        from airflow.sdk.bases.sensor import PokeReturnValue
        from airflow.sdk.execution_time.context import context_to_airflow_vars
        from airflow.sdk.log import mask_secret as tell_masker
    except ImportError:
        from airflow.models.baseoperator import BaseOperator
        from airflow.models.baseoperatorlink import BaseOperatorLink
        from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
        from airflow.utils.log.secrets_masker import mask_secret as tell_masker
        from airflow.utils.operator_helpers import context_to_airflow_vars
    try:  # 3.1+
        from airflow.sdk import BaseHook
    except ImportError:
        from airflow.hooks.base import BaseHook
    try:  # 3.2+
        from airflow.sdk.exceptions import (
            AirflowFailException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
            TaskDeferralError,
            TaskDeferralTimeout,
        )
    except ImportError:
        from airflow.exceptions import (
            AirflowFailException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
            TaskDeferralError,
        )

        try:  # 3.0+
            from airflow.exceptions import TaskDeferralTimeout
        except ImportError:
            # 2.11 raises one error for both; our triggers never raise, so there it means that time is over.
            from airflow.exceptions import TaskDeferralError as TaskDeferralTimeout

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "PokeReturnValue",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "aget_connection",
    "airflow_base_url",
    "conf",
    "context_to_airflow_vars",
    "count_time_anew",
    "first_poke",
    "is_asset",
    "is_killed_for_certain",
    "is_mapped",
    "mask_secret",
    "task_state",
    "tell_masker",
    "xcom_value",
]


def __getattr__(name: str) -> Any:
    """`BaseEventTrigger`, found when it is asked for: no DAG file but one that watches needs Airflow's triggers."""
    if name != "BaseEventTrigger":
        raise AttributeError(name)
    from airflow.triggers import base  # noqa: PLC0415 - see above

    return getattr(base, name, base.BaseTrigger)  # 2.11 has no watchers, but may import the module


def mask_secret(secret: str) -> None:
    """Make a secret known to Airflow's masker, in a worker and in the event loop of a triggerer.

    In that loop 3.0 raises before it has masked anything; 3.1+ keep silent. There the secret is masked in this process:
    the one that writes the logs knows the connection's password itself.
    """
    try:
        tell_masker(secret)
    except RuntimeError:
        from airflow.sdk.execution_time import secrets_masker  # noqa: PLC0415 - 3.0

        secrets_masker._secrets_masker().add_mask(secret)  # noqa: SLF001 - there is no other door


async def aget_connection(conn_id: str) -> Connection:
    """The connection, without blocking the event loop: natively where Airflow can (3.1+), in a thread elsewhere."""
    if hasattr(BaseHook, "aget_connection"):
        return await BaseHook.aget_connection(conn_id)
    from asgiref.sync import sync_to_async  # noqa: PLC0415 - old Airflow only

    found: Connection = await sync_to_async(BaseHook.get_connection)(conn_id)
    return found


def is_killed_for_certain(ti: Any) -> bool:
    """Whether Airflow calls a trigger's `on_kill` only where a user has ended the task (3.4+).

    3.3 also calls it where a triggerer loses its triggers. 3.4 returns the state of the newest iteration of a loop, so
    there the state must not be used.
    """
    return hasattr(ti, "region_id")


async def task_state(ti: Any) -> str | None:
    """The state of a task instance as Airflow has it now, asked from inside the triggerer (3.3+); None is "cleared".

    :raises Exception: Airflow could not be asked, or is too old to be.
    """
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415 - 3.x
    from airflow.sdk.execution_time.comms import GetTaskStates  # noqa: PLC0415 - 3.x

    question = GetTaskStates(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index)
    answer: Any = await task_runner.SUPERVISOR_COMMS.asend(question)
    name = ti.task_id if ti.map_index is None or ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
    found: str | None = answer.task_states.get(ti.run_id, {}).get(name)
    return found


def count_time_anew(task: BaseOperator, context: Context) -> None:
    """Give a task that has just woken all of its execution_timeout, as 3.x does.

    2.11 counts from the start of the try and, if time is over, ends the task before any code of its own.
    """
    ti: Any = context["ti"]
    if task.execution_timeout and getattr(ti, "next_method", None) and ti.start_date:
        task.execution_timeout += datetime.now(UTC) - ti.start_date


def first_poke(context: Context) -> datetime | None:
    """When a rescheduled sensor looked first, from which Airflow counts its timeout; None while it never was."""
    ti: Any = context["ti"]
    found: datetime | None
    if hasattr(ti, "get_first_reschedule_date"):  # 3.0+
        found = ti.get_first_reschedule_date(context)
    else:
        base: Any = import_module("airflow.sensors.base")
        first_try = (ti.max_tries or 0) - (context["task"].retries or 0) + 1
        found = base._orig_start_date(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, first_try)  # noqa: SLF001 - 2.11
    return found


def is_mapped(task: BaseOperator) -> bool:
    """Whether the task was made by `.expand()`. Airflow has kept it under this one name from 2.11 on."""
    return bool(getattr(task, "_BaseOperator__from_mapped", False))


def is_asset(outlet: object) -> bool:
    """Whether an outlet is one asset, itself or by reference; 2.11 calls it a dataset, and knows no references."""
    try:
        from airflow.sdk.definitions.asset import Asset, AssetRef  # noqa: PLC0415 - 3.0+
    except ImportError:
        return isinstance(outlet, import_module("airflow.datasets").Dataset)
    return isinstance(outlet, Asset | AssetRef)


def airflow_base_url() -> str:
    """The address of this Airflow's user interface as configured; "" where nothing is. 3.x and 2.x name it apart."""
    for section in ("api", "webserver"):
        found: Any = conf.get(section, "base_url", fallback=None)
        if found:
            return str(found)
    return ""


def xcom_value(ti_key: TaskInstanceKey, key: str) -> str:
    """A text another process pushed; "" where there is none. Runs in the worker, on 2.x in the web server."""
    if TYPE_CHECKING:
        from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415
    else:
        try:
            from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415 - 3.0+
        except ImportError:
            from airflow.models.xcom import XCom  # noqa: PLC0415
    return str(XCom.get_value(ti_key=ti_key, key=key) or "")
