"""Private values of mapped tasks and of a DAG's defaults: Airflow writes into its database what these are given."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.operators.cml import CmlRunJobOperator
from tests.airflow_side import context_of
from tests.leaving import LITERAL, NAMES, PRIVATE, VARIABLES, Warehouse, cml, impatient, operator

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job

__all__ = ["cml", "impatient"]


def serialized(dag: Any) -> str:
    """What Airflow writes of a DAG into its database."""
    module = import_module("airflow.serialization.serialized_objects")
    serializer = getattr(module, "DagSerialization", None) or module.SerializedDAG
    return json.dumps(serializer.to_dict(dag), default=str)


@pytest.fixture
def dag() -> Any:
    try:
        from airflow.sdk import DAG
    except ImportError:
        from airflow.models.dag import DAG  # type: ignore[assignment,unused-ignore]
    return DAG("risk", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=None)


def test_only_mapped_literals_stand_in_the_database(dag: Any) -> None:
    """Airflow stores what `.partial()` and `.expand()` are given, and nothing of a task's own private values."""
    with dag:
        operator("operator")()
        assert LITERAL not in serialized(dag)
        assert "warehouse" not in serialized(dag)
        CmlRunJobOperator.partial(task_id="mapped", private_environment=VARIABLES, **NAMES).expand(
            environment=[{"YEAR": "2007"}]
        )

    assert LITERAL in serialized(dag)
    assert PRIVATE not in serialized(dag)


@pytest.mark.parametrize(
    ("private", "names"),
    [
        ({"TOKEN": "{{ warehouse.password }}"}, None),
        ({"TOKEN": "{% if true %}{{ warehouse.password }}{% endif %}"}, None),
        (VARIABLES, "OTHER"),
        ({"B": LITERAL, "A": 12345678}, "A, B"),
        (None, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("how", ["partial", "expand", "default_args", "not mapped"])
def test_mapped_literals_are_warned_about(
    dag: Any,
    cml: Emulator,
    job: Job,
    log: pytest.LogCaptureFixture,
    private: dict[str, Any] | None,
    names: str | None,
    how: str,
) -> None:
    """A task whose literal Airflow writes down says that it stands in clear, by name, and not by its value."""
    own = {"task_id": "mapped", "poll_interval": 0.05, **NAMES}
    expanded = {"private_environment" if how == "expand" else "environment": [private if how == "expand" else {}]}
    partial_of = {} if how == "expand" else {"private_environment": private}
    if how == "default_args":
        dag.default_args["private_environment"] = private
        partial_of = {}
    with dag:
        if how in {"default_args", "not mapped"}:
            task = CmlRunJobOperator(**own, **partial_of)
        else:
            mapped = CmlRunJobOperator.partial(**own, **partial_of).expand(**expanded)
            task = mapped.unmap({name: values[0] for name, values in expanded.items()})
    context = context_of(task, map_index=0) | {"warehouse": Warehouse()}
    task.render_template_fields(context)
    task.execute(context)

    warned = [record.getMessage() for record in log.records if "stand in clear" in record.getMessage()]
    if names is None or how == "not mapped":
        assert warned == []
    else:
        assert [f"private_environment: the values of {names} stand in clear in Airflow's database"] == [
            text.partition(",")[0] if "," not in names else text.partition(", because")[0] for text in warned
        ]
    assert LITERAL not in log.text
    assert (LITERAL in serialized(dag)) is (how != "not mapped" and LITERAL in str(private))
