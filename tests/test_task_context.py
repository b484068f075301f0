"""What a task tells of itself: the key of a try, and the variables every run is given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from airflow_provider_cml import task_context
from airflow_provider_cml.api.errors import CmlInputError
from airflow_provider_cml.api.run_key import RunKey, same_series
from airflow_provider_cml.task_context import deployment, line_date, run_key, run_variables
from tests.airflow_side import MOMENT, DagRun, context_of

TASK = SimpleNamespace(task_id="value_at_risk", retries=2, owner="alice", email="alice@example.com")


def key_of(dag_run: DagRun | None = None, **facts: Any) -> RunKey:
    return run_key(context_of(TASK, dag_run, **facts))


def test_key_holds_the_facts_of_the_try() -> None:
    """Every fact is Airflow's own; the start is the dag run's, to the microsecond."""
    found = key_of(map_index=4, try_number=2, max_tries=5)

    assert (found.dag_id, found.run_id, found.task_id, found.map_index) == (
        "risk",
        "scheduled__2026-11-21",
        "value_at_risk",
        4,
    )
    assert (found.loop_index, found.region) == (-1, "")
    assert (found.max_tries, found.retries, found.try_number) == (5, 2, 2)
    assert datetime.fromtimestamp(found.start / 1e6, UTC) == MOMENT
    assert (found.nonce, found.post) == ("", "")
    assert RunKey.parse(str(found)) == found


def test_time_zone_does_not_matter() -> None:
    """The same moment written in another zone is the same key."""
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=9)))

    assert key_of(DagRun(start_date=elsewhere)) == key_of()


@pytest.mark.parametrize("map_index", [-1, None])
def test_task_that_is_not_mapped(map_index: int | None) -> None:
    """No map index and Airflow's own -1 are one."""
    assert key_of(map_index=map_index).map_index == -1


def test_retry_is_of_the_series_and_a_clear_is_not() -> None:
    """A retry leaves max_tries alone; a clear raises it."""
    first, retry = key_of(max_tries=2), key_of(max_tries=2, try_number=2)
    cleared = key_of(max_tries=3, try_number=2)

    assert same_series(first, retry)
    assert not same_series(first, cleared)


def test_iterations_of_a_loop_have_keys_of_their_own() -> None:
    """They differ in index and region alone: a mapped task in a loop has its map index in Airflow's region index."""
    region = UUID("0198a2c4-7c1e-7d3f-8a6b-1f2e3d4c5b6a")

    def key(index: int, map_index: int, region: UUID) -> RunKey:
        context = context_of(TASK, map_index=map_index) | {"loop": SimpleNamespace(index=index)}
        context["ti"].region_id, context["ti"].region_index = region, map_index
        return run_key(context)

    first = key(0, 4, region)

    assert (first.loop_index, first.region, first.map_index) == (0, "1f2e3d4c5b6a", 4)
    assert RunKey.parse(str(first)) == first
    assert first.is_same_try(key(0, 4, region))
    assert not first.is_same_task(key(1, 4, region))
    assert not first.is_same_task(key(0, 4, UUID(int=7)))
    assert not first.is_same_task(key_of(map_index=4))


@pytest.mark.parametrize(("dag_run", "number"), [(SimpleNamespace(clear_number=3), 3), (SimpleNamespace(), None)])
def test_clear_number(dag_run: SimpleNamespace, number: int | None) -> None:
    """Airflow's count of the dag run's clears is in the key where the worker is given it."""
    fields = {"run_id": "a", "start_date": MOMENT, "logical_date": None}

    assert run_key(context_of(TASK) | {"dag_run": SimpleNamespace(**fields, **vars(dag_run))}).clear_number == number


