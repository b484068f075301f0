"""What declared assets are told: by operator and sensor, in every mode, on both namings of Airflow."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.emulator import Life
from airflow_provider_cml.failures import CmlRunFailedError
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from tests.airflow_side import PASSWORD, connections, context_of, end_active_run, job, log, quick, run_task

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Workspace

try:  # 3.0+
    from airflow.sdk import Asset, AssetAlias
    from airflow.sdk.execution_time.context import OutletEventAccessors

    REFERENCES = True
except ImportError:
    from airflow.datasets import Dataset as Asset  # type: ignore[no-redef,unused-ignore]
    from airflow.datasets import DatasetAlias as AssetAlias  # type: ignore[no-redef,unused-ignore]
    from airflow.utils.context import OutletEventAccessors  # type: ignore[no-redef,unused-ignore]

    REFERENCES = False

__all__ = ["connections", "job", "log", "quick"]

FIGURES = Asset("s3://bank/var/daily")
LIMITS = Asset("s3://bank/var/limits")
IDS = {"run_id", "status", "run_url", "run_key", "project_id", "job_id"}
TIMES = {"created_at", "scheduling_at", "starting_at", "running_at", "finished_at"}


@pytest.fixture(params=[False, True], ids=["in the worker", "deferred"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def context_with_events(task: Any, **facts: Any) -> Any:
    """A context with Airflow's own accessors, as its task runner gives one to each process."""
    return {**context_of(task, **facts), "outlet_events": OutletEventAccessors()}


def operator(of: Job, **arguments: Any) -> CmlRunJobOperator:
    given = {"project": of.project_id, "job": of.id, "poll_interval": 0.05, "outlets": [FIGURES]}
    return CmlRunJobOperator(task_id="value_at_risk", **{**given, **arguments})


def test_every_declared_asset_is_told(connections: Emulator, workspace: Workspace, job: Job, deferrable: bool) -> None:
    """Run id, status, link and times reach each asset as JSON, and no variable of the run does."""
    job.life = Life(running=None if deferrable else 0.15)
    make = lambda: operator(  # noqa: E731
        job, deferrable=deferrable, outlets=[FIGURES, LIMITS], environment={"TOKEN": "told-to-the-run"}
    )
    context = context_with_events(make())
    ran = run_task(make, context, asleep=lambda: end_active_run(workspace, job))
    pushed = context["ti"].pushed
    extra = context["outlet_events"][FIGURES].extra

    assert len(ran.deferrals) == deferrable
    assert extra.keys() == IDS | TIMES
    assert extra["run_id"] == ran.value
    assert extra["status"] == "succeeded"
    assert extra == json.loads(json.dumps(extra))
    assert {name: pushed[name] for name in extra if name != "run_id"} == {
        name: value for name, value in extra.items() if name != "run_id"
    }
    assert context["outlet_events"][LIMITS].extra == extra
    assert "told-to-the-run" not in str(extra)
    assert PASSWORD not in str(extra)


def test_each_mapped_task_tells_of_its_own_run(connections: Emulator, job: Job) -> None:
    """Two mapped tasks with the same outlet tell it of two runs."""
    told = []
    for index in range(2):
        context = context_with_events(operator(job), map_index=index)
        ran = run_task(lambda: operator(job), context)
        told.append(context["outlet_events"][FIGURES].extra["run_id"])
        assert told[-1] == ran.value

    assert len(set(told)) == 2


def test_what_the_author_put_there_stays(connections: Emulator, job: Job) -> None:
    """A hook of the DAG's author may have named things already; ours only joins what is missing."""
    context = context_with_events(operator(job))
    context["outlet_events"][FIGURES].extra.update(status="provisional", rows=12)
    run_task(lambda: operator(job), context)
    extra = context["outlet_events"][FIGURES].extra

    assert (extra["status"], extra["rows"]) == ("provisional", 12)
    assert extra["run_id"] == context["ti"].pushed["return_value"]


def test_a_run_that_failed_tells_nothing(connections: Emulator, job: Job) -> None:
    """There is no event then; and a try after it begins with nothing said."""
    job.life = Life(ending="failed")
    context = context_with_events(operator(job))
    with pytest.raises(CmlRunFailedError):
        run_task(lambda: operator(job), context)

    assert context["outlet_events"][FIGURES].extra == {}


