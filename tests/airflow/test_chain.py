"""A pipeline that CML runs by itself is followed to its last run, by a sensor that had no part in its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.emulator import Life
from tests.airflow.conftest import SCENARIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job
    from tests.airflow.deployment import Deployment

pytestmark = SCENARIO


def test_pipeline_is_followed(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """Nothing is there yet, then a run, then its child and grandchild: deferred and rescheduled tell the same."""
    load = declare("pipeline load")
    clean = declare("pipeline clean", Life(running=10.0), parent=load)
    train = declare("pipeline train", Life(running=10.0), parent=clean)
    airflow.wait("the DAG", lambda: airflow.has_dags({"pipeline"}))
    dag_run = airflow.trigger("pipeline", "one")
    deferred, rescheduled = dag_run.task("deferred"), dag_run.task("rescheduled")
    deferred.wait_for("deferred")
    rescheduled.wait_for("up_for_reschedule")

    run = cml.workspace.start(load)
    cml.workspace.set_status(run.id, "succeeded")
    dag_run.wait_for_success()

    below = [(job.name, record.id) for job in (clean, train) for record in cml.ledger.runs(job.id)]
    assert len(below) == 2
    for task in (deferred, rescheduled):
        known = task.xcoms()
        assert known["return_value"] == run.id
        assert [(link["job"], link["run_id"]) for link in known["children"]] == below
        assert {(link["status"], link["run_url"]) for link in known["children"]} == {
            ("succeeded", f"{cml.url}/alice/risk-analysis/jobs")
        }
        for name, run_id in below:
            assert any(f"Run {run_id} of job '{name}'" in line for line in task.log())