@pytest.mark.parametrize("date", ["logical_date", "run_after"])
def test_dags_test_gets_a_nonce(date: str) -> None:
    """Under `dags test` the start is the run's date, which the next test shares; the process tells them apart."""
    found = key_of(DagRun(**{date: MOMENT}))  # type: ignore[arg-type]

    assert found.nonce != ""
    assert found.nonce == key_of(DagRun(**{date: MOMENT})).nonce  # type: ignore[arg-type]
    assert ";" not in found.nonce
    assert RunKey.parse(str(found)) == found


def test_dag_run_without_a_start_gets_a_nonce() -> None:
    """Without a start date the process is all that tells two runs apart."""
    assert key_of(DagRun(start_date=None)).nonce != ""


def test_dag_run_without_dates() -> None:
    """Airflow 3 starts runs by hand without a logical date, and 2.11 has no run_after."""
    old = SimpleNamespace(run_id="a", start_date=MOMENT, logical_date=None)

    assert key_of(DagRun(logical_date=None, run_after=None)).nonce == ""
    assert run_key(context_of(TASK) | {"dag_run": old}).nonce == ""


@pytest.mark.parametrize(
    ("settings", "name", "is_configured", "names_one_airflow"),
    [
        ({"CML__DEPLOYMENT": " production "}, "production", True, True),
        ({"CML__DEPLOYMENT": "production", "API__BASE_URL": "https://airflow.example.com"}, "production", True, True),
        ({"API__BASE_URL": "https://airflow.example.com/team/"}, "airflow.example.com/team", False, True),
        ({"API__BASE_URL": "http://localhost:8080"}, "localhost:8080", False, False),
        ({"API__BASE_URL": "http://127.0.0.1:8080/"}, "127.0.0.1:8080", False, False),
        ({"API__BASE_URL": "http://[::1]:8080/"}, "[::1]:8080", False, False),
        ({"CML__DEPLOYMENT": "", "API__BASE_URL": "http://0.0.0.0"}, "0.0.0.0", False, False),
    ],
)
def test_deployment(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], name: str, is_configured: bool, names_one_airflow: bool
) -> None:
    """The name of this Airflow is configured, or its own address; two laptops called localhost are not told apart."""
    for option, value in settings.items():
        monkeypatch.setenv(f"AIRFLOW__{option}", value)

    assert deployment() == (name, is_configured)
    assert (key_of().deployment, key_of().is_configured) == (name, is_configured)
    assert key_of().names_one_airflow is names_one_airflow


@pytest.mark.parametrize(
    ("dag_run", "date"),
    [
        (DagRun(), "2026-11-20T00:00:00.000000+00:00"),
        (DagRun(logical_date=None), "2026-11-21T00:00:00.000000+00:00"),
    ],
)
def test_place_in_line(dag_run: DagRun, date: str) -> None:
    """Tasks line up by the logical date, and by run_after where there is none; as texts that sort as they follow."""
    assert line_date(context_of(TASK, dag_run)) == date


def test_variables_of_a_run() -> None:
    """A run gets Airflow's own variables, but not who owns the DAG, and the author's as text."""
    found = run_variables(context_of(TASK), {"A": 1}, {"B": "hidden"})

    assert found.items() >= {"A": "1", "B": "hidden", "AIRFLOW_CTX_DAG_ID": "risk"}.items()
    assert {"AIRFLOW_CTX_TASK_ID", "AIRFLOW_CTX_DAG_RUN_ID", "AIRFLOW_CTX_TRY_NUMBER"} <= set(found)
    assert not [name for name in found if name.endswith(("_EMAIL", "_OWNER"))]
    assert all(isinstance(value, str) for value in found.values())


def test_private_values_are_masked_before_anything_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's masker knows private values before the first error could name one."""
    masked: list[object] = []
    monkeypatch.setattr(task_context, "mask_secret", masked.append)
    with pytest.raises(CmlInputError, match="A is in environment too"):
        run_variables(context_of(TASK), {"A": "x"}, {"A": "hidden", "B": 12345})

    assert masked == ["hidden", "12345"]
