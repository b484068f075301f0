"""The two drivers: against the emulator and against sockets, each test once for both."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api import transports, v1, v2
from airflow_provider_cml.api.endpoint import ApiVersion, Endpoint
from airflow_provider_cml.api.errors import (
    CmlConnectionError,
    CmlError,
    CmlInputError,
    CmlInterruptedError,
    CmlProtocolError,
    CmlRefusedError,
    CmlResponseTooLargeError,
    CmlServerError,
    CmlUnauthorizedError,
)
from airflow_provider_cml.api.retry import answered
from airflow_provider_cml.api.transports import BODY_LIMIT, AsyncTransport, Transport
from airflow_provider_cml.api.wire import Exchange, Note, Request, Response, Scheme, ask, note, now, pause
from tests.api.listening import HOST, Behaviour, Listener, answer, answering, closed_port, cutting

if TYPE_CHECKING:
    import socket

    from airflow_provider_cml.emulator import Emulator, Job, Project, Workspace
    from tests.api.conftest import Driver

KEY = "0123456789abcdef.key-that-nobody-may-see"
GET = Request("GET", "/api/v2/projects", Scheme.BEARER)

Drive = Callable[[Endpoint], "Driver"]
Listen = Callable[[Behaviour], Listener]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Starts a server that behaves so, until the test is over."""
    with contextlib.ExitStack() as servers:
        yield lambda behave: servers.enter_context(Listener(behave))


def endpoint_of(server: Listener, **settings: Any) -> Endpoint:
    return Endpoint(server.url, **{"key": KEY, **settings})


@pytest.fixture
def v2_endpoint(cml: Emulator) -> Endpoint:
    return Endpoint(cml.url, key=cml.api_key)


@pytest.fixture
def v1_endpoint(cml: Emulator) -> Endpoint:
    return Endpoint(cml.url, ApiVersion.V1, key=cml.legacy_key)


# ------------------------------------------------------------------------------------------------ the emulator


def test_start_and_read_a_run(
    drive: Drive, v2_endpoint: Endpoint, workspace: Workspace, job: Job, project: Project
) -> None:
    """A whole small conversation on v2: key, project, job, run."""
    driver = drive(v2_endpoint)

    owner = driver.perform(v2.validate_api_key())
    found = driver.perform(v2.get_project(project.id))
    jobs = driver.perform(v2.list_jobs(project.id, search_filter={"name": "nightly VaR"}))
    run = driver.perform(v2.create_job_run(project.id, job.id, environment={"A": "ü + & ="}, arguments="--x 'y'"))
    again = driver.perform(v2.get_job_run(project.id, job.id, run.id))

    assert ("alice", True) == (owner.username, owner.valid)
    assert ("risk-analysis", [job.id]) == (found.slug, [item.id for item in jobs.items])
    assert (run.id, "--x 'y'", True) == (again.id, again.arguments, again.echoes)
    assert {"A": "ü + & ="} == workspace.runs[run.id].environment


@pytest.mark.parametrize("environment", [{}, {"A": "b"}])
def test_start_on_v1(
    drive: Drive, v1_endpoint: Endpoint, workspace: Workspace, job: Job, environment: dict[str, str]
) -> None:
    """v1 wants its content type also where there is nothing to say, and answers chunked."""
    engine_id = drive(v1_endpoint).perform(v1.start_job("alice", "risk-analysis", "208", environment))

    assert [(engine_id, environment)] == [(run.engine_id, run.environment) for run in workspace.runs_of(job)]


def test_a_wrong_key(drive: Drive, v2_endpoint: Endpoint) -> None:
    """401 says what to do, and shows no key."""
    with pytest.raises(CmlUnauthorizedError) as caught:
        drive(replace(v2_endpoint, key=KEY)).perform(v2.validate_api_key())

    assert (True, False) == ("Make a new key in CML" in str(caught.value), KEY in str(caught.value))


