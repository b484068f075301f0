"""Every exchange and every conversation, whatever is answered: a value or an error of `api.errors`, and an end."""

from __future__ import annotations

import contextlib
import gzip
import inspect
import itertools
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_cml.api import v1, v2
from airflow_provider_cml.api.conversations import (
    endings,
    finding,
    starting,
    starting_v1,
    waiting,
    watching,
)
from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.history import History
from airflow_provider_cml.api.conversations.start import Start
from airflow_provider_cml.api.conversations.starting_v1 import LegacyStart
from airflow_provider_cml.api.conversations.waiting import Wait
from airflow_provider_cml.api.conversations.watching import Pace, Target
from airflow_provider_cml.api.endpoint import Endpoint
from airflow_provider_cml.api.errors import CmlError, CmlProtocolError
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.api.transports import BODY_LIMIT
from airflow_provider_cml.api.wire import Request, Response
from tests.api.answers import JOB_ID, KEY, MEBIBYTE, PROJECT_ID, TIMES, answers, bodies, values
from tests.api.listening import Listener, answer, answering
from tests.api.playing import Outcome, Player, document

if TYPE_CHECKING:
    from airflow_provider_cml.api.wire import Exchange
    from tests.api.conftest import Driver

IDS = JobIds(PROJECT_ID, JOB_ID)


def _key() -> RunKey:
    key = RunKey.parse(KEY)
    assert key is not None
    return key


OURS = _key()
NAMES = ("alice/risk-analysis", "nightly")
SINCE = datetime(2026, 10, 1, tzinfo=UTC)
PACE = Pace(timeout=900.0)

EXCHANGES: dict[str, Callable[[], Exchange[Any]]] = {
    "v1.start_job": lambda: v1.start_job("alice", "risk-analysis", "208", {"A": "b"}),
    "v2.list_projects": v2.list_projects,
    "v2.get_project": lambda: v2.get_project(PROJECT_ID),
    "v2.list_jobs": lambda: v2.list_jobs(PROJECT_ID),
    "v2.get_job": lambda: v2.get_job(PROJECT_ID, JOB_ID),
    "v2.create_job": lambda: v2.create_job(PROJECT_ID, {"name": "x", "script": "y"}),
    "v2.update_job": lambda: v2.update_job(PROJECT_ID, JOB_ID, {"environment": '{"A": "secret"}'}),
    "v2.delete_job": lambda: v2.delete_job(PROJECT_ID, JOB_ID),
    "v2.list_job_runs": lambda: v2.list_job_runs(PROJECT_ID, JOB_ID),
    "v2.create_job_run": lambda: v2.create_job_run(PROJECT_ID, JOB_ID, environment={"A": "secret"}),
    "v2.get_job_run": lambda: v2.get_job_run(PROJECT_ID, JOB_ID, "r"),
    "v2.stop_job_run": lambda: v2.stop_job_run(PROJECT_ID, JOB_ID, "r"),
    "v2.validate_api_key": v2.validate_api_key,
    "v2.request": lambda: v2.request("GET", "/api/v2/usage"),
    "finding.all_pages": lambda: finding.all_pages(
        lambda token, size: v2.list_jobs(PROJECT_ID, page_size=size, page_token=token)
    ),
    "finding.find_job_ids": lambda: finding.find_job_ids(*NAMES),
    "finding.find_project": lambda: finding.find_project("risk-analysis"),
    "finding.find_job": lambda: finding.find_job(PROJECT_ID, "nightly"),
    "finding.find_job_run_by_key": lambda: finding.find_job_run_by_key(IDS, KEY),
    "finding.find_newest_job_run": lambda: finding.find_newest_job_run(IDS, SINCE),
    "history.look": lambda: History(Start(IDS, replace(OURS, try_number=1))).look(),
    "history.look back": lambda: History(Start(IDS, OURS)).look(),
    "finding.newest_runs": lambda: finding.newest_runs(IDS, 30.0, SINCE),
    "endings.look_for_endings": lambda: endings.look_for_endings(IDS, None),
    "endings.look_for_endings since": lambda: endings.look_for_endings(IDS, endings.Cursor(SINCE, ("r",), {})),
    "starting.start_exactly_once": lambda: starting.start_exactly_once(Start(IDS, OURS, busy_timeout=900)),
    "starting_v1.start_job_when_free": lambda: starting_v1.start_job_when_free(
        LegacyStart("alice", "risk-analysis", "208", busy_timeout=900)
    ),
    "waiting.wait_for_job_run": lambda: waiting.wait_for_job_run(Wait(IDS, "r", timeout=900.0)),
    "waiting.stop_and_confirm": lambda: waiting.stop_and_confirm(IDS, "r"),
    "waiting.stop_if_active": lambda: waiting.stop_if_active(IDS, "r"),
    "waiting.stop_in_passing": lambda: waiting.stop_in_passing(IDS, OURS, "", 3.0),
    "waiting.look_for_doubles": lambda: waiting.look_for_doubles(IDS, OURS, "r"),
    "watching.look": lambda: watching.look(Target(IDS, run_key=KEY)),
    "watching.follow": lambda: watching.follow(Target(IDS, since=SINCE), PACE),
    "watching.watch": lambda: watching.watch(Target(IDS, run_key=KEY), PACE),
}
"""Every exchange of both versions of the API, and every conversation; `watching.look` by id is `v2.get_job_run`."""


