"""No key, private value or project's password is seen anywhere, however a task ends: all modes, both APIs, sockets."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations import posting
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.events import Watched
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from airflow_provider_cml.triggers import cml as triggers
from airflow_provider_cml.triggers import sharing
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger
from tests.airflow_side import PASSWORD, job, log, quick, set_connection
from tests.api.listening import HOST, Listener, answer, closed_port, knowing_no_tls
from tests.leaving import (
    FORMS,
    LITERAL,
    NAMES,
    OPERATORS,
    PRIVATE,
    Heap,
    cml,
    heap,
    impatient,
    operator,
    play,
    set_connections,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange
    from airflow_provider_cml.emulator import Emulator, Job, Workspace
    from tests.api.listening import Behaviour
    from tests.leaving import Make

__all__ = ["cml", "heap", "impatient", "job", "log", "quick"]

SENSORS: dict[str, dict[str, Any]] = {
    "sensor poke": {"mode": "poke"},
    "sensor reschedule": {"mode": "reschedule"},
    "sensor deferred": {"deferrable": True},
}


@pytest.fixture(params=[*OPERATORS, *SENSORS])
def make(request: pytest.FixtureRequest, workspace: Workspace, job: Job) -> Make:
    """Makes the task of each mode; a sensor watches a run that is there already."""
    if request.param in OPERATORS:
        return operator(request.param)
    run = workspace.start(job, environment={"TOKEN": PRIVATE, "OTHER": LITERAL})
    return partial(
        CmlJobRunSensor, task_id="wait", run_id=run.id, poke_interval=0.05, timeout=5, **NAMES, **SENSORS[request.param]
    )


# ---------------------------------------------------------------- endings

TROUBLES: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "success": [],
    "failure": [],
    "401": [("*", "refused", {})],
    "401 later": [("*", "refused", {"after": 4})],
    "403": [("*", "refused", {"status": 403})],
    "500": [("*", "error_before", {"status": 500})],
    "500 to the start": [("CreateJobRun", "error_after", {"status": 500}), ("v1.StartJob", "error_after", {})],
    "422 to the start": [("CreateJobRun", "error_before", {"status": 422}), ("v1.StartJob", "error_before", {})],
    "500 later": [("GetJobRun", "error_after", {"status": 500, "after": 1})],
    "login page": [("*", "html", {"after": 1})],
    "broken JSON": [("*", "broken_json", {"after": 3})],
    "no answer": [("*", "delay_answer", {"seconds": 2, "after": 3})],
    "lost answer": [("CreateJobRun", "drop_after", {"count": 1}), ("v1.StartJob", "drop_after", {})],
    "lost answer, no echo": [("CreateJobRun", "drop_after", {"count": 1}), ("*", "no_echo", {})],
    "busy": [("CreateJobRun", "busy", {"forced": True}), ("v1.StartJob", "busy", {"forced": True})],
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_nothing_is_seen(
    make: Make, cml: Emulator, job: Job, monkeypatch: pytest.MonkeyPatch, heap: Heap, trouble: str
) -> None:
    """Log, XCom, rendered fields, trigger, event, reprs and errors of every ending hold no secret."""
    monkeypatch.setattr(posting, "GRACE", 0.3)
    job.life = Life(running=0.15, ending="failed" if trouble == "failure" else "succeeded")
    for operation, kind, settings in TROUBLES[trouble]:
        cml.fault(operation, kind, **settings)
    play(make, heap, monkeypatch)

    heap.check("alice/risk-analysis", "/api/v")
    assert cml.ledger.requests()


@pytest.mark.parametrize("mode", OPERATORS)
def test_private_values_do_arrive(mode: str, cml: Emulator, job: Job, monkeypatch: Any, heap: Heap) -> None:
    """What is seen nowhere is not missing: the run has it, beside the project's password."""
    play(operator(mode), heap, monkeypatch)
    (run,) = cml.ledger.runs()
    given = {**cml.workspace.projects[job.project_id].environment, **run.environment}

    assert {"TOKEN": PRIVATE, "OTHER": LITERAL, "DB_PASSWORD": PASSWORD}.items() <= given.items()