def test_a_page_behind_a_page(drive: Drive, v2_endpoint: Endpoint, workspace: Workspace, project: Project) -> None:
    """A token of CML goes back as it came."""
    for number in range(1, 4):
        workspace.add_job(project, f"job {number}")
    driver = drive(v2_endpoint)

    first = driver.perform(v2.list_jobs(project.id, sort="+name", page_size=2))
    second = driver.perform(v2.list_jobs(project.id, sort="+name", page_size=2, page_token=first.next_page_token))

    assert ["job 1", "job 2", "job 3"] == [item.name for item in (*first.items, *second.items)]


@pytest.mark.parametrize("status", ["200 OK", "502 Bad Gateway"])
def test_an_address_that_has_answered(v2_endpoint: Endpoint, status: str) -> None:
    """A workspace that answered a moment ago and is away now is not taken for a mistake in the connection."""
    port = closed_port()
    driver = Transport(replace(v2_endpoint, base_url=f"http://{HOST}:{port}"))
    with pytest.raises(CmlConnectionError, match="refused the connection") as never:
        driver.perform(ask(GET))
    with Listener(answering(answer(status=status))) as server:
        driver.endpoint = endpoint_of(server)
        driver.perform(ask(GET))
        driver.close()
    with pytest.raises(CmlConnectionError, match="refused the connection") as away:
        driver.perform(ask(GET))

    assert (True, False) == (never.value.unreachable, away.value.unreachable)
    assert not away.value.sent


# ------------------------------------------------------------------------------------------------ what goes out


@pytest.mark.parametrize(
    "path",
    [
        "/api/v2/projects/a%2Fb",
        "/api/v2/projects/%C3%BC",
        "/api/v2/projects/%252e",
        "/api/v2/projects/%252e%252e/jobs",
        "/api/v2/projects/a%20b%3Fc%23d",
        "/api/v2/projects/x/jobs/y/runs/z:stop",
        "/api/v2/projects/a%3Ab:stop",
        "/api/v2/projects/...",
    ],
)
def test_the_path_arrives_as_it_was_sent(drive: Drive, listen: Listen, path: str) -> None:
    """Neither library decodes, encodes or shortens a path on the way."""
    server = listen(answering(answer()))

    drive(endpoint_of(server)).perform(ask(replace(GET, path=path)))

    assert [path] == [heard.target for heard in server.heard]


def test_the_query_arrives(drive: Drive, listen: Listen) -> None:
    """What has a meaning in a query is encoded."""
    server = listen(answering(answer()))
    query = (("search_filter", '{"name": "a&b=c+d ü"}'), ("sort", "+name,-created_at"), ("page_token", "a/b=="))

    drive(endpoint_of(server)).perform(ask(replace(GET, query=query)))

    _, _, text = server.heard[0].target.partition("?")
    from urllib.parse import parse_qsl

    assert list(query) == parse_qsl(text)
    assert "%2Bname" in text


@pytest.mark.parametrize(("body", "bytes_sent"), [(None, b""), ({}, b"{}"), ({"a": "ü"}, {"a": "ü"})])
def test_the_body_arrives(drive: Drive, listen: Listen, body: dict[str, object] | None, bytes_sent: object) -> None:
    """JSON, with its content type, also if it is empty; nothing where there is none."""
    server = listen(answering(answer()))

    drive(endpoint_of(server)).perform(ask(Request("POST", "/api/v2/x", Scheme.BEARER, json=body)))

    heard = server.heard[0]
    assert ("POST", "application/json") == (heard.method, heard.headers["content-type"])
    assert bytes_sent == (json.loads(heard.body) if isinstance(bytes_sent, dict) else heard.body)


