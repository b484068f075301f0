"""A watcher that cannot look, in virtual time: how long it tries, when it looks again, and what it says."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from airflow_provider_cml.api import transports
from airflow_provider_cml.api.endpoint import Endpoint
from airflow_provider_cml.api.transports import AsyncTransport
from airflow_provider_cml.api.wire import Request, Response
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.triggers.beats import Beat, Beats
from airflow_provider_cml.triggers.watcher import Watch, Watcher
from tests.triggers.virtual_time import run_in_virtual_time

ACK_TIMEOUT = 300.0
"""Seconds after which Airflow 3.3 fails a trigger that is not done with a beat (`shared_stream_ack_timeout`)."""
IDS = ("aaaa-bbbb-cccc-dddd", "eeee-ffff-gggg-hhhh")
NAMES = ("alice/risk", "nightly")


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Cml:
    """A workspace in memory: how it answers, and what it was asked when."""

    retry_after: float = 0.0
    throttles: str = "never"
    """Or "always", or "by turns": each other request."""
    status: int = 200
    slow: float = 0.05
    asked: list[tuple[float, str]] = field(default_factory=list)
    told_at: float = -1e9
    """When it refused last."""
    too_soon: int = 0
    """How often it was asked before the time was over that it had asked for."""

    async def answer(self, request: Request) -> Response:
        self.asked.append((now(), request.path))
        if now() < self.told_at + self.retry_after:
            self.too_soon += 1
        await asyncio.sleep(self.slow)
        if self.throttles == "always" or (self.throttles == "by turns" and len(self.asked) % 2):
            self.told_at = now()
            return Response(429, {"retry-after": f"{self.retry_after:.0f}"}, b"")
        if self.status != 200 and request.path.endswith("/runs"):
            return Response(self.status, {}, b'{"message": "no"}')
        project = {"id": IDS[0], "name": "risk", "slug": "risk", "owner": {"username": "alice"}}
        job = {"id": IDS[1], "name": "nightly"}
        listed = {"projects": [project], "jobs": [job], "job_runs": []}
        return Response(200, {}, json.dumps(listed).encode())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the gaps are what they are; all clocks are the loop's."""
    monkeypatch.setattr(transports, "time", SimpleNamespace(monotonic=now))


@pytest.fixture
def cml(monkeypatch: pytest.MonkeyPatch) -> Cml:
    found = Cml()

    async def aread_endpoint(_hook: CmlHook, **_: object) -> Endpoint:
        return Endpoint("https://cml.example", key="a-key")

    monkeypatch.setattr(CmlHook, "aread_endpoint", aread_endpoint)
    monkeypatch.setattr(AsyncTransport, "_send_once", lambda _transport, request: found.answer(request))
    return found


async def watch_for(seconds: float, gap: float = 30.0, job: tuple[str, str] = IDS) -> list[float]:
    """Watch as Airflow 3.3 does, where beats wait until the look is over; how old each was when it was dealt with."""
    one = Watcher(Watch("cml_default", *job, ("failed",), gap), None, logging.getLogger("test.watcher"))
    waiting: asyncio.Queue[tuple[Beat, float]] = asyncio.Queue()
    ages: list[float] = []

    async def make() -> None:
        async for beat, _ in Beats(gap).open_stream():
            waiting.put_nowait((beat, now()))

    async def deal() -> None:
        while True:
            beat, made_at = await waiting.get()
            await one.look(beat)
            ages.append(now() - made_at)

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(make(), deal())
    await one.leave()
    return ages


@pytest.mark.parametrize("job", [IDS, NAMES], ids=["ids", "names"])
@pytest.mark.parametrize("throttles", ["always", "by turns"])
@pytest.mark.parametrize("retry_after", [30, 120, 190, 290, 400, 600])
def test_throttled_watcher(cml: Cml, retry_after: float, throttles: str, job: tuple[str, str]) -> None:
    """Never sooner than CML asks for, in one look or in the next; and no beat waits as long as Airflow bears."""
    cml.retry_after, cml.throttles = retry_after, throttles

    ages = run_in_virtual_time(watch_for(4 * 3600.0, job=job))

    assert max(ages) < ACK_TIMEOUT - 30.0
    assert 0 == cml.too_soon
    assert len(cml.asked) >= 4 * 3600.0 / 1300.0


def test_slow_answers_hold_no_beat_up(cml: Cml) -> None:
    """CML takes a minute for each answer: the beats of that minute are let pass, and each look is a new one."""
    cml.slow = 60.0

    ages = run_in_virtual_time(watch_for(4 * 3600.0, gap=10.0))

    assert max(ages) < ACK_TIMEOUT - 30.0
    assert len(cml.asked) >= 4 * 3600.0 / 80.0
    assert len(ages) > 4 * len(cml.asked)


@pytest.mark.parametrize(("status", "forgets"), [(400, True), (401, False), (403, True), (404, True), (503, False)])
def test_job_that_is_gone_is_looked_up_again(cml: Cml, status: int, forgets: bool) -> None:
    """Of a project that is gone CML says 403 or 404; another of that name may come. A wrong key says nothing of it."""

    async def story() -> tuple[int, int]:
        one = Watcher(Watch("cml_default", *NAMES, ("failed",), 1.0), None, logging.getLogger("test.watcher"))
        await one.look(Beat())
        before = len([path for _, path in cml.asked if path.endswith("/projects")])
        for cml.status in (status, 200):
            await asyncio.sleep(10.0)
            await one.look(Beat())
        await one.leave()
        return before, len([path for _, path in cml.asked if path.endswith("/projects")])

    assert (1, 2 if forgets else 1) == run_in_virtual_time(story())


def test_traceback_is_logged_when_it_is_news(
    cml: Cml, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """A connection that is not there, for a day: one traceback. Another one where something else goes wrong."""
    said = ["there is no connection 'cml_default'", "the secrets backend is away"]

    async def fails(_hook: CmlHook, **_: object) -> Endpoint:
        raise LookupError(said[now() > 24 * 3600.0])

    monkeypatch.setattr(CmlHook, "aread_endpoint", fails)
    run_in_virtual_time(watch_for(48 * 3600.0))

    traced = [str(record.exc_info[1]) for record in log.records if record.exc_info and record.exc_info[1]]
    assert said == traced
