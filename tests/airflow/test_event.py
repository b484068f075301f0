"""The end of a job's run starts DAGs, each ending once, although the triggerer is killed between two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.airflow.conftest import SCENARIO
from tests.airflow.deployment import DagRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job
    from tests.airflow.deployment import Deployment
    from tests.airflow.leaks import Secrets

pytestmark = SCENARIO

ASSET = "watched endings"
DAGS = ("ending_first", "ending_second")


def asset_id(airflow: Deployment) -> int:
    (asset,) = [asset for asset in airflow.get("assets?limit=100")["assets"] if asset["name"] == ASSET]
    return int(asset["id"])


def payloads(airflow: Deployment) -> list[dict[str, Any]]:
    """What the asset's events tell, oldest first."""
    path = f"assets/events?asset_id={asset_id(airflow)}&order_by=timestamp&limit=100"
    return [event["extra"]["payload"] for event in airflow.get(path)["asset_events"]]


def mark(airflow: Deployment) -> dict[str, Any]:
    """How far the watcher has told, as Airflow keeps it."""
    kept = airflow.get(f"assets/{asset_id(airflow)}/state-store")["asset_state_store"]
    return dict(kept[0]["value"]) if kept else {}


def looks(cml: Emulator, job: Job) -> int:
    return sum(job.id in request.path for request in cml.ledger.requests("ListJobRuns"))


def wait_for_looks(airflow: Deployment, cml: Emulator, job: Job, count: int = 2) -> None:
    before = looks(cml, job)
    airflow.wait("looks at the job", lambda: looks(cml, job) >= before + count)


def dag_runs(airflow: Deployment, dag_id: str) -> list[DagRun]:
    listed = airflow.get(f"dags/{dag_id}/dagRuns?order_by=run_after&limit=100")["dag_runs"]
    return [DagRun(airflow, dag_id, run["dag_run_id"]) for run in listed]


def end_run(cml: Emulator, job: Job, status: str) -> str:
    run = cml.workspace.start(job)
    cml.workspace.set_status(run.id, status)
    return str(run.id)


def test_endings_around_a_killed_triggerer(
    airflow: Deployment, cml: Emulator, declare: Callable[..., Job], secrets: Secrets, say: Callable[[str], None]
) -> None:
    """Two endings, a SIGKILL between them: two events, two runs of each DAG, none doubted; then nothing more."""
    job = declare(ASSET)
    end_run(cml, job, "succeeded")
    # The watcher was there before its job: another triggerer need not wait until it looks again.
    for triggerer in [*airflow.triggerers]:
        airflow.kill_triggerer(triggerer)
    first = airflow.start_triggerer()
    wait_for_looks(airflow, cml, job)
    assert payloads(airflow) == [], "what ended before the watch is no news"

    told = end_run(cml, job, "failed")
    airflow.wait("the first event", lambda: len(payloads(airflow)) == 1)
    for dag_id in DAGS:
        airflow.wait(f"a run of {dag_id}", lambda dag_id=dag_id: len(dag_runs(airflow, dag_id)) == 1)
    airflow.wait("its confirmation", lambda: not mark(airflow)["told"] and told in mark(airflow)["cursor"]["over"])
    airflow.kill_triggerer(first)
    missed = end_run(cml, job, "succeeded")
    before = looks(cml, job)
    second = airflow.start_triggerer()
    airflow.wait("the second event", lambda: len(payloads(airflow)) >= 2)
    for dag_id in DAGS:
        airflow.wait(f"another run of {dag_id}", lambda dag_id=dag_id: len(dag_runs(airflow, dag_id)) >= 2)
    airflow.wait("its confirmation", lambda: not mark(airflow)["told"] and missed in mark(airflow)["cursor"]["over"])
    say(f"second ending told after {looks(cml, job) - before} looks of the new triggerer")

    # Once more, with nothing to tell.
    airflow.kill_triggerer(second)
    airflow.start_triggerer()
    wait_for_looks(airflow, cml, job, 3)
    found = payloads(airflow)
    assert [(event["run_id"], event["status"], event["repeated"]) for event in found] == [
        (told, "failed", False),
        (missed, "succeeded", False),
    ]
    assert {event["run_url"] for event in found} == {f"{cml.url}/alice/risk-analysis/jobs"}
    assert not any(secret.decode() in str(found) for secret in secrets.forms().values())
    for dag_id in DAGS:
        runs = dag_runs(airflow, dag_id)
        assert len(runs) == 2
        for run, event in zip(runs, found, strict=True):
            run.wait_for_success()
            assert run.task("tell").xcoms()["return_value"] == [event]