@pytest.mark.parametrize("module", [v1, v2], ids=["v1", "v2"])
def test_no_operation_is_left_out(module: ModuleType) -> None:
    """What a version of the API offers is tried here."""
    offered = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for name, function in vars(module).items()
        if inspect.isgeneratorfunction(function) and function.__module__ == module.__name__ and name[0] != "_"
    }

    assert offered
    assert offered <= set(EXCHANGES)


@pytest.mark.parametrize("name", EXCHANGES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(script=st.lists(answers, min_size=1, max_size=6))
def test_whatever_is_answered(name: str, script: list[Outcome]) -> None:
    """These answers, again and again: a value, or an error that can be shown; and the conversation ends."""
    turn = itertools.cycle(script)
    player = Player(lambda _: next(turn), latency=1.0)
    try:
        found = player.play(EXCHANGES[name]())
    except CmlError as error:
        found = str(error)

    f"{found} {found!r} {player.said}".encode()
    assert all(request.path.isascii() for request in player.requests)
    assert all(f"{key}={value}".encode() for request in player.requests for key, value in request.query)
    assert player.now < 1000.0 + 6 * 3600


@pytest.mark.parametrize("name", [name for name in EXCHANGES if name != "v2.request"])
@settings(max_examples=30)
@given(value=values)
def test_what_is_found_can_be_stored(name: str, value: object) -> None:
    """No odd text of CML's reaches XCom or a table: PostgreSQL takes neither NUL nor half a character in JSON."""
    player = Player(lambda _: document(value))
    try:
        found = player.play(EXCHANGES[name]())
    except CmlError:
        return

    assert "\x00" not in str(getattr(found, "id", found))


@pytest.mark.parametrize(
    "name",
    [
        "finding.find_project",
        "finding.find_job",
        "finding.find_newest_job_run",
        "history.look",
        "history.look back",
        "endings.look_for_endings",
    ],
)
@pytest.mark.parametrize("items", [0, 1])
def test_a_list_without_an_end(name: str, items: int) -> None:
    """Each page names another one, for ever: it is given up."""
    numbers = itertools.count()

    def next_page(_: Request) -> Outcome:
        number = next(numbers)
        fields = {"name": "x", "status": "ENGINE_SKIPPED", "environment": "{}"}
        things = [{"id": f"i{number}-{item}", **fields} for item in range(items)]
        return document(dict.fromkeys(("projects", "jobs", "job_runs"), things) | {"next_page_token": f"t{number}"})

    player = Player(next_page)
    if items and name in {"history.look", "finding.find_newest_job_run"}:
        player.play(EXCHANGES[name]())  # they read so many runs, and no more
    else:
        with pytest.raises(CmlProtocolError, match="too long"):
            player.play(EXCHANGES[name]())

    assert len(player.requests) <= 2 * finding.PAGES_AT_MOST


@pytest.mark.parametrize("name", EXCHANGES)
@pytest.mark.parametrize("status", ["ENGINE_RUNNING", "ENGINE_FAILED", "ENGINE_SUCCEEDED"])
def test_times_at_the_ends_of_the_calendar(name: str, status: str) -> None:
    """Go's time of nothing, the last second of all, and what is no time: nobody reckons beyond them."""
    for moment in TIMES:
        fields = {"id": "r", "status": status, "created_at": moment, "finished_at": moment, "environment": "{}"}
        tokens = itertools.cycle(["more", ""])
        answer_of = {**fields, "job_runs": [fields]}
        player = Player(lambda _: document({**answer_of, "next_page_token": next(tokens)}), latency=1.0)  # noqa: B023 - used at once
        with contextlib.suppress(CmlError):
            player.play(EXCHANGES[name]())

        assert player.requests


def test_a_list_too_long() -> None:
    """Pages that each hold ten thousand jobs: given up before they fill the memory."""
    numbers = itertools.count()
    items = [{"id": "i", "name": "x"}] * 10_000
    player = Player(lambda _: document({"jobs": items, "next_page_token": str(next(numbers))}))

    with pytest.raises(CmlProtocolError, match="too long"):
        player.play(EXCHANGES["finding.find_job"]())

    assert len(player.requests) <= 1 + finding.ITEMS_AT_MOST // 10_000


@pytest.mark.parametrize("noun", ["project", "job"])
def test_names_of_megabytes(noun: str) -> None:
    """Somebody named things by whole books: the error lists candidates all the same, and is short."""
    things = [{"id": f"{number:04}-aaaa-aaaa-aaaa", "name": "x" * 200_000} for number in range(20)]
    player = Player(lambda _: document({f"{noun}s": things}))

    with pytest.raises(CmlError) as caught:
        player.play(EXCHANGES[f"finding.find_{noun}"]())

    assert len(str(caught.value)) < 5_000


# ------------------------------------------------------------------------------------------------ over sockets


@pytest.fixture
def driver_to(drive: Callable[[Endpoint], Driver]) -> Callable[[Listener], Driver]:
    """A driver, with a patience of seconds, to a server of these tests."""
    return lambda server: drive(Endpoint(server.url, key="a-key-0123456789abcdef", read_timeout=20.0))


def over_a_socket(driver: Driver) -> object:
    """One exchange without patience; its value, or its error."""
    try:
        return driver.perform(v2.get_project(PROJECT_ID, patience=0))
    except CmlError as error:
        return error


def _version(library: str) -> tuple[int, ...]:
    return tuple(int(part) for part in metadata.version(library).split(".")[:3])


LINES = [
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: br, zstd, \xff\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
    b"HTTP/1.1 200\r\n",
    b"HTTP/1.1 99999 OK\r\n",
    b"HTTP/1.1 -5 OK\r\n",
    b"HTTP/9.9 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n",
    b"HTTP/1.1 401 No\r\nWWW-Authenticate: \xff\xfe\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: " + b"9" * 400 + b"\r\n",
    b"\xff\xfe\xfd garbage\r\n",
    b"",
]
HEADERS = [
    *(b"Content-Length: 5\r\n", b"Content-Length: -5\r\n", b"Content-Length: 99999999999999999999\r\n", b""),
    *(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length: five\r\n", b"X: " + b"y" * 70_000 + b"\r\n"),
    *(
        b"Set-Cookie: =;\xff=\x01;;\r\n",
        b"X-\xc3\xbc: \xc3\xbc\r\n",
        b" folded\r\n",
        b"no colon\r\n",
        b"A: b\r\n" * 200,
    ),
]
CHUNKS = [
    b"5\r\n{}   \r\n0\r\n\r\n",
    b"zz\r\n{}\r\n",
    b"ffffffffffffffffffff\r\n{}",
    b"-1\r\n",
    b"-8000000000000001\r\n",
    b"2\r\n{}",
    b"2;x=\xff\r\n{}\r\n",
]


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@example(line=LINES[3], headers=b"", body=b"-8000000000000001\r\n")
@given(
    line=st.sampled_from(LINES),
    headers=st.lists(st.sampled_from(HEADERS), max_size=2).map(b"".join),
    body=st.sampled_from(CHUNKS) | bodies | st.binary(max_size=100).map(gzip.compress),
)
def test_whatever_comes_over_a_socket(
    driver_to: Callable[[Listener], Driver], line: bytes, headers: bytes, body: bytes
) -> None:
    """Broken status lines, headers, lengths, chunks and encodings: a value or an error of ours, with both libraries."""

    def behave(listener: Listener, connection: Any) -> None:
        if listener.hear(connection) is not None:
            connection.sendall(line + headers + b"Connection: close\r\n\r\n" + body)

    with Listener(behave) as server:
        found = over_a_socket(driver_to(server))

    str(found).encode()


LARGE = {
    "spaces": b" " * (10 * MEBIBYTE),
    "open brackets": b"[" * (10 * MEBIBYTE),
    "one text": b'{"id": "' + b"x" * (10 * MEBIBYTE) + b'"}',
    "one number": b'{"id": ' + b"9" * (10 * MEBIBYTE) + b"}",
    "no text": b"\xff" * (10 * MEBIBYTE),
    "a page": b"<html>" + b"<title" * (10 * MEBIBYTE // 6),
    "a name": b'{"id": "x", "name": "' + b"x" * (10 * MEBIBYTE) + b'"}',
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request"])
def test_ten_megabytes(driver_to: Callable[[Listener], Driver], kind: str, status: str) -> None:
    """A large answer is read within a few times its size."""
    body = LARGE[kind]
    with Listener(answering(answer(body, status))) as server:
        driver = driver_to(server)
        tracemalloc.start()
        try:
            found = over_a_socket(driver)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert isinstance(found, CmlError) is (kind != "a name" or status != "200 OK")
    assert len(str(found)) < 1_000 or kind == "a name"
    assert peak < 8 * len(body)


def test_ten_megabytes_of_objects() -> None:
    """The worst that JSON can be made to fill: thirty times its size, no more, and gone with the answer."""
    response = Response(200, {}, b'{"id": "x", "a": [' + b"{}," * (3 * MEBIBYTE) + b"{}]}")
    tracemalloc.start()
    try:
        found = Player(response).play(v2.get_project(PROJECT_ID))
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert "x" == found.id
    assert peak < 30 * len(response.body)
    assert left < MEBIBYTE


SWOLLEN = 8 * BODY_LIMIT
UNPACKS_BY_PIECES = {"requests": _version("urllib3") >= (2, 6), "aiohttp": _version("aiohttp") >= (3, 13, 3)}
"""Older libraries unpack at once whatever one read of the socket brought, up to a thousand times its size."""


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb(driver_to: Callable[[Listener], Driver], encoding: str) -> None:
    """An answer that swells to many times the limit is put down when it gets there."""
    coder = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    bomb = b"".join([*(coder.compress(b" " * MEBIBYTE) for _ in range(SWOLLEN >> 20)), coder.flush()])
    with Listener(answering(answer(bomb, headers=f"Content-Encoding: {encoding}\r\n"))) as server:
        driver = driver_to(server)
        tracemalloc.start()
        try:
            found = over_a_socket(driver)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert isinstance(found, CmlProtocolError)
    assert peak < (4 * BODY_LIMIT if UNPACKS_BY_PIECES[driver.library] else 3 * SWOLLEN)
