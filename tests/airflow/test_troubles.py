"""However a task ends, nobody finds a secret in what Airflow keeps: logs, XCom, tables, triggers, pages."""

from __future__ import annotations

import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from airflow_provider_cml.emulator import Emulator, Life, Workspace
from tests.airflow.conftest import SCENARIO
from tests.airflow.deployment import OVER
from tests.airflow.leaks import files_with, tables_with, triggers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_cml.emulator import Job
    from tests.airflow.deployment import Deployment
    from tests.airflow.leaks import Secrets

pytestmark = SCENARIO

TROUBLES: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "refused": [("*", "refused", {})],
    "broken": [("*", "error_before", {"status": 500})],
    "untrusted": [],
    "silent": [("*", "delay_answer", {"seconds": 5})],
    "lost": [("CreateJobRun", "drop_after", {}), ("v1.StartJob", "drop_after", {})],
    "refused_later": [("GetJobRun", "refused", {})],
    "broken_later": [
        ("GetJobRun", "error_after", {"status": 500, "count": 2, "job": name}) for name in ("sync", "deferred", "seen")
    ],
}
GREEN = {"lost_sync", "lost_deferred", "lost_sensor", "broken_later_sync", "broken_later_deferred"}
"""The run of a lost answer is found, and followed to its end; so is one that could not be looked at for a while."""
WORDS = {
    "refused": "was refused with 401",
    "broken": "500",
    "untrusted": "ca_bundle",
    "silent": "did not answer",
    "lost": "lost",
    "refused_later": "was refused with 401",
}
"""What tells in the log of a task that failed that it met its trouble."""


@pytest.fixture(scope="module")
def troubles(airflow: Deployment, secrets: Secrets) -> Iterator[dict[str, Emulator]]:
    """A workspace for each trouble, and connections to it through both APIs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    keys = {"api_key": secrets.api_key, "legacy_key": secrets.legacy_key}
    with ExitStack() as stack:
        served = {}
        for name, faults in TROUBLES.items():
            workspace = Workspace(stopping=0.5)
            project = workspace.add_project("alice", "Risk Analysis", environment={"DB_PASSWORD": secrets.of_project})
            jobs = {job: workspace.add_job(project, job, life=Life(running=3.0)) for job in ("sync", "deferred")}
            workspace.add_job(project, "through v1", number=208, life=Life(running=3.0))
            jobs["seen"] = workspace.add_job(project, "seen", life=Life(running=1.0 if name == "lost" else None))
            workspace.start(jobs["seen"])
            tls = context if name == "untrusted" else None
            cml = served[name] = stack.enter_context(Emulator(workspace, ssl_context=tls, **keys))
            for operation, kind, given in faults:
                settings = dict(given)
                job = settings.pop("job", None)
                cml.fault(operation, kind, **settings, **({"match": jobs[job].id} if job else {}))
            for suffix, key, version in (("", cml.api_key, "v2"), ("_v1", cml.legacy_key, "v1")):
                connect(airflow, f"troubled_{name}{suffix}", cml.url, key, version)
        yield served


def connect(airflow: Deployment, name: str, host: str, key: str, version: str) -> None:
    extra = f'{{"api_version": "{version}", "timeout": 1}}'
    body = {"connection_id": name, "conn_type": "cml", "host": host, "password": key, "extra": extra}
    airflow.post("connections", body)


def test_no_trouble_shows_a_secret(airflow: Deployment, troubles: dict[str, Emulator], secrets: Secrets) -> None:
    """401, 500, TLS, silence and a lost answer, at once or while waiting: in worker, triggerer, and through v1."""
    dag_run = airflow.trigger("troubled", "one")
    airflow.wait("the end of troubled", lambda: dag_run.state() in OVER, 420)
    states = {found["task_id"]: found["state"] for found in dag_run.tasks()}

    assert {name for name, state in states.items() if state == "success"} == GREEN, states
    assert len(states) == 3 * len(TROUBLES) + 5
    for name in states.keys() - GREEN:
        words = WORDS.get(name.rpartition("_")[0], "")
        assert words in "\n".join(dag_run.task(name).log()), name
    for cml in troubles.values():
        assert [fault for fault in cml.faults.listing() if not fault["fired"]] == []
    nothing_is_seen(airflow, secrets)


def test_no_kill_shows_a_secret(
    airflow: Deployment, cml: Emulator, declare: Callable[..., Job], secrets: Secrets
) -> None:
    """A task marked failed while it waits: not while its trigger stands in the database, and not after the stop."""
    jobs = {name: declare(f"killed with secrets {name}") for name in ("sync", "deferred")}
    dag_run = airflow.trigger("killed_with_secrets", "one")
    tasks = {name: dag_run.task(name) for name in jobs}
    tasks["sync"].wait_until(lambda: "run_url" in tasks["sync"].xcoms(), "the run of the sync task")
    tasks["deferred"].wait_for("deferred")
    tasks["deferred"].wait_until(lambda: tasks["deferred"].triggerer() is not None, "a triggerer")
    (run,) = cml.ledger.runs(jobs["deferred"].id)
    assert {secrets.templated, secrets.literal} <= set(run.environment.values())
    triggers = triggers_of(airflow.home)
    assert [text for text in triggers if run.id in text]
    assert not [name for name, value in secrets.forms().items() if value.decode() in "\n".join(triggers)]

    for name, task in tasks.items():
        task.mark("failed")
        job = jobs[name]
        task.wait_until(lambda job=job: cml.ledger.runs(job.id)[0].stop_requests == 1, f"the stop of {name}")
    nothing_is_seen(airflow, secrets)


def nothing_is_seen(airflow: Deployment, secrets: Secrets) -> None:
    """Neither in a table, nor in any file: logs of tasks, triggerer and API server are among them."""
    database = airflow.home / "airflow.db"
    assert {"connection.host", "log.event"} <= set(tables_with([b"http", b"trigger"], database))
    for name, value in secrets.forms().items():
        assert not tables_with([value], database), name
        assert not files_with(value, airflow.home.parent), name
