"""Four ways to wait for a run, made alike: the trigger of this provider, a bare aiohttp loop, and two peers' triggers.

The triggers are the released ones with their default arguments, but for the interval where one is given. What a
triggerer does around a trigger is done for none of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.answers import ACCOUNT_ID, CML_PATH, JOB_ID, PROJECT_ID
from tests.bench.server import HOST

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

KEY = "a-key-of-the-bench-a-key-of-the-bench-a-key-of-the-bench"
BARE_CONNECTIONS = 50


@dataclass(frozen=True)
class Client:
    """One way to wait.

    :param name: as the table shows it.
    :param interval: what it polls with by default, seconds.
    :param wait: returns when a run is over.
    :param close: whatever there is to close when all have waited.
    """

    name: str
    interval: float
    wait: Callable[[int, float, float], Any]
    close: Callable[[], Any]


def connect(port: int, authority: str) -> None:
    """Tell Airflow and both HTTP libraries of the server; before any of them is imported."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    host = f"{HOST}:{port}"
    connections = {
        "cml_default": {"conn_type": "cml", "host": f"https://{host}", "password": KEY},
        "databricks_default": {"conn_type": "databricks", "host": HOST, "port": port, "password": KEY},
        "dbt_cloud_default": {"conn_type": "dbt_cloud", "host": host, "login": str(ACCOUNT_ID), "password": KEY},
    }
    for name, fields in connections.items():
        os.environ[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(fields)
    os.environ |= {"SSL_CERT_FILE": authority, "REQUESTS_CA_BUNDLE": authority, "BENCH_URL": f"https://{host}"}


def log_as_a_triggerer() -> None:
    """Airflow's own set-up for the process in which triggers run, at its default level; the lines go nowhere.

    In life they go through a socket to the triggerer, which writes them into the task's log. What it has loaded before
    its first trigger is loaded here, too, by everybody.
    """
    import airflow.jobs.triggerer_job_runner  # noqa: F401 - see above
    from airflow.sdk.bases.hook import BaseHook
    from airflow.sdk.log import configure_logging

    BaseHook.get_connection(
        "databricks_default"
    )  # its secrets backends are made at the first look-up of any connection

    configure_logging(json_output=True, output=Path(os.devnull).open("wb"), sending_to_supervisor=True)  # noqa: SIM115


def client(name: str) -> Client:
    """The one of that name; imports what it needs, and nothing of the others."""
    found = {"cml": _cml, "bare": _bare, "databricks": _databricks, "dbt": _dbt}[name]()
    log_as_a_triggerer()
    return found


async def _nothing() -> None:
    return


def _cml() -> Client:
    from airflow_provider_cml.events import Watched
    from airflow_provider_cml.triggers.cml import CmlJobRunTrigger

    async def wait(number: int, interval: float, age: float) -> None:
        watched = Watched(PROJECT_ID, JOB_ID, run_id=str(number), began=time.time() - age)
        trigger = CmlJobRunTrigger("cml_default", watched.to_json(), interval)
        async for event in trigger.run():
            _check(event.payload["ending"] == "over" and event.payload["run"]["status"] == "succeeded", event)

    return Client("this provider", 30.0, wait, _nothing)


def _bare() -> Client:
    """What one would write without a provider: one session, one loop per run, a look in each interval."""
    import aiohttp
    import airflow.triggers.base  # noqa: F401 - so that all stand in the same process image

    sessions: list[aiohttp.ClientSession] = []

    async def wait(number: int, interval: float, age: float) -> None:
        if not sessions:
            connector = aiohttp.TCPConnector(limit=BARE_CONNECTIONS)
            sessions.append(aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {KEY}"}))
        await asyncio.sleep(random.uniform(0.0, interval))
        while True:
            async with sessions[0].get(f"{os.environ['BENCH_URL']}{CML_PATH}/{number}") as response:
                response.raise_for_status()
                run = await response.json()
            if run["status"] == "ENGINE_SUCCEEDED":
                return
            await asyncio.sleep(interval)

    async def close() -> None:
        for session in sessions:
            await session.close()

    return Client("bare aiohttp loop", 30.0, wait, close)


def _databricks() -> Client:
    from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger

    async def wait(number: int, interval: float, age: float) -> None:
        trigger = DatabricksExecutionTrigger(number, "databricks_default", polling_period_seconds=interval)
        async for event in trigger.run():
            _check("SUCCESS" in event.payload["run_state"], event)

    return Client("Databricks", 30.0, wait, _nothing)


def _dbt() -> Client:
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    async def wait(number: int, interval: float, age: float) -> None:
        trigger = DbtCloudRunJobTrigger(
            "dbt_cloud_default", number, end_time=time.time() + 604800, poll_interval=interval, account_id=ACCOUNT_ID
        )
        async for event in trigger.run():
            _check(event.payload["status"] == "success", event)

    return Client("dbt Cloud", 60.0, wait, _nothing)


def _check(is_good: bool, event: Any) -> None:
    if not is_good:
        message = f"a run was not told as it ended: {event.payload}"
        raise AssertionError(message)
