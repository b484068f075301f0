"""A day like any other: all ways to run a job and to wait for a run, and nobody learns a secret from it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from airflow_provider_cml.emulator import Life
from tests.airflow.conftest import SCENARIO, XCOMS_AT_END, XCOMS_AT_START
from tests.airflow.leaks import files_with, tables_with

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job
    from airflow_provider_cml.emulator.ledger import RunRecord
    from tests.airflow.deployment import Deployment
from tests.airflow.leaks import Secrets

pytestmark = SCENARIO

LINK = "Cloudera Machine Learning"


def given(run: RunRecord) -> dict[str, str]:
    """What the DAG gave the run, without what every run is given."""
    return {name: value for name, value in run.environment.items() if not name.startswith("AIRFLOW_")}


def test_every_way_to_run_and_to_wait(
    airflow: Deployment, cml: Emulator, declare: Callable[..., Job], secrets: Secrets
) -> None:
    """Deferred, sync, mapped and through v1: green, each run as given, linked while active, no secret shown."""
    jobs = {name: declare(f"everyday {name}") for name in ("deferred", "sync")}
    jobs["v1"] = declare("everyday v1", number=208)
    mapped = declare("everyday mapped", Life(running=3.0))
    dag_run = airflow.trigger("everyday", "one", "2026-11-20T00:00:00Z")
    deferred, sync = dag_run.task("deferred"), dag_run.task("sync")

    # All three runs are active until they are told to end.
    deferred.wait_for("deferred")
    sync.wait_for("running")
    sync.wait_until(lambda: "run_url" in sync.xcoms(), "the run of the sync task")
    for name in ("deferred", "sync"):
        task = dag_run.task(name)
        (run,) = cml.ledger.runs(jobs[name].id)
        known = task.xcoms()
        assert run.status == "ENGINE_RUNNING"
        assert known.keys() >= XCOMS_AT_START
        assert not known.keys() & XCOMS_AT_END
        assert known["run_url"] == task.links()[LINK]
        assert known["run_url"].startswith(f"{cml.url}/alice/risk-analysis/")
    dag_run.task("wait_deferred").wait_for("deferred")
    dag_run.task("wait_rescheduled").wait_for("up_for_reschedule")
    for job in jobs.values():
        (run,) = cml.ledger.runs(job.id)
        cml.workspace.set_status(run.id, "succeeded")
    dag_run.wait_for_success()

    private = {"TEMPLATED": secrets.templated, "LITERAL": secrets.literal}
    day = {"DAY": "2026-11-20"}
    told = {"SUM": "42", "COUNT": "3", "FLAG": "true", "MARK": "told-to-everybody"}
    for name, environment in (("deferred", day | told), ("sync", day), ("v1", day)):
        (run,) = cml.ledger.runs(jobs[name].id)
        assert environment | private == given(run)
        assert run.arguments == ("--window 250" if name == "deferred" else "")
        assert (name == "v1") == (run.api == "v1")
        task = dag_run.task("start" if name == "v1" else name)
        known = task.xcoms()
        assert known["run_key"] == run.environment["AIRFLOW_RUN_KEY"]
        assert known["return_value"] == (run.engine_id if name == "v1" else run.id)
        if name != "v1":
            assert known.keys() >= XCOMS_AT_START | XCOMS_AT_END
            assert (known["project_id"], known["job_id"]) == (jobs[name].project_id, jobs[name].id)
            assert known["status"] == "succeeded"
    (run,) = cml.ledger.runs(jobs["v1"].id)
    for name in ("wait_deferred", "wait_rescheduled"):
        assert dag_run.task(name).xcoms()["return_value"] == run.id

    runs = cml.ledger.executed(mapped.id)
    assert sorted(given(run)["YEAR"] for run in runs) == ["2007", "2008", "2009"]
    assert {given(run)["TEMPLATED"] for run in runs} == {secrets.templated}
    assert {run.id for run in runs} == {dag_run.task("mapped", index).xcoms()["return_value"] for index in range(3)}
    assert all(one.finished_at <= other.created_at for one, other in itertools.pairwise(runs))

    # The search finds what may be known; so it would find what may not.
    database = airflow.home / "airflow.db"
    assert "rendered_task_instance_fields.rendered_fields" in tables_with([b"told-to-everybody"], database)
    assert any("task_id=sync" in name for name in files_with(run_id_of(cml, jobs["sync"]), airflow.home))
    for name, value in secrets.forms().items():
        assert not tables_with([value], database), name
        assert not files_with(value, airflow.home.parent), name


def run_id_of(cml: Emulator, job: Job) -> bytes:
    (run,) = cml.ledger.runs(job.id)
    return run.id.encode()
