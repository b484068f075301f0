"""The one module that knows Airflow versions: every name is there, once, and from where this version keeps it."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_cml import compat
from tests.airflow_side import set_connection

PACKAGE = Path(compat.__file__).parent


def test_every_name_is_there() -> None:
    """What is promised can be imported, but for the names only a type checker needs."""
    missing = {name for name in compat.__all__ if not hasattr(compat, name)}

    assert missing <= {"Connection", "Context", "TaskInstanceKey"}


def test_nobody_else_asks_for_the_version() -> None:
    """Elsewhere nothing is imported from Airflow, but for the policy of 3.3 and the one base that never moved."""
    others = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        guarded = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        found = [
            node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            and id(node) not in guarded
            and (node.module or "").startswith("airflow.")
        ]
        if found:
            others[str(path.relative_to(PACKAGE))] = found

    assert set(others) <= {"compat.py", "retry_policy.py", "triggers/one_event.py", "triggers/event.py"}
    assert others["triggers/one_event.py"] == ["airflow.triggers.base"]  # the same place in every version


def test_classes_are_those_a_dag_file_uses() -> None:
    """Bases and errors are the very classes this Airflow's DAG files and its task runner know."""
    try:
        public: Any = importlib.import_module("airflow.sdk")
    except ImportError:
        operators = importlib.import_module("airflow.models.baseoperator")
        assert compat.BaseOperator is operators.BaseOperator
    else:
        assert compat.BaseOperator is public.BaseOperator
        assert compat.BaseSensorOperator is public.BaseSensorOperator
        assert compat.BaseOperatorLink is public.BaseOperatorLink
    for name in ("AirflowFailException", "AirflowSkipException", "AirflowSensorTimeout"):
        assert issubclass(getattr(compat, name), compat.AirflowException)


def test_connection_is_read_in_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger reads a connection without blocking its loop, natively or in a thread."""
    set_connection(monkeypatch, "some_conn", host="ml.example.com", password="some-key")

    assert inspect.iscoroutinefunction(compat.aget_connection)
    assert asyncio.run(compat.aget_connection("some_conn")).host == "ml.example.com"


def test_secret_is_masked_in_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the loop of a triggerer, where 3.0 cannot tell the process that writes the logs, masking does not raise."""
    if find_spec("airflow.sdk") is None:
        pytest.skip("2.11 masks in one process")
    runner = importlib.import_module("airflow.sdk.execution_time.task_runner")

    class Triggerer:
        def send(self, _: object) -> None:
            raise RuntimeError("You cannot use AsyncToSync in the same thread as an async event loop")

    monkeypatch.setattr(runner, "SUPERVISOR_COMMS", Triggerer(), raising=False)

    async def mask() -> None:
        compat.mask_secret("some-secret-of-a-trigger")

    asyncio.run(mask())


def test_base_url_by_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """3.x calls it [api] base_url, 2.x [webserver] base_url."""
    section = "WEBSERVER" if find_spec("airflow.sdk") is None else "API"
    monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", "https://airflow.example.com")

    assert compat.airflow_base_url() == "https://airflow.example.com"


def test_base_url_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configured address there is none."""
    monkeypatch.setattr(compat.conf, "get", lambda *_, **__: None)

    assert compat.airflow_base_url() == ""


@pytest.mark.parametrize(("stored", "found"), [("https://ml/jobs", "https://ml/jobs"), (None, ""), ("", "")])
def test_xcom_of_another_process(monkeypatch: pytest.MonkeyPatch, stored: str | None, found: str) -> None:
    """A value is asked for by task instance and key; nothing stored is an empty text."""
    try:
        module = importlib.import_module("airflow.sdk.execution_time.xcom")
    except ImportError:
        module = importlib.import_module("airflow.models.xcom")
    values = {("the task instance", "run_url"): stored}
    monkeypatch.setattr(module.XCom, "get_value", lambda *, ti_key, key: values[ti_key, key])
    ti_key: Any = "the task instance"

    assert compat.xcom_value(ti_key, "run_url") == found
