"""One workspace, one Airflow, all scenarios."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from processes import free_ports, running, wait_until
from standalone import airflow_environment

from airflow_provider_cml.emulator import Emulator, Life, Workspace
from tests.airflow.deployment import Deployment
from tests.airflow.leaks import Secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_cml.emulator import Job, Project
    from airflow_provider_cml.emulator.ledger import RunRecord
    from tests.airflow.deployment import Task

DAGS = Path(__file__).parent / "dags"
# By a signal: the other method ends pytest on the spot, and leaves Airflow behind.
SCENARIO = [pytest.mark.airflow, pytest.mark.timeout(1200, method="signal")]
UNTIL_TOLD = Life(running=None)
"""Of runs that go on until the scenario ends them."""
LINEAGE = "lineage.jsonl"
"""The file in Airflow's home to which OpenLineage writes."""
XCOMS_AT_START = {"return_value", "run_key", "project_id", "job_id", "run_url"}
XCOMS_AT_END = {"status", "created_at", "scheduling_at", "starting_at", "running_at", "finished_at"}
"""What the README promises: the first before the first look at the run, the others once it is over."""


@pytest.fixture(scope="session")
def secrets() -> Secrets:
    """Values nobody may find anywhere in Airflow."""
    return Secrets.random()


@pytest.fixture(scope="session")
def cml(secrets: Secrets) -> Iterator[Emulator]:
    """The workspace all scenarios share; each has jobs of its own."""
    with Emulator(Workspace(stopping=1.0), api_key=secrets.api_key, legacy_key=secrets.legacy_key) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def project(cml: Emulator, secrets: Secrets) -> Project:
    """A project whose environment holds a password, as projects do."""
    return cml.workspace.add_project("alice", "Risk Analysis", environment={"DB_PASSWORD": secrets.of_project})


@pytest.fixture(scope="session")
def declare(cml: Emulator, project: Project) -> Callable[..., Job]:
    """A new job; its runs go on until they are told to end, unless it has another life."""

    def declare_job(name: str, life: object = UNTIL_TOLD, **fields: object) -> Job:
        return cml.workspace.add_job(project, name, life=life, **fields)  # type: ignore[arg-type]

    return declare_job


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Print past pytest's capture: progress, and the numbers a scenario measures."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def print_now(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", end="", flush=True)

    return print_now


@pytest.fixture(scope="session")
def airflow(
    cml: Emulator, secrets: Secrets, tmp_path_factory: pytest.TempPathFactory, say: Callable[[str], None]
) -> Iterator[Deployment]:
    """An `airflow standalone` with the scenarios' DAGs and two connections to the workspace."""
    folder = tmp_path_factory.mktemp("deployment")
    ports = free_ports(3)
    environment = airflow_environment(folder / "airflow", DAGS, ports) | {
        "AIRFLOW__CML__DEPLOYMENT": "scenarios",
        # The files do not change; what is not parsed again leaves its time to the tasks.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "SCENARIO_LITERAL": secrets.literal,
        # Of use only where OpenLineage's provider is installed, which is no dependency.
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(folder / "airflow" / LINEAGE), "append": True}
        ),
    }
    standalone = [sys.executable, "-m", "airflow", "standalone"]
    with _ended_by_signals(), running(standalone, environment, folder / "standalone.log") as up:
        deployment = Deployment(ports[0], folder / "airflow", environment, up)
        wait_until(deployment.is_healthy, "Airflow", 300, up)
        names = {"everyday", "told", "killed", "ended", "daily", "troubled", "asked"}
        wait_until(lambda: deployment.has_dags(names), "the DAGs", 120, up)
        for name, fields in _connections(cml, secrets).items():
            deployment.post("connections", {"connection_id": name, **fields})
        deployment.adopt_parts()
        try:
            yield deployment
        finally:
            deployment.close()


@pytest.fixture(autouse=True)
def _nothing_left(airflow: Deployment, cml: Emulator) -> Iterator[None]:
    """What a failed scenario leaves behind takes no worker from the next one."""
    yield
    cml.faults.clear()
    airflow.end_dag_runs()


def wait_for_look(cml: Emulator, task: Task, run: RunRecord) -> None:
    """Wait until somebody has looked at this run once more: its triggerer, if the task is deferred."""

    def looks() -> int:
        return sum(run.id in request.path for request in cml.ledger.requests("GetJobRun"))

    before = looks()
    task.wait_until(lambda: looks() > before, f"a look at the run of {task}")


def _connections(cml: Emulator, secrets: Secrets) -> dict[str, dict[str, str]]:
    v1 = '{"api_version": "v1"}'
    return {
        "cml_default": {"conn_type": "cml", "host": cml.url, "password": cml.api_key},
        "cml_v1": {"conn_type": "cml", "host": cml.url, "password": cml.legacy_key, "extra": v1},
        "warehouse": {"conn_type": "generic", "password": secrets.templated},
    }


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A signal to end leads through every `finally`, so that nothing stays behind."""

    def interrupt(number: int, _: object) -> NoReturn:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
