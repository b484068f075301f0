"""What all tests share: a workspace with a job, an emulator that serves it, and an environment of their own."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import hypothesis
import pytest

from airflow_provider_cml.emulator import Emulator, Life, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_cml.emulator import Job, Project

# Before anything imports Airflow: nobody's own configuration or database is read or written.
for _name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[_name]
_HOME = tempfile.mkdtemp(prefix="airflow-home-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ |= {"AIRFLOW_HOME": _HOME, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

_NETWORK_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def _own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no bundle of whoever runs the tests."""
    for name in _NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def workspace() -> Workspace:
    """A workspace in memory; stopping takes a moment."""
    return Workspace(stopping=0.05)


@pytest.fixture
def project(workspace: Workspace) -> Project:
    """A project whose environment holds a password, as projects do."""
    return workspace.add_project("alice", "Risk Analysis", environment={"DB_PASSWORD": "project-hunter2"})


@pytest.fixture
def job(workspace: Workspace, project: Project) -> Job:
    """A job whose runs succeed in a moment, long enough for another start to find it busy.

    `workspace.set_status` gives a run another fate.
    """
    return workspace.add_job(project, "nightly VaR", number=208, life=Life(running=0.25))


@pytest.fixture
def cml(workspace: Workspace) -> Iterator[Emulator]:
    """The workspace, served on 127.0.0.1."""
    with Emulator(workspace) as emulator:
        yield emulator