@pytest.mark.parametrize(
    ("settings", "scheme", "header"),
    [
        ({}, Scheme.BEARER, f"Bearer {KEY}"),
        ({"api_version": ApiVersion.V1}, Scheme.BASIC, "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()),
        (
            {"api_version": ApiVersion.V1, "login": "älice", "key": "p:ß"},
            Scheme.BASIC,
            "Basic " + base64.b64encode("älice:p:ß".encode()).decode(),
        ),
    ],
)
def test_the_credential_arrives(
    drive: Drive, listen: Listen, settings: dict[str, Any], scheme: Scheme, header: str
) -> None:
    """Bearer for v2; for v1 Basic with the key as user, or with user and password."""
    server = listen(answering(answer()))

    drive(endpoint_of(server, **settings)).perform(ask(replace(GET, scheme=scheme)))

    assert header == server.heard[0].headers["authorization"]


def test_a_request_for_the_other_api_is_not_sent(drive: Drive, listen: Listen) -> None:
    """A key of one API never travels to the other; the conversation is told where it asked."""
    server = listen(answering(answer()))

    def careful() -> Exchange[str]:
        try:
            yield from ask(replace(GET, scheme=Scheme.BASIC))
        except CmlInputError as error:
            return str(error)
        return ""

    assert "This needs API v1" in drive(endpoint_of(server)).perform(careful())
    assert [] == server.heard


# ------------------------------------------------------------------------------------------------ what comes back


def test_the_answer_as_it_came(drive: Drive, listen: Listen) -> None:
    """Status, headers in lower case, body."""
    server = listen(answering(answer(b"hello", "418 Teapot", "X-Request-ID: abc\r\nContent-Type: text/plain\r\n")))

    response = drive(endpoint_of(server)).perform(ask(GET))

    assert (418, "abc", "text/plain", b"hello") == (
        response.status,
        response.headers["x-request-id"],
        response.headers["content-type"],
        response.body,
    )


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_answer(drive: Drive, listen: Listen, encoding: str) -> None:
    """A gateway may compress."""
    import gzip
    import zlib

    body = json.dumps({"id": "x" * 1000}).encode()
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    server = listen(answering(answer(packed, headers=f"Content-Encoding: {encoding}\r\n")))

    assert body == drive(endpoint_of(server)).perform(ask(GET)).body


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirects_are_not_followed(drive: Drive, listen: Listen, method: str, status: str) -> None:
    """No key and no body travel to another place, and no POST becomes a GET."""
    elsewhere = listen(answering(answer()))
    server = listen(answering(answer(b"", status, f"Location: {elsewhere.url}/api/v2/projects\r\n")))

    with pytest.raises(CmlProtocolError, match=r"a redirect. Redirects are not followed"):
        drive(endpoint_of(server)).perform(answered(replace(GET, method=method, patience=0), lambda _q, _r: None))

    assert ([method], []) == ([heard.method for heard in server.heard], elsewhere.heard)


@pytest.mark.parametrize("location", ["", "http://[", "//", "ftp://x", "http://x:99999", "\xff\xfe", "x" * 5000])
def test_a_redirect_to_nowhere(drive: Drive, listen: Listen, location: str) -> None:
    """Nobody even reads where it leads."""
    server = listen(answering(answer(b"", "302 Found", f"Location: {location}\r\n")))

    with pytest.raises(CmlProtocolError, match="a redirect"):
        drive(endpoint_of(server)).perform(v2.get_project("p", patience=0))


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "500 Internal Server Error"])
def test_an_answer_has_a_limit(drive: Drive, listen: Listen, status: str) -> None:
    """An endless body is given up, whatever the status; memory is not filled by somebody else."""

    def endless(listener: Listener, connection: socket.socket) -> None:
        listener.hear(connection)
        connection.sendall(f"HTTP/1.1 {status}\r\nLocation: /x\r\nContent-Length: {10**12}\r\n\r\n".encode())
        while not listener.over.is_set():
            connection.sendall(b" " * 2**20)

    with pytest.raises(CmlResponseTooLargeError, match="larger than 16 MiB"):
        drive(endpoint_of(listen(endless))).perform(ask(GET))


def test_the_largest_answer(drive: Drive, listen: Listen) -> None:
    """What is within the limit is read."""
    server = listen(answering(answer(b" " * BODY_LIMIT)))

    assert BODY_LIMIT == len(drive(endpoint_of(server)).perform(ask(GET)).body)