@pytest.mark.parametrize("trouble", ["unknown host", "closed port", "TLS", "no TLS", "proxy"])
def test_nothing_is_seen_where_nothing_answers(
    make: Make, monkeypatch: pytest.MonkeyPatch, heap: Heap, trouble: str
) -> None:
    """Nor where a connection fails before anything is sent; the proxy's password is a secret, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(HOST).configure_cert(context)
    with Listener(knowing_no_tls, context if trouble == "TLS" else None) as server:
        address = {
            "unknown host": "https://workspace.invalid",
            "closed port": f"http://{HOST}:{closed_port()}",
            "TLS": server.url,
            "no TLS": server.url.replace("http:", "https:"),
            "proxy": "https://workspace.invalid",
        }[trouble]
        proxy = {"proxy": f"{HOST}:{closed_port()}", "proxy_user": "airflow", "proxy_password": LITERAL}
        set_connections(monkeypatch, address, **(proxy if trouble == "proxy" else {}))
        play(make, heap, monkeypatch)

    heap.check("alice/risk-analysis", address)
    assert server.heard == []


@pytest.mark.parametrize("address", ["http://airflow:{}@127.0.0.1:99999", "http://airflow:{}/x@127.0.0.1:9", "{}"])
def test_nothing_is_seen_of_the_environments_proxy(
    make: Make, monkeypatch: pytest.MonkeyPatch, heap: Heap, address: str
) -> None:
    """The machine's own proxy may have a password, too, and an address that no library can read; each quotes it."""
    set_connections(monkeypatch, "https://workspace.invalid")
    monkeypatch.setenv("HTTPS_PROXY", address.format(LITERAL))
    play(make, heap, monkeypatch)

    heap.check("alice/risk-analysis", "https://workspace.invalid", "HTTPS_PROXY")


def echoing(status: str, *, reads: str | None = None) -> Behaviour:
    """A careless gateway: it shows the whole request in its answer. `reads` is what it answers to a GET instead."""

    def behave(listener: Listener, connection: socket.socket) -> None:
        while (heard := listener.hear(connection)) is not None:
            sent = json.loads(heard.body or b"{}").get("environment", {}).values()
            text = f"cannot serve {heard.headers['authorization']} {' '.join(reversed(sent))}"
            body = text if reads is None or heard.method != "GET" else reads
            code = status if body is text else "200 OK"
            connection.sendall(answer(body.encode(), code, "Content-Type: text/plain\r\n"))

    return behave


SUMMARY = {"id": "aaaa-bbbb-cccc-dddd", "slug_raw": "risk-analysis", "owner": {"username": "alice"}}
LISTS = {"projects": [SUMMARY], "jobs": [{**SUMMARY, "name": "nightly VaR"}], "job_runs": []}


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "401 Unauthorized", "500 Internal Server Error"])
@pytest.mark.parametrize("whom", ["everybody", "those who start"])
def test_gateway_that_shows_the_request(
    make: Make, monkeypatch: pytest.MonkeyPatch, heap: Heap, status: str, whom: str
) -> None:
    """An answer that quotes the request, key and variables and all, is not passed on."""
    reads = {**LISTS, "id": "r", "status": "ENGINE_RUNNING"}
    with Listener(echoing(status, reads=None if whom == "everybody" else json.dumps(reads))) as server:
        set_connections(monkeypatch, server.url, timeout=0.3)
        play(make, heap, monkeypatch)

    heap.check("alice/risk-analysis")
    assert any(FORMS["key"] in str(heard) or FORMS["key in Basic"] in str(heard) for heard in server.heard)


# ---------------------------------------------------------------- kills


