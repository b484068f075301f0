"""A workspace like a real one: small pages, many projects and jobs, names that are not unique."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.emulator import Emulator, Life, Workspace
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from tests.airflow_side import context_of, run_task, set_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_cml.emulator import Job


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Emulator, Job]]:
    """26 projects and 16 jobs in pages of ten; two owners of a `Risk Analysis`; one job's name is within another's."""
    workspace = Workspace(page_size_cap=10)
    for number in range(24):
        workspace.add_project("zoe" if number % 2 else "bob", f"Project {number:02}")
    mine = workspace.add_project("alice", "Risk Analysis")
    workspace.add_project("bob", "Risk Analysis")
    for number in range(14):
        workspace.add_job(mine, f"job {number:02}", number=100 + number)
    workspace.add_job(mine, "value at risk, nightly", number=207)
    job = workspace.add_job(mine, "value at risk", number=208, life=Life(running=0.1))
    with Emulator(workspace) as cml:
        set_connection(monkeypatch, host=cml.url, password=cml.api_key)
        set_connection(monkeypatch, "cml_v1", host=cml.url, password=cml.legacy_key, extra={"api_version": "v1"})
        yield cml, job


def test_each_way_finds_its_run_among_many(crowd: tuple[Emulator, Job]) -> None:
    """A v1 start and its sensor by key, a run by names, a deferred one: three starts, all as given."""
    cml, job = crowd
    start = CmlRunJobOperator(
        task_id="start",
        project="alice/risk-analysis",
        job="208",
        environment={"DAY": 1},
        wait_for_completion=False,
        cml_conn_id="cml_v1",
    )
    context = context_of(start)
    start.execute(context)
    key = context["ti"].pushed["run_key"]

    def by_name(**given: Any) -> CmlRunJobOperator:
        return CmlRunJobOperator(
            task_id="value_at_risk", project="alice/Risk Analysis", job="value at risk", poll_interval=1, **given
        )

    def sense() -> CmlJobRunSensor:
        return CmlJobRunSensor(
            task_id="wait", project="alice/Risk Analysis", job="value at risk", run_key=key, poke_interval=0.1
        )

    found = run_task(sense, context_of(sense())).value
    given = {"environment": {"DAY": 2}, "arguments": "--fast"}
    waited = run_task(lambda: by_name(**given), context_of(by_name(), run_id="manual__1")).value
    slept = run_task(
        lambda: by_name(environment={"DAY": 3}, deferrable=True), context_of(by_name(), run_id="manual__2")
    ).value
    runs = cml.workspace.runs_of(job)

    assert [run.id for run in runs] == [found, waited, slept]
    assert [run.environment["DAY"] for run in runs] == ["1", "2", "3"]
    assert [run.arguments for run in runs] == ["", "--fast", ""]
    assert {run.status for run in runs} == {"ENGINE_SUCCEEDED"}
    assert len(cml.ledger.runs()) == 3
