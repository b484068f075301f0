"""Connections that change while triggers wait, in virtual time: how often a wait goes on, how long, and with what."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml import events
from airflow_provider_cml.api import transports, wire
from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.line import Place
from airflow_provider_cml.api.endpoint import Endpoint
from airflow_provider_cml.api.errors import CmlError, CmlInputError, CmlUnauthorizedError, CmlWaitTimeoutError
from airflow_provider_cml.api.transports import AsyncTransport
from airflow_provider_cml.api.wire import Request, Response, Scheme
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.triggers import sharing
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger
from tests.triggers.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

IDS = JobIds("aaaa-bbbb-cccc-dddd", "eeee-ffff-gggg-hhhh")
PLACE = Place("2026-11-21", -1, "task")


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class World:
    """A workspace whose key is another one from each of the moments `changes` on, and Airflow's connection to it."""

    changes: list[float]
    over_at: float = 1e9
    wrong: list[float] = field(default_factory=list)
    """When CML was asked with a key that it does not take."""
    failing_from: float = 1e9
    """From when on Airflow has no connection to give."""
    read: list[tuple[float, bool]] = field(default_factory=list)
    """When the connection was looked up, and whether its warnings were to be said."""

    @property
    def key(self) -> str:
        return f"key-{sum(moment <= now() for moment in self.changes)}"

    def answer(self, request: Request) -> dict[str, Any]:
        status = "ENGINE_SUCCEEDED" if now() >= self.over_at else "ENGINE_RUNNING"
        if request.path.endswith("/runs"):
            return {"job_runs": [{"id": "in-the-way", "status": status}]}
        return {"id": "run", "status": status}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the gaps are what they are; all clocks are the loop's."""
    clock = SimpleNamespace(time=now, monotonic=now)
    monkeypatch.setattr(events, "time", clock)
    monkeypatch.setattr(transports, "time", clock)
    monkeypatch.setattr(CmlJobRunTrigger, "log", logging.getLogger("test.sharing_renewal"))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """One without a change, for a test to add some."""
    found = World([])

    async def aread_endpoint(_hook: CmlHook, *, warn: bool = True) -> Endpoint:
        found.read.append((now(), warn))
        await asyncio.sleep(0.1)
        if now() >= found.failing_from:
            message = "the secrets backend is away"
            raise OSError(message)
        return Endpoint("https://cml.example", key=found.key)

    async def send_once(transport: AsyncTransport, request: Request) -> Response:
        await asyncio.sleep(0.05)
        if transport.endpoint.key != found.key:
            found.wrong.append(now())
            return Response(401, {}, b'{"message": "no"}')
        return Response(200, {}, json.dumps(found.answer(request)).encode())

    monkeypatch.setattr(CmlHook, "aread_endpoint", aread_endpoint)
    monkeypatch.setattr(AsyncTransport, "_send_once", send_once)
    return found


async def ending_of(trigger: BaseTrigger) -> tuple[str, float]:
    """How it ended, and when."""
    (payload,) = [event.payload async for event in trigger.run()]
    return payload["ending"], now()


async def stand(seconds: float | None, place: Place = PLACE) -> tuple[CmlError | None, float]:
    """Stand in line before the job; what it ended in, and when."""
    error: CmlError | None = None
    try:
        await sharing.stand_in_line("cml_default", IDS, place, 30.0, seconds, lambda _note: None)
    except CmlError as found:
        error = found
    return error, now()


def test_wait_keeps_its_deadline(world: World) -> None:
    """A task waits no longer because the key was changed meanwhile."""
    world.changes = [60.0]
    watched = events.Watched(IDS.project_id, IDS.job_id, run_id="run", deadline=100.0).to_json()

    ending, moment = run_in_virtual_time(ending_of(CmlJobRunTrigger("cml_default", watched, 30.0)))

    assert len(world.wrong) == 1
    assert (ending, round(moment)) == ("timed out", 100)


def test_wait_goes_on_however_often_the_key_is_changed(world: World) -> None:
    """Each 401 has the connection read again, for a run and in the line before a busy job, as in a worker."""
    world.changes, world.over_at = [100.0, 200.0, 300.0], 400.0
    watched = events.Watched(IDS.project_id, IDS.job_id, run_id="run").to_json()

    async def both() -> tuple[tuple[str, float], tuple[CmlError | None, float]]:
        return await asyncio.gather(ending_of(CmlJobRunTrigger("cml_default", watched, 30.0)), stand(None))

    (ending, over), (error, free) = run_in_virtual_time(both())

    assert ("over", None) == (ending, error)
    assert min(over, free) >= 400.0
    assert len(world.wrong) >= 3