def test_nothing_is_seen_of_a_killed_task(cml: Emulator, job: Job, heap: Heap, monkeypatch: Any) -> None:
    """A kill while waiting stops the run, and neither its log nor the error holds a secret."""
    job.life = Life(running=None)
    tasks: list[Any] = []

    def make() -> Any:
        tasks.append(operator("operator")())
        return tasks[-1]

    def kill() -> None:
        wait_for(lambda: cml.ledger.count("GetJobRun") > 0)
        tasks[-1].on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    play(make, heap, monkeypatch)
    killer.join()

    heap.check("told to end", cml.ledger.runs()[0].id)
    assert cml.ledger.count("StopJobRun") == 1


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("answered", [True, False], ids=["stopped", "not answered"])
def test_nothing_is_seen_of_a_killed_trigger(
    cml: Emulator, workspace: Workspace, job: Job, heap: Heap, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    """A trigger that is cancelled, and stops its run, tells of it without a secret."""
    job.life = Life(running=None)
    run = workspace.start(job, environment={"TOKEN": PRIVATE, "OTHER": LITERAL})
    if not answered:
        cml.fault("StopJobRun", "error_after", status=500)

    async def failed(_ti: object) -> str:
        return "failed"

    async def live_and_die() -> None:
        watched = Watched(job.project_id, job.id, run.id)
        trigger = CmlJobRunTrigger("cml_default", watched.to_json(), 0.05, cancel_on_kill=True)
        trigger.task_instance = None
        heap.add(trigger, vars(trigger), trigger.serialize())
        waiting_task = asyncio.ensure_future(anext(aiter(trigger.run())))
        await asyncio.to_thread(wait_for, lambda: cml.ledger.count("GetJobRun") > 0)
        waiting_task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting_task
        await trigger.on_kill()

    monkeypatch.setattr(triggers, "task_state", failed)
    asyncio.run(live_and_die())

    heap.check(run.id)
    assert cml.ledger.count("StopJobRun") >= 1


# ---------------------------------------------------------------- the hook


@pytest.mark.parametrize("conn_id", ["cml_default", "cml_v1"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_verdict_of_the_button_holds_no_secret(cml: Emulator, heap: Heap, trouble: str, conn_id: str) -> None:
    """Airflow shows what the test button says, and logs it."""
    for operation, kind, settings in TROUBLES[trouble]:
        cml.fault(operation, kind, **{**settings, "after": 0})
    hook = CmlHook(conn_id)
    heap.add(hook, hook.test_connection(), hook.endpoint, hook.get_conn())

    heap.check(cml.url)


@pytest.mark.parametrize("conn_id", ["cml_default", "cml_v1"])
@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "500 Internal Server Error"])
def test_verdict_on_a_gateway_that_shows_the_request(
    monkeypatch: pytest.MonkeyPatch, heap: Heap, status: str, conn_id: str
) -> None:
    """Nor does the button pass a quoted request on."""
    with Listener(echoing(status)) as server:
        set_connections(monkeypatch, server.url)
        heap.add(CmlHook(conn_id).test_connection())

    heap.check(status[:3])


# ---------------------------------------------------------------- credentials do not meet


def test_pools_are_of_one_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one triggerer two keys for one workspace never share a connection, though they ask the same."""
    seen: dict[int, set[str]] = {}

    def behave(listener: Listener, connection: socket.socket) -> None:
        while (heard := listener.hear(connection)) is not None:
            key = heard.headers["authorization"].removeprefix("Bearer ")
            seen.setdefault(id(connection), set()).add(key)
            fields = {"id": "r", "status": "ENGINE_SUCCEEDED", "arguments": f"for {key}"}
            connection.sendall(answer(json.dumps(fields).encode()))

    def question() -> Exchange[JobRun]:
        return v2.get_job_run("aaaa-bbbb-cccc-dddd", "aaaa-bbbb-cccc-dddd", "r" * 16)

    async def answers() -> list[str]:
        names = ["one", "other", "one", "same_as_one"] * 12
        found = await asyncio.gather(*(sharing.perform(name, question, lambda _note: None) for name in names))
        return [run.arguments for run in found]

    with Listener(behave) as server:
        for name, key in {"one": "key-one", "other": "key-other", "same_as_one": "key-one"}.items():
            set_connection(monkeypatch, name, host=server.url, password=key)
        told = asyncio.run(answers())

    assert told == ["for key-one", "for key-other", "for key-one", "for key-one"] * 12
    assert all(len(keys) == 1 for keys in seen.values())
    assert len(seen) < len(server.heard) == len(told), "no connection was shared, so nothing was tried"
