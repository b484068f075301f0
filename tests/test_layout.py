"""The tree: every module has its tests and the reverse, and each says what it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import airflow_provider_cml

PACKAGE = Path(airflow_provider_cml.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
TEST_MODULES = sorted(path.relative_to(TESTS) for path in TESTS.rglob("test_*.py"))

TESTED_ELSEWHERE = {
    "hooks/task.py": "operators/test_cml.py",  # what operator and sensor ask of it
    "operators/attempt.py": "operators/test_cml.py",  # what the operator does
    "operators/execution.py": "operators/test_cml.py",
    "operators/variables.py": "operators/test_cml_environment.py",
    "sensors/since.py": "sensors/test_cml.py",
    "sensors/watch.py": "sensors/test_cml.py",  # what the sensor does
    "sensors/verdict.py": "test_endings.py",
    "sensors/target.py": "sensors/test_cml_since.py",
    "triggers/one_event.py": "triggers/test_cml.py",
    "api/conversations/starting_v1.py": "test_legacy.py",
    "api/conversations/by_name.py": "hooks/test_cml_async.py",
    "api/sessions.py": "api/test_transports.py",  # what they carry, and where they go
    "emulator/calls.py": "emulator/test_routes_v2.py",  # seen through the routes
    "emulator/keys.py": "emulator/test_server.py",
    "emulator/objects.py": "emulator/test_workspace.py",
    "emulator/prospects.py": "emulator/test_engine.py",
    "emulator/registry.py": "emulator/test_workspace.py",
    "emulator/routing.py": "emulator/test_server.py",
    "emulator/starting.py": "emulator/test_routes_v2.py",
}
"""Modules without a test module of their own, and where they are tested."""

OF_NO_MODULE = {
    "test_layout.py": "the tree",
    "test_provider.py": "the package as Airflow sees it",
    "test_example_dags.py": "example_dags/",
    "test_packaging.py": "wheel and sdist",
    "test_changed_key.py": "a key that is changed while a task waits in its worker",
    "test_endings.py": "how a task ends, in every mode",
    "test_failed_tasks.py": "what Airflow keeps and tells of tasks that failed",
    "test_public_api.py": "every name that others may rely on",
    "test_readme.py": "README.md",
    "test_secrets.py": "every secret, through all layers",
    "api/conversations/test_starting_identity.py": "starts beside other Airflows, copies and iterations",
    "api/test_bad_answers.py": "every exchange, whatever is answered",
    "hooks/test_tls.py": "TLS, from the hook to the wire",
    "triggers/test_waiters.py": "a thousand waiters in one loop",
}
"""Test modules that test no single module."""
OF_NO_PACKAGE = ("airflow", "bench", "chaos", "demo", "matrix", "removals", "api/exactly_once")
"""Folders of tests of the whole."""


def named_after(module: Path) -> list[Path]:
    """The test modules that carry a module's name: `hooks/cml.py` has `hooks/test_cml.py` and `hooks/test_cml_*.py`."""
    stem = module.stem.strip("_")
    return [
        path for path in TEST_MODULES if path.parent == module.parent and f"{path.stem}_".startswith(f"test_{stem}_")
    ]


@pytest.mark.parametrize("module", [path for path in MODULES if path.name != "__init__.py"], ids=str)
def test_module_has_its_tests(module: Path) -> None:
    """A module is tested by the module of its name, or by the one that is listed."""
    elsewhere = TESTED_ELSEWHERE.get(module.as_posix())

    if named_after(module):
        assert elsewhere is None, "it has tests of its own: take it off the list"
    else:
        assert elsewhere is not None
        assert (TESTS / elsewhere).exists()


@pytest.mark.parametrize("test_module", TEST_MODULES, ids=str)
def test_tests_have_their_module(test_module: Path) -> None:
    """A test module carries the name of the module it tests, or is listed with what it tests."""
    if any(test_module.is_relative_to(folder) for folder in OF_NO_PACKAGE):
        return
    owners = [module for module in MODULES if test_module in named_after(module)]

    assert owners or test_module.as_posix() in OF_NO_MODULE


def test_lists_name_what_is_there() -> None:
    """The list above names no module that is gone."""
    names = {path.as_posix() for path in MODULES}

    assert set(TESTED_ELSEWHERE) <= names


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_module_says_what_it_is(module: Path) -> None:
    """A module opens with a docstring that is a sentence."""
    text = (PACKAGE / module).read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""

    assert docstring.partition("\n\n")[0].rstrip().endswith((".", "`"))
