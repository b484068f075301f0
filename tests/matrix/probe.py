"""One process per row, inside its environment: imports, the form, the example DAGs, and the tests that face Airflow.

    python -W error::DeprecationWarning probe.py STAGE ANSWER '{"run_examples": true, "tests": [...]}'

Knows nothing of the matrix: it imports Airflow, the installed package, and what the staged tests bring. The tests come
last, because their conftest.py gives this process another home.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "airflow_provider_cml"
DATES = {"example_cml_daily": datetime(2018, 7, 3, tzinfo=UTC)}


def import_all() -> str:
    """Every module of the package; a deprecated import, ours or on the way, is an error."""
    package = importlib.import_module(PACKAGE)
    assert "site-packages" in str(package.__file__), f"{package.__file__} is not what the wheel brought"
    # 3.1 and newer warn of old places with a FutureWarning.
    warnings.filterwarnings("error", category=FutureWarning, message=".*deprecated")
    names = [found.name for found in pkgutil.walk_packages(package.__path__, f"{PACKAGE}.")]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    return f"{len(names)} ok"


def see_form() -> str:
    """What the user interface asks for is there: the connection type, every field of the form, every label."""
    from airflow.providers_manager import ProvidersManager

    from airflow_provider_cml.connection import FIELD_BEHAVIOUR, FORM, HOOK_NAME

    known = set(sys.modules)
    try:
        service = importlib.import_module("airflow.api_fastapi.core_api.services.ui.connections").HookMetaService
    except ImportError:  # 2.11
        manager = ProvidersManager()
        manager.initialize_providers_hooks()
        widgets = manager.connection_form_widgets
        prefix = "extra__cml__"
        shown = {
            name.removeprefix(prefix): str(widget.field.kwargs["label"])
            for name, widget in widgets.items()
            if name.startswith(prefix)
        }
        password = manager.field_behaviours["cml"]["relabeling"]["password"]
    else:
        # Before anything else asks: 3.1 builds the form with stand-ins for a web framework, if it is the first to.
        (meta,) = [each for each in service.hook_meta_data() if each.connection_type == "cml"]
        shown = {name: field["schema"]["title"] for name, field in (meta.extra_fields or {}).items()}
        password = meta.standard_fields.password.title
        for name in set(sys.modules) - known:
            if isinstance(sys.modules[name], Mock):  # left there by 3.1
                del sys.modules[name]
    hook: Any = ProvidersManager().hooks.get("cml")
    assert hook, "the connection type is unknown"
    assert (hook.hook_class_name, hook.hook_name) == (f"{PACKAGE}.hooks.cml.CmlHook", HOOK_NAME)
    wanted = {name: field["label"] for name, field in FORM.items()}
    assert list(shown.items()) == list(wanted.items()), f"the form shows {shown}"
    assert password == FIELD_BEHAVIOUR["relabeling"]["password"], f"the password is called {password}"
    return f"{len(shown)} fields"


def examples(folder: Path, *, run: bool) -> str:
    """The example DAGs are parsed without an error, and each run to its end as `airflow dags test` does."""
    try:
        bag_of = importlib.import_module("airflow.dag_processing.dagbag").DagBag
    except ImportError:  # before 3.2
        bag_of = importlib.import_module("airflow.models.dagbag").DagBag
    bag = bag_of(str(folder))
    assert not bag.import_errors, bag.import_errors
    wanted = sorted(path.stem for path in folder.glob("*.py"))
    assert sorted(bag.dags) == wanted, f"found {sorted(bag.dags)}"
    if not run:
        return f"{len(wanted)} parsed"
    importlib.import_module("airflow.utils.db").initdb()
    for name, dag in bag.dags.items():
        date = next(iter({"logical_date", "execution_date"} & inspect.signature(dag.test).parameters.keys()))
        state = dag.test(**({date: DATES[name]} if name in DATES else {})).state
        assert state == "success", f"{name} is {state}"
    return f"{len(wanted)} run"


class Count:
    """What became of the tests."""

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] = self.outcomes.get(report.outcome, 0) + 1


def run_tests(stage: Path, names: list[str]) -> str:
    """The staged tests, on the package that is installed."""
    if not names:
        return "by make test"
    import pytest

    count = Count()
    paths = [str(stage / name) for name in names]
    # What Airflow has loaded already, pytest cannot rewrite any more, and says so. The plugin of anyio, which Airflow
    # brings and nobody here uses, may be too old for the pytest of today.
    options = [
        "-q",
        "-n",
        "2",
        "--durations=12",
        "-p",
        "no:anyio",
        "-W",
        "ignore:Module already imported so cannot be rewritten",
    ]
    configuration = ["--rootdir", str(stage), "-c", str(stage / "pyproject.toml")]
    found = pytest.main([*options, *configuration, *paths], plugins=[count])
    failed = count.outcomes.get("failed", 0)
    assert found == 0, f"pytest ended with {found}, {failed} failed"
    skipped = count.outcomes.get("skipped", 0)
    return f"{count.outcomes['passed']} passed" + (f", {skipped} n/a" if skipped else "")


def main() -> None:
    stage, answer, wanted = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    steps: dict[str, Callable[[], str]] = {
        "imports": import_all,
        "form": see_form,
        "examples": lambda: examples(stage / "example_dags", run=wanted["run_examples"]),
        "tests": lambda: run_tests(stage, wanted["tests"]),
    }
    told = {}
    for name, step in steps.items():
        try:
            told[name] = step()
        except BaseException as error:  # noqa: BLE001
            traceback.print_exc()
            told[name] = f"FAILED: {error or type(error).__name__}"[:200]
        answer.write_text(json.dumps(told))
        if name == "imports":
            warnings.resetwarnings()
            warnings.simplefilter("ignore")


if __name__ == "__main__":
    main()