@pytest.mark.parametrize("version", ApiVersion)
@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "401 Unauthorized", "503 Unavailable"])
def test_secrets_are_scrubbed(drive: Drive, listen: Listen, version: ApiVersion, status: str) -> None:
    """A careless gateway quotes the request; the key and its Basic form are gone from its answer."""

    def quoting(listener: Listener, connection: socket.socket) -> None:
        while (heard := listener.hear(connection)) is not None:
            connection.sendall(answer(f"bad header: {heard.headers['authorization']} {KEY}".encode(), status))

    server = listen(quoting)
    endpoint = endpoint_of(server, api_version=version)
    exchange: Exchange[Any] = (
        v2.get_project("p", patience=0) if version is ApiVersion.V2 else v1.start_job("o", "p", "1", {})
    )

    with pytest.raises(CmlError) as caught:
        drive(endpoint).perform(exchange)

    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    assert (True, []) == ("***" in shown, [secret for secret in endpoint.secrets if secret in shown])


def test_a_short_password_does_not_spoil_a_document(drive: Drive, listen: Listen) -> None:
    """A user's password on v1 may be any word, and that word part of a good answer."""
    server = listen(answering(answer(b'{"engine_id": "engine"}')))
    endpoint = endpoint_of(server, api_version=ApiVersion.V1, login="alice", key="engine")

    assert "engine" == drive(endpoint).perform(v1.start_job("o", "p", "1", {}))


# ------------------------------------------------------------------------------------------------ connections


def test_connections_are_kept(drive: Drive, listen: Listen) -> None:
    """A hundred looks need one connection, after refusals too."""
    server = listen(answering(*[answer(), answer(b"", "404 Not Found"), answer(b"x" * 100_000)] * 5))
    driver = drive(endpoint_of(server))

    for _ in range(15):
        driver.perform(ask(GET))

    assert (15, 1) == (len(server.heard), server.connections)


def test_a_connection_that_broke_is_replaced(drive: Drive, listen: Listen) -> None:
    """After a failure the next request has a connection of its own."""
    behaviours = iter([cutting(b"x", 50), answering(answer())])

    def in_turn(listener: Listener, connection: socket.socket) -> None:
        next(behaviours)(listener, connection)

    server = listen(in_turn)
    driver = drive(endpoint_of(server))
    with pytest.raises(CmlConnectionError):
        driver.perform(ask(GET))

    assert 200 == driver.perform(ask(GET)).status
    assert 2 == server.connections


def test_a_transport_can_be_used_after_closing(drive: Drive, listen: Listen) -> None:
    """Closing ends connections, not the transport."""
    server = listen(answering(answer()))
    driver = drive(endpoint_of(server))
    driver.perform(ask(GET))
    if driver._blocking is not None:
        driver._blocking.close()
    if driver._awaiting is not None:
        driver._runner.run(driver._awaiting.close())

    assert 200 == driver.perform(ask(GET)).status


@pytest.fixture
async def crowd() -> AsyncIterator[Callable[[Endpoint, int], AsyncTransport]]:
    """Makes transports with so many connections at most."""
    made: list[AsyncTransport] = []

    def make(endpoint: Endpoint, connections: int) -> AsyncTransport:
        made.append(AsyncTransport(endpoint, connections=connections))
        return made[-1]

    yield make
    for transport in made:
        await transport.close()
    await asyncio.sleep(0.01)


async def test_connections_are_bounded(crowd: Callable[[Endpoint, int], AsyncTransport], listen: Listen) -> None:
    """However many conversations run at once, one transport opens a few connections."""

    def slow(listener: Listener, connection: socket.socket) -> None:
        while listener.hear(connection) is not None:
            time.sleep(0.01)
            connection.sendall(answer())

    server = listen(slow)
    transport = crowd(endpoint_of(server), 3)

    answers = await asyncio.gather(*(transport.perform(ask(GET)) for _ in range(30)))

    assert (30, 3) == (len(answers), server.connections)


async def test_waiting_for_a_connection_is_no_failure(
    crowd: Callable[[Endpoint, int], AsyncTransport], listen: Listen
) -> None:
    """A crowd before few connections waits longer than a connect timeout, and nobody fails for it."""

    def slow(listener: Listener, connection: socket.socket) -> None:
        while listener.hear(connection) is not None:
            time.sleep(0.1)
            connection.sendall(answer())

    server = listen(slow)
    transport = crowd(endpoint_of(server, connect_timeout=0.2, read_timeout=5.0), 1)

    answers = await asyncio.gather(*(transport.perform(ask(GET)) for _ in range(6)))

    assert [200] * 6 == [found.status for found in answers]


