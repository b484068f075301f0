"""An emulator per test, a clock that tests move, and a client that knows nothing but HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_cml.emulator import Emulator, Life, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_cml.emulator import Job, Project, Run


class ManualClock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class Client:
    """Requests to one emulator, with its v2 key unless told otherwise."""

    def __init__(self, cml: Emulator) -> None:
        self.cml = cml
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {cml.api_key}"

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        arguments.setdefault("timeout", 10)
        arguments.setdefault("allow_redirects", False)
        return self.session.request(method, self.cml.url + path, **arguments)

    def get(self, path: str, **query: object) -> requests.Response:
        return self.call("GET", path, params=query)

    def post(self, path: str, document: object = None) -> requests.Response:
        return self.call("POST", path, json={} if document is None else document)

    @staticmethod
    def runs(job: Job) -> str:
        return f"/api/v2/projects/{job.project_id}/jobs/{job.id}/runs"

    def start(self, job: Job, document: object = None) -> requests.Response:
        return self.post(self.runs(job), document)

    def run(self, job: Job, run_id: str) -> requests.Response:
        return self.get(f"{self.runs(job)}/{run_id}")

    def start_v1(self, path: str = "alice/risk-analysis/jobs/208", **arguments: Any) -> requests.Response:
        arguments = {"auth": (self.cml.legacy_key, ""), "json": {}, **arguments}
        return self.call("POST", f"/api/v1/projects/{path}/start", **arguments)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def workspace() -> Workspace:
    return Workspace(stopping=0.05)


@pytest.fixture
def project(workspace: Workspace) -> Project:
    return workspace.add_project("alice", "Risk Analysis", environment={"DB_PASSWORD": "hunter2", "LEVEL": "project"})


@pytest.fixture
def job(workspace: Workspace, project: Project) -> Job:
    """A job whose runs go on until they are moved by hand."""
    return workspace.add_job(project, "nightly VaR", number=208, environment={"LEVEL": "job"}, life=Life(running=None))


@pytest.fixture
def cml(workspace: Workspace) -> Iterator[Emulator]:
    with Emulator(workspace) as emulator:
        yield emulator


@pytest.fixture
def client(cml: Emulator) -> Iterator[Client]:
    client = Client(cml)
    with client.session:
        yield client


@pytest.fixture
def client_of() -> Iterator[Callable[[Emulator], Client]]:
    """Clients of emulators that a test starts itself."""
    clients: list[Client] = []

    def make(cml: Emulator) -> Client:
        clients.append(Client(cml))
        return clients[-1]

    yield make
    for client in clients:
        client.session.close()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait for something that other threads or processes do."""

    def wait(condition: Callable[[], object], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.01)

    return wait


@pytest.fixture
def status_after(workspace: Workspace) -> Callable[[Run], str]:
    """What a run has become by now."""

    def status(run: Run) -> str:
        workspace.advance()
        return str(run.status)

    return status
