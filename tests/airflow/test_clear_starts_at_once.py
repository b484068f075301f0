"""What is over and is run again starts at once: no start of before can still be on its way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_cml.emulator import Life
from tests.airflow.backfills import create_backfill
from tests.airflow.conftest import SCENARIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job
    from tests.airflow.deployment import DagRun, Deployment

pytestmark = SCENARIO

DATE = datetime(2025, 6, 1, tzinfo=UTC)
NO_WAIT = 30.0
"""Seconds from a try's start to its POST. Five are what is wanted; a busy machine may need longer to read the DAG."""


def clear(dag_run: DagRun) -> None:
    dag_run.clear("sync", "deferred")


def reprocess(dag_run: DagRun) -> None:
    create_backfill(dag_run.airflow, dag_run.dag_id, DATE, 1, "--reprocess-behavior", "completed")


def test_no_wait_after_a_clear(
    airflow: Deployment, cml: Emulator, declare: Callable[..., Job], say: Callable[[str], None]
) -> None:
    """Cleared, and then reprocessed by a backfill, after its dag run was over: a new run each time, without a wait."""
    jobs = {name: declare(f"reprocessed {name}", Life(running=1.0)) for name in ("sync", "deferred")}
    airflow.wait("the DAG", lambda: airflow.has_dags({"reprocessed"}))
    dag_run = airflow.trigger("reprocessed", "one", DATE.isoformat())
    dag_run.wait_for_success()
    delays, waits = {}, []
    for try_number, run_again in enumerate((clear, reprocess), 2):
        run_again(dag_run)
        dag_run.wait_for_success()
        for name, job in jobs.items():
            task, runs = dag_run.task(name), cml.ledger.runs(job.id)
            assert [run.status for run in runs] == ["ENGINE_SUCCEEDED"] * try_number
            assert task.xcoms()["return_value"] == runs[-1].id
            # A deferred try keeps its first process's start.
            began = datetime.fromisoformat(task.record()["start_date"]).timestamp()
            delays[f"{run_again.__name__} {name}"] = runs[-1].created_at - began
            waits += [line for line in task.log(try_number) if "Waiting" in line]
    told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in delays.items())
    say(f"from the start of a try to its start of the job: {told}\n")

    assert waits == []
    assert max(delays.values()) < NO_WAIT, told