async def test_pauses_do_not_block_the_loop(crowd: Callable[[Endpoint, int], AsyncTransport]) -> None:
    """A hundred waits pause side by side."""
    transport = crowd(Endpoint("http://127.0.0.1:9", key=KEY), 1)
    began = time.monotonic()

    await asyncio.gather(*(transport.perform(pause(0.1)) for _ in range(100)))

    assert time.monotonic() - began < 2


# ------------------------------------------------------------------------------------------------ conversations


def test_time_pauses_and_notes(drive: Drive) -> None:
    """The clock is monotonic, a pause lasts, a note is handed on."""
    told: list[Note] = []

    def chat() -> Exchange[float]:
        began = yield from now()
        yield from note("hello", warning=True)
        yield from pause(0.05)
        return (yield from now()) - began

    elapsed = drive(Endpoint("http://127.0.0.1:9", key=KEY)).perform(chat(), told.append)

    assert ([Note("hello", warning=True)], True) == (told, 0.05 <= elapsed < 1)


def test_notes_need_no_listener(drive: Drive) -> None:
    """Without one they are dropped."""
    drive(Endpoint("http://127.0.0.1:9", key=KEY)).perform(note("hello"))


def test_a_failure_is_thrown_into_the_conversation(drive: Drive, listen: Listen) -> None:
    """It can go on from there."""
    server = listen(answering(answer(b"{}", "500 Oops"), answer(b'{"id": "p"}')))

    def stubborn() -> Exchange[str]:
        try:
            return (yield from v2.get_project("p", patience=0)).id
        except CmlServerError:
            return (yield from v2.get_project("p", patience=0)).id

    assert "p" == drive(endpoint_of(server)).perform(stubborn())


def test_what_a_conversation_raises_is_raised(drive: Drive, listen: Listen) -> None:
    """With the line of the conversation in its trace."""
    server = listen(answering(answer(b'{"message": "no"}', "404 Not Found")))

    with pytest.raises(CmlRefusedError) as caught:
        drive(endpoint_of(server)).perform(v2.get_project("p"))

    assert "get_project" in [entry.name for entry in caught.traceback]


# ------------------------------------------------------------------------------------------------ a renewed key


def keyed(good: str) -> Behaviour:
    """Open to one key only."""

    def behave(listener: Listener, connection: socket.socket) -> None:
        while (heard := listener.hear(connection)) is not None:
            is_good = heard.headers["authorization"] == f"Bearer {good}"
            connection.sendall(answer(b"{}", "200 OK" if is_good else "401 Unauthorized"))

    return behave


@pytest.mark.parametrize(
    ("renewed", "status", "requests"), [("new", 200, 2), ("old", 401, 1), ("other", 401, 2), (None, 401, 1)]
)
@pytest.mark.parametrize("library", ["requests", "aiohttp"])
async def test_a_key_that_was_changed(
    listen: Listen, library: str, renewed: str | None, status: int, requests: int
) -> None:
    """After a 401 the endpoint is read again, once; only another one is tried."""
    server = listen(keyed("new"))
    old = endpoint_of(server, key="old")

    def renew() -> Endpoint:
        return replace(old, key=renewed or "")

    async def arenew() -> Endpoint:
        return renew()

    if library == "requests":
        transport = Transport(old, renew if renewed else None)
        response = await asyncio.to_thread(transport.perform, ask(GET))
        transport.close()
    else:
        awaiting = AsyncTransport(old, arenew if renewed else None)
        response = await awaiting.perform(ask(GET))
        await awaiting.close()

    assert (status, requests) == (response.status, len(server.heard))