def test_key_that_was_refused_before_is_no_new_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that shows two keys by turns, both wrong, is not asked for without end."""
    read: list[str] = []

    async def by_turns(_hook: CmlHook, **_: object) -> Endpoint:
        read.append(f"wrong-{(len(read) + 1) // 2 % 2}")  # two look-ups show a change: the second one says its warnings
        return Endpoint("https://cml.example", key=read[-1])

    monkeypatch.setattr(CmlHook, "aread_endpoint", by_turns)

    error, _ = run_in_virtual_time(asyncio.wait_for(stand(None), 3600.0))

    assert isinstance(error, CmlUnauthorizedError)
    assert len(world.wrong) == 2


def test_place_in_line_keeps_its_deadline(world: World) -> None:
    """The time given to wait for a busy job counts from the beginning, however often the key was changed since."""
    world.changes = [100.0, 200.0]

    error, moment = run_in_virtual_time(stand(300.0))

    assert isinstance(error, CmlWaitTimeoutError)
    assert len(world.wrong) == 2
    assert round(moment) == 300


async def ask() -> int:
    """Ask the workspace something that nobody shares; the status of its answer."""
    question = Request("GET", "/api/v2/something", Scheme.BEARER)
    return (await sharing.perform("cml_default", lambda: wire.ask(question), lambda _note: None)).status


def test_look_up_that_fails_is_tried_once_for_all(world: World) -> None:
    """Fifty triggers ask for a connection that cannot be looked up: all are told at once; who asks later asks anew."""
    world.failing_from = 0.0

    async def story() -> tuple[list[object], float]:
        found = await asyncio.gather(*(ask() for _ in range(50)), return_exceptions=True)
        moment = now()
        with pytest.raises(OSError, match="away"):
            await ask()
        world.failing_from = 1e9
        return [*found, await ask()], moment

    found, moment = run_in_virtual_time(story())

    assert [OSError] * 50 == [type(error) for error in found[:50]]
    assert 200 == found[50]
    assert (3, 0.1) == (len(world.read), round(moment, 3))


def test_known_connection_outlives_a_look_up_that_fails(world: World, log: pytest.LogCaptureFixture) -> None:
    """What was read before goes on, tried anew once a minute and said once; until it can be read again."""
    world.failing_from, world.changes = 30.0, [1000.0]

    async def story() -> set[int]:
        found = set()
        for _ in range(900):
            found.add(await ask())
            await asyncio.sleep(1.0)
        world.failing_from = 1e9
        await asyncio.sleep(sharing.CONNECTION_AGE)
        return found | {await ask()}

    assert {200} == run_in_virtual_time(story())
    assert 900 / sharing.CONNECTION_AGE <= len(world.read) <= 900 / sharing.CONNECTION_AGE + 3
    (warning,) = [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]
    assert "cml_default" in warning
    assert "OSError: the secrets backend is away" in warning


def test_refused_key_is_not_kept(world: World) -> None:
    """Who was answered 401 and cannot look its connection up is told that, though another key was known."""
    world.failing_from, world.changes = 30.0, [100.0]

    async def story() -> None:
        assert await ask() == 200
        await asyncio.sleep(100.0)
        with pytest.raises(OSError, match="away"):
            await asyncio.gather(*(stand(None) for _ in range(5)))

    run_in_virtual_time(story())


def test_connection_that_cannot_be_used_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has changed it to what makes no sense: that is an answer, and counts."""

    async def story() -> None:
        assert await ask() == 200

        async def senseless(_hook: CmlHook, **_: object) -> Endpoint:
            message = "Host: is empty."
            raise CmlInputError(message)

        monkeypatch.setattr(CmlHook, "aread_endpoint", senseless)
        await asyncio.sleep(sharing.CONNECTION_AGE)
        with pytest.raises(CmlInputError, match="Host"):
            await ask()

    run_in_virtual_time(story())


def test_warnings_are_said_at_the_first_look_up_and_at_a_change(world: World) -> None:
    """That certificates are not checked, say: a watcher would repeat it each minute for ever."""
    world.changes = [1000.0]

    async def story() -> None:
        stay = sharing.Stay("cml_default")
        while now() < 2000.0:
            await stay.renew()
            await asyncio.sleep(10.0)
        await stay.leave()

    run_in_virtual_time(story())
    said = [moment for moment, warn in world.read if warn]

    assert len(world.read) > 20
    assert [True, True] == [said[0] < 1.0, 1000.0 <= said[1] <= 1000.0 + 2 * sharing.CONNECTION_AGE]
    assert len(said) == 2
