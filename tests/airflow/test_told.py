"""What others are told of a run: assets of which run it was, OpenLineage of job and parent, the log of the reason."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.emulator import Life
from tests.airflow.conftest import LINEAGE, SCENARIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job
    from tests.airflow.deployment import Deployment

pytestmark = SCENARIO

IS_LINEAGE_INSTALLED = find_spec("airflow.providers.openlineage") is not None


def test_others_are_told_of_runs(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """A deferred task tells of its run, each mapped task of its own, a failed one gives the reason and no event."""
    deferred = declare("told deferred", Life(running=8.0))
    mapped = declare("told mapped", Life(running=3.0))
    declare(
        "told failing", Life(running=3.0, ending="failed", message="Engine exited with status 137", oom_killed=True)
    )
    dag_run = airflow.trigger("told", "one", "2026-11-20T00:00:00Z")
    dag_run.task("failing").wait_for("failed")
    for task in (dag_run.task("deferred"), dag_run.task("mapped", 0), dag_run.task("mapped", 1)):
        task.wait_for("success")

    listed = airflow.get("assets/events?source_dag_id=told&limit=100")["asset_events"]
    events = {
        name: [event["extra"] for event in listed if event["name"] == name]
        for name in ("told_deferred", "told_mapped", "told_failing")
    }
    (run,) = cml.ledger.executed(deferred.id)
    (told,) = events["told_deferred"]
    known = dag_run.task("deferred").xcoms()
    assert (told["run_id"], told["status"], known["return_value"]) == (run.id, "succeeded", run.id)
    assert {name: told[name] for name in ("run_url", "run_key", "project_id", "job_id", "finished_at")} == {
        name: known[name] for name in ("run_url", "run_key", "project_id", "job_id", "finished_at")
    }
    assert sorted(extra["run_id"] for extra in events["told_mapped"]) == sorted(
        run.id for run in cml.ledger.executed(mapped.id)
    )
    assert events["told_failing"] == []
    assert "out of memory (Engine exited with status 137)" in "\n".join(dag_run.task("failing").log())

    given = {name: value for name, value in run.environment.items() if name.startswith("OPENLINEAGE")}
    if not IS_LINEAGE_INSTALLED:
        assert given == {}
        return
    namespace, name, parent = given["OPENLINEAGE_PARENT_ID"].split("/")
    assert (namespace, name) == ("default", "told.deferred")
    completed = [
        event
        for event in lineage(airflow)
        if event["eventType"] == "COMPLETE" and event["job"]["name"] == "told.deferred"
    ]
    assert [event["run"]["runId"] for event in completed] == [parent]
    assert completed[0]["run"]["facets"]["cml_run"]["runId"] == run.id
    assert completed[0]["job"]["facets"]["cml_job"]["jobId"] == deferred.id
    assert given["OPENLINEAGE_ROOT_PARENT_ID"].endswith(completed[0]["run"]["facets"]["parent"]["run"]["runId"])


def lineage(airflow: Deployment) -> list[dict[str, Any]]:
    """The events OpenLineage has written."""
    return [json.loads(line) for line in (airflow.home / LINEAGE).read_text().splitlines()]