@pytest.mark.parametrize("connections", [20, 1])
async def test_a_key_that_was_changed_under_many_calls(listen: Listen, connections: int) -> None:
    """Whoever is refused with the old key is asked again with the new one, which is read once for all."""
    asked = threading.Barrier(4 if connections > 1 else 1)

    def together(listener: Listener, connection: socket.socket) -> None:
        while (heard := listener.hear(connection)) is not None:
            is_good = heard.headers["authorization"] == "Bearer new"
            if not is_good:
                asked.wait(10)
            connection.sendall(answer(b"{}", "200 OK" if is_good else "401 Unauthorized"))

    old = endpoint_of(listen(together), key="old")
    read: list[Endpoint] = []

    async def renew() -> Endpoint:
        read.append(replace(old, key="new"))
        await asyncio.sleep(0)
        return read[-1]

    transport = AsyncTransport(old, renew, connections)
    answers = await asyncio.gather(*(transport.perform(ask(GET)) for _ in range(4)))
    await transport.close()

    assert ([200] * 4, 1) == ([found.status for found in answers], len(read))


async def test_a_key_that_was_changed_breaks_nothing_off(listen: Listen) -> None:
    """What is under way with the old key is heard to its end; then its connections are closed."""
    is_begun, is_changed, is_closed = threading.Event(), threading.Event(), threading.Event()

    def behave(listener: Listener, connection: socket.socket) -> None:
        while (heard := listener.hear(connection)) is not None:
            is_good = heard.headers["authorization"] == "Bearer new"
            if is_good:
                is_changed.set()
            elif heard.target == "/slow":
                is_begun.set()
                is_changed.wait(10)
            connection.sendall(answer(b"{}", "200 OK" if is_good or heard.target == "/slow" else "401 Unauthorized"))
        if not is_good:
            is_closed.set()

    old = endpoint_of(listen(behave), key="old")

    async def renew() -> Endpoint:
        return replace(old, key="new")

    transport = AsyncTransport(old, renew)
    slow = asyncio.create_task(transport.perform(ask(replace(GET, path="/slow"))))
    await asyncio.to_thread(is_begun.wait, 10)
    quick = await transport.perform(ask(GET))
    answers = [quick.status, (await slow).status]
    was_closed = await asyncio.to_thread(is_closed.wait, 10)
    await transport.close()

    assert ([200, 200], True) == (answers, was_closed)


# ------------------------------------------------------------------------------------------------ being told to end


def test_interrupt_ends_a_pause() -> None:
    """A kill does not wait for the end of a pause, and the conversation asks nothing more."""
    transport = Transport(Endpoint("http://127.0.0.1:9", key=KEY))

    def long() -> Exchange[None]:
        yield from pause(60)
        yield from ask(GET)

    timer = threading.Timer(0.1, transport.interrupt)
    timer.start()
    began = time.monotonic()
    with pytest.raises(CmlInterruptedError):
        transport.perform(long())
    timer.join()

    assert time.monotonic() - began < 5
    with pytest.raises(CmlInterruptedError):
        transport.perform(ask(GET))


# ------------------------------------------------------------------------------------------------ what it loads


def test_nothing_heavy_is_imported_before_a_request() -> None:
    """A DAG file is parsed again and again; requests and aiohttp load when somebody asks CML."""
    program = (
        "import sys, asyncio, airflow_provider_cml.api.transports as t\n"
        "from airflow_provider_cml.api.endpoint import Endpoint\n"
        "t.Transport(Endpoint('https://x')); t.AsyncTransport(Endpoint('https://x'))\n"
        "print([n for n in ('requests', 'urllib3', 'aiohttp', 'yarl', 'certifi', 'tenacity') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


def test_both_transports_have_the_same_public_face() -> None:
    """What one does the other does; only a thread can be interrupted from a signal's handler."""
    faces = [
        {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
        for kind in (Transport, AsyncTransport)
    ]

    assert {"interrupt"} == faces[0] - faces[1]
    assert set() == faces[1] - faces[0]


def test_response_headers_are_lower_case() -> None:
    """Whoever reads a header need not guess how a gateway writes it."""
    endpoint = Endpoint("http://127.0.0.1:9", key=KEY)

    response = transports._response(endpoint, 200, [("Retry-After", "5"), ("DATE", "x")], b"")

    assert Response(200, {"retry-after": "5", "date": "x"}, b"") == response


def test_host_is_the_workspaces(drive: Drive, listen: Listen) -> None:
    """The Host header names the workspace, with its port."""
    server = listen(answering(answer()))

    drive(endpoint_of(server)).perform(ask(GET))

    assert f"{HOST}:{server.port}" == server.heard[0].headers["host"]
