"""The hook in an `async` task of Airflow 3.2 and newer, on a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.emulator import Life
from tests.airflow.conftest import SCENARIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job
    from tests.airflow.deployment import Deployment
    from tests.airflow.leaks import Secrets

pytestmark = SCENARIO


def test_async_task(airflow: Deployment, cml: Emulator, declare: Callable[..., Job], secrets: Secrets) -> None:
    """It changes a job, runs it and awaits the end; its log has the run's course, no warning, and no key."""
    job = declare("asked awaited", Life(running=3.0))
    dag_run = airflow.trigger("asked", "one")
    dag_run.wait_for_success()
    (run,) = cml.ledger.runs(job.id)
    task = dag_run.task("awaited")

    assert task.xcoms()["return_value"] == [job.name, "60", run.id, "succeeded"]
    assert cml.workspace.jobs[job.id].environment == {"DAYS": "7"}
    assert run.environment == {"DAY": "2026-11-20"}
    log = "\n".join(task.log())
    assert f"Run {run.id} is succeeded." in log
    assert [word for word in ("never awaited", "Unclosed", "WARNING", secrets.api_key) if word in log] == []
