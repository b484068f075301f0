"""Keys that change while triggers wait, in virtual time: how often a wait goes on, and for how long."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml import events
from airflow_provider_cml.api import transports
from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.line import Place
from airflow_provider_cml.api.endpoint import Endpoint
from airflow_provider_cml.api.errors import CmlError, CmlUnauthorizedError, CmlWaitTimeoutError
from airflow_provider_cml.api.wire import Request, Response
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.triggers import sharing
from airflow_provider_cml.triggers.answers import SharingTransport
from airflow_provider_cml.triggers.chain import CmlJobChainTrigger
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

    @property
    def key(self) -> str:
        return f"key-{sum(moment <= now() for moment in self.changes)}"

    def answer(self, request: Request) -> dict[str, Any]:
        status = "ENGINE_SUCCEEDED" if now() >= self.over_at else "ENGINE_RUNNING"
        if request.path.endswith("/jobs"):
            return {"jobs": [{"id": IDS.job_id, "name": "a"}, {"id": "child", "name": "b", "parent_id": IDS.job_id}]}
        if request.path.endswith("child/runs"):
            return {"job_runs": []}
        if request.path.endswith("/runs"):
            return {"job_runs": [{"id": "in-the-way", "status": status}]}
        return {"id": "run", "status": status, "finished_at": datetime.now(UTC).isoformat()}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the gaps are what they are; all clocks are the loop's."""
    clock = SimpleNamespace(time=now, monotonic=now)
    monkeypatch.setattr(events, "time", clock)
    monkeypatch.setattr(transports, "time", clock)
    for talker in (CmlJobChainTrigger, CmlJobRunTrigger):
        monkeypatch.setattr(talker, "log", logging.getLogger("test.sharing_renewal"))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """One without a change, for a test to add some."""
    found = World([])

    async def aread_endpoint(_hook: CmlHook, **_: object) -> Endpoint:
        await asyncio.sleep(0.1)
        return Endpoint("https://cml.example", key=found.key)

    async def send_once(transport: SharingTransport, request: Request) -> Response:
        await asyncio.sleep(0.05)
        if transport.endpoint.key != found.key:
            found.wrong.append(now())
            return Response(401, {}, b'{"message": "no"}')
        return Response(200, {}, json.dumps(found.answer(request)).encode())

    monkeypatch.setattr(CmlHook, "aread_endpoint", aread_endpoint)
    monkeypatch.setattr(SharingTransport, "_send_once", send_once)
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


def test_chain_keeps_its_deadline(world: World) -> None:
    """A sensor that follows a chain waits no longer because the key was changed meanwhile."""
    world.changes, world.over_at = [60.0], 0.0
    watched = events.Watched(IDS.project_id, IDS.job_id, run_id="run", deadline=100.0).to_json()

    ending, moment = run_in_virtual_time(ending_of(CmlJobChainTrigger("cml_default", watched, 30.0)))

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
        read.append(f"wrong-{len(read) % 2}")
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
