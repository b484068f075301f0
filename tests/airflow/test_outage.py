"""A workspace that is away for two minutes while a backfill begins costs time, and no date."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.emulator import Emulator, Life, Workspace
from tests.airflow.backfills import create_backfill
from tests.airflow.conftest import SCENARIO
from tests.airflow.deployment import OVER, DagRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.airflow.deployment import Deployment

pytestmark = SCENARIO

FIRST, DATES = datetime(2025, 6, 1, tzinfo=UTC), 8 if os.environ.get("SHORT") else 30
AWAY = 120.0
"""Seconds from the start of the first task until the workspace is there."""
BUDGET = 600.0
"""Seconds from then on: a bound for slow machines."""


def test_workspace_is_away_for_two_minutes(airflow: Deployment, say: Callable[[str], None]) -> None:
    """All dates are green, each with one run that succeeded, although the first began while CML was unreachable."""
    days = [(FIRST + timedelta(days=number)).date().isoformat() for number in range(DATES)]
    workspace = Workspace()
    project = workspace.add_project("alice", "Risk Analysis")
    for day in days:
        workspace.add_job(project, f"outage {day}", life=Life(running=1.0))
    with socket.socket() as port:
        # Bound, so that nobody else takes it; and where nobody listens, connections are refused.
        port.bind(("127.0.0.1", 0))
        cml = Emulator(workspace, port.getsockname()[1])
        fields = {"conn_type": "cml", "host": cml.url, "password": cml.api_key}
        airflow.post("connections", {"connection_id": "outage", **fields})
        airflow.wait("the DAG", lambda: airflow.has_dags({"outage"}))
        create_backfill(airflow, "outage", FIRST, DATES, "--max-active-runs", str(DATES))
        airflow.wait("the first date", lambda: any(ti["start_date"] for ti in dates(airflow)))
        begin = time.monotonic()
        time.sleep(AWAY)
        begun = [day_of(ti) for ti in dates(airflow) if ti["start_date"]]
    with cml:
        airflow.wait("the end of all dates", lambda: len(over(airflow)) == DATES, BUDGET)
        returned = {day_of(ti): airflow.returned(ti) for ti in dates(airflow)}
    found = dates(airflow)
    met = Counter("triggerer" if int(day[-2:]) % 2 == 0 else "worker" for day in begun)
    say(
        f"outage: {len(begun)} dates began in it {dict(met)}; "
        f"all over after {time.monotonic() - begin:.0f} s, tries {dict(Counter(ti['try_number'] for ti in found))}, "
        f"requests {cml.ledger.counts()}\n"
    )

    assert met.keys() == {"triggerer", "worker"}
    assert Counter(ti["state"] for ti in found) == {"success": DATES}, "\n".join(map(DagRun.report, over(airflow)))
    runs = cml.ledger.runs()
    assert sorted(run.job for run in runs) == [f"outage {day}" for day in days]
    assert {(run.status, run.stop_requests) for run in runs} == {("ENGINE_SUCCEEDED", 0)}
    assert returned == {run.job.removeprefix("outage "): run.id for run in runs}


def dates(airflow: Deployment) -> list[dict[str, Any]]:
    """The task of each date, as Airflow tells it."""
    listed: list[dict[str, Any]] = airflow.get("dags/outage/dagRuns/~/taskInstances?limit=100")["task_instances"]
    return listed


def day_of(task_instance: dict[str, Any]) -> str:
    return str(task_instance["logical_date"])[:10]


def over(airflow: Deployment) -> list[DagRun]:
    """The dag runs that are."""
    listed = airflow.get("dags/outage/dagRuns?limit=100")["dag_runs"]
    return [DagRun(airflow, "outage", run["dag_run_id"]) for run in listed if run["state"] in OVER]
