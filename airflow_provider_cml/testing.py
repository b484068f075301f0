"""A CML workspace for the tests of your DAGs: fixtures for pytest, which you have to install yourself.

The law: nothing starts when this is imported, Airflow included, and after a test everything is as it was before it.
Nothing of the package imports it; a `conftest.py` does, with one line:

    pytest_plugins = ["airflow_provider_cml.testing"]
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from airflow_provider_cml.emulator import Emulator, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["cml", "cml_workspace"]


@pytest.fixture
def cml_workspace() -> Workspace:
    """What `cml` serves: an empty workspace.

    Define a fixture of this name to serve another one, such as `airflow_provider_cml.emulator.load_workspace(folder)`,
    whose jobs run the scripts of that folder.
    """
    return Workspace()


@pytest.fixture
def cml(cml_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A workspace on localhost, and the Airflow connections `cml_default` (API v2) and `cml_v1` to it.

    The connections are in the environment, where Airflow looks before it asks its database. A DAG with one of another
    name gets it from `monkeypatch.setenv("AIRFLOW_CONN_<NAME>", cml.connection())`.
    """
    with Emulator(cml_workspace) as emulator:
        monkeypatch.setenv("AIRFLOW_CONN_CML_DEFAULT", emulator.connection())
        monkeypatch.setenv("AIRFLOW_CONN_CML_V1", emulator.connection("v1"))
        for name in ("NO_PROXY", "no_proxy"):  # the way to this machine leads through no proxy
            monkeypatch.setenv(name, ",".join(filter(None, [os.environ.get(name), "127.0.0.1"])))
        yield emulator
