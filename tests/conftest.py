"""What all tests share: a workspace with a job, an emulator that serves it, and an environment of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis
import pytest

from airflow_provider_cml.emulator import Emulator, Life, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_cml.emulator import Job, Project

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
    """A job whose runs succeed in a moment; `workspace.set_status` gives one another fate."""
    return workspace.add_job(project, "nightly VaR", number=208, life=Life(running=0.05))


@pytest.fixture
def cml(workspace: Workspace) -> Iterator[Emulator]:
    """The workspace, served on 127.0.0.1."""
    with Emulator(workspace) as emulator:
        yield emulator
