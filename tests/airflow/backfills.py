"""Backfills as they are created on the command line.

The law: when `create_backfill` returns, one is there with all of its dates.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from tests.airflow.deployment import Deployment

LOCKED_AT_MOST = 5
"""Times the command is given to SQLite, which refuses while the scheduler writes."""


def create_backfill(airflow: Deployment, dag_id: str, first: datetime, dates: int, *options: str) -> None:
    """So many dates from the first one on."""
    last = first + timedelta(days=dates - 1)
    command = ["backfill", "create", "--dag-id", dag_id]
    command += ["--from-date", first.date().isoformat(), "--to-date", last.date().isoformat()]
    for _ in range(LOCKED_AT_MOST):
        with airflow.paused(dag_id):
            done = subprocess.run(
                [sys.executable, "-m", "airflow", *command, *options],
                env=airflow.environment,
                capture_output=True,
                text=True,
                timeout=180,
                check=False,
            )
        if done.returncode == 0:
            return
        if "database is locked" not in done.stderr:
            break
        # What was refused half-way may stay as a backfill without dates, and no DAG may have two.
        for backfill in airflow.get(f"backfills?dag_id={dag_id}")["backfills"]:
            if backfill["completed_at"] is None:
                airflow._change("PUT", f"backfills/{backfill['id']}/cancel")
    raise AssertionError(done.stdout + done.stderr)