def test_a_run_that_is_not_waited_for_is_told_as_it_is(connections: Emulator, job: Job) -> None:
    """The event says which run, and that it is not over."""
    context = context_with_events(operator(job))
    ran = run_task(lambda: operator(job, wait_for_completion=False), context)
    extra = context["outlet_events"][FIGURES].extra

    assert extra["run_id"] == ran.value
    assert extra["status"] in {"scheduling", "starting", "running"}
    assert "finished_at" not in extra


def test_v1_tells_what_it_knows(connections: Emulator, job: Job) -> None:
    """The engine id, the job's page, and the key by which a sensor finds the run; v1 knows no status."""
    make = lambda: operator(  # noqa: E731
        job, project="alice/risk-analysis", job="208", cml_conn_id="cml_v1", wait_for_completion=False
    )
    context = context_with_events(make())
    ran = run_task(make, context)
    extra = context["outlet_events"][FIGURES].extra

    assert extra == {
        "engine_id": ran.value,
        "run_url": f"{connections.url}/alice/risk-analysis/jobs/208",
        "run_key": context["ti"].pushed["run_key"],
    }


def test_other_outlets_are_left_alone(connections: Emulator, job: Job, log: pytest.LogCaptureFixture) -> None:
    """An alias has events only where its author adds some, and Airflow allows outlets that are no assets."""
    make = lambda: operator(job, outlets=[AssetAlias("figures"), {"table": "var"}, FIGURES])  # noqa: E731
    context = context_with_events(make())
    run_task(make, context)

    assert context["outlet_events"][AssetAlias("figures")].extra == {}
    assert context["outlet_events"][FIGURES].extra["status"] == "succeeded"
    assert "will not tell" not in log.text


def test_an_event_that_cannot_be_had_ends_no_task(
    connections: Emulator, job: Job, log: pytest.LogCaptureFixture
) -> None:
    """Airflow 3 looks references up in its database; where that fails the run has succeeded nevertheless."""
    unknown = Asset.ref(name="nowhere") if REFERENCES else FIGURES
    context = context_with_events(operator(job))
    if not REFERENCES:
        del context["outlet_events"]
    ran = run_task(lambda: operator(job, outlets=[unknown, LIMITS]), context)

    assert ran.value == context["ti"].pushed["return_value"]
    assert "will not tell which run it was" in log.text
    assert not REFERENCES or context["outlet_events"][LIMITS].extra["status"] == "succeeded"


def test_sensor_tells_of_the_run_it_waited_for(
    connections: Emulator, workspace: Workspace, job: Job, deferrable: bool
) -> None:
    """A sensor knows the run as the operator does, but for the link, which would cost it a request."""
    run = workspace.start(job, {"AIRFLOW_RUN_KEY": "somebody's"})
    if not deferrable:
        workspace.set_status(run, "succeeded")

    def make() -> CmlJobRunSensor:
        return CmlJobRunSensor(
            task_id="wait",
            project=job.project_id,
            job=job.id,
            run_id=run.id,
            outlets=[FIGURES],
            deferrable=deferrable,
            poke_interval=0.05,
        )

    context = context_with_events(make())
    run_task(make, context)
    extra = context["outlet_events"][FIGURES].extra

    assert extra.keys() <= (IDS - {"run_url"}) | TIMES
    assert (extra["run_id"], extra["status"], extra["run_key"]) == (run.id, "succeeded", "somebody's")
    assert "finished_at" in extra


def test_airflow_delivers_what_is_told(connections: Emulator, job: Job) -> None:
    """What the accessors hold is what Airflow sends with the task's success."""
    context = context_with_events(operator(job))
    run_task(lambda: operator(job), context)
    if not REFERENCES:
        # There the very accessor is read when the task has succeeded.
        assert context["outlet_events"][FIGURES].extra["run_id"] == context["ti"].pushed["return_value"]
        return
    runner: Any = import_module("airflow.sdk.execution_time.task_runner")
    (sent,) = runner._serialize_outlet_events(context["outlet_events"])

    assert sent["dest_asset_key"] == {"name": FIGURES.name, "uri": FIGURES.uri}
    assert sent["extra"]["run_id"] == context["ti"].pushed["return_value"]
