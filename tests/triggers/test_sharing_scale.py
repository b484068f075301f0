"""Thousands of triggers in one event loop and in virtual time: pools, look-ups of connections, first looks, retries."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations import line
from airflow_provider_cml.api.endpoint import Endpoint
from airflow_provider_cml.api.transports import AsyncTransport
from airflow_provider_cml.api.wire import Request, Response, Scheme, ask
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.triggers import sharing
from airflow_provider_cml.triggers.cml import CmlJobRunTrigger
from tests.triggers.virtual_time import run_in_virtual_time

LOOK = Request("GET", "/api/v2/runs/1", Scheme.BEARER)


@dataclass
class World:
    """Workspaces that take some keys, and the connections that Airflow has for them."""

    keys: dict[str, str] = field(default_factory=lambda: {"cml_default": "key-1"})
    good: set[str] = field(default_factory=lambda: {"key-1", "key-2", "key-3"})
    read: list[tuple[str, float]] = field(default_factory=list)
    asked: list[tuple[str, str, float]] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    over_at: float = 1e9


@pytest.fixture(autouse=True)
def quick():
    """Here the gaps are what they are: time is virtual."""


@pytest.fixture(autouse=True)
def log(monkeypatch):
    """Nobody reads here what thousands of triggers say."""
    monkeypatch.setattr(CmlJobRunTrigger, "log", logging.getLogger("nobody"))
    monkeypatch.setattr(logging.getLogger("nobody"), "disabled", True)


@pytest.fixture
def world(monkeypatch):
    """What is sent is answered in memory, a twentieth of a second later."""
    found = World()

    async def aread_endpoint(hook, *, warn=True):
        found.read.append((hook.cml_conn_id, asyncio.get_running_loop().time()))
        await asyncio.sleep(0.1)
        return Endpoint("https://cml.example", key=found.keys[hook.cml_conn_id])

    class InMemory(AsyncTransport):
        def __init__(self, endpoint):
            super().__init__(endpoint)
            found.opened += 1

        async def _send_once(self, request):
            moment = asyncio.get_running_loop().time()
            found.asked.append((self.endpoint.key, request.path, moment))
            await asyncio.sleep(0.05)
            if self.endpoint.key not in found.good:
                return Response(401, {}, b'{"message": "no"}')
            word = "ENGINE_SUCCEEDED" if moment >= found.over_at else "ENGINE_RUNNING"
            run_id = request.path.rpartition("/")[2]
            return Response(200, {}, json.dumps({"id": run_id, "status": word}).encode())

        async def close(self):
            found.closed += 1

    monkeypatch.setattr(CmlHook, "aread_endpoint", aread_endpoint)
    monkeypatch.setattr(sharing, "AsyncTransport", InMemory)
    return found


def trigger(run_id, age=0.0, conn_id="cml_default", interval=30.0):
    watched = events.Watched("p", "j", run_id=str(run_id), began=time.time() - age)
    return CmlJobRunTrigger(conn_id, watched.to_json(), interval)


async def ending_of(one):
    return [event.payload["ending"] async for event in one.run()]


async def perform(conn_id, request=LOOK):
    return (await sharing.perform(conn_id, lambda: ask(request), lambda note: None)).status


def test_one_pool_per_endpoint_closed_when_the_last_one_leaves(world):
    """Two hundred triggers of two connections with one key, and as many with another key: two pools, both closed."""
    world.keys |= {"same": "key-1", "other": "key-2"}
    world.over_at = 100.0

    async def everyone():
        ids = ("cml_default", "same", "other", "other")
        tasks = [asyncio.create_task(ending_of(trigger(n, conn_id=ids[n % 4]))) for n in range(400)]
        await asyncio.sleep(50.0)
        during = (world.opened, world.closed)
        return during, await asyncio.gather(*tasks)

    during, endings = run_in_virtual_time(everyone())

    assert (2, 0) == during
    assert [["over"]] * 400 == endings
    assert (2, 2) == (world.opened, world.closed)


def test_each_event_loop_has_its_own_pool(world):
    """Connections belong to the loop they were opened in; nothing of one is used in another."""
    for _ in range(2):
        run_in_virtual_time(perform("cml_default"))

    assert (2, 2) == (world.opened, world.closed)
    assert 2 == len(world.read)


def test_connection_is_looked_up_once_a_minute_at_most(world):
    """Whoever asks within a minute believes what was read; the first one after it reads again, for all."""

    async def ten_minutes():
        for _ in range(120):
            await asyncio.gather(*(perform("cml_default") for _ in range(20)))
            await asyncio.sleep(5.0)

    run_in_virtual_time(ten_minutes())
    gaps = [later - earlier for (_, earlier), (_, later) in zip(world.read, world.read[1:], strict=False)]

    assert 9 <= len(world.read) <= 11
    assert min(gaps) >= sharing.CONNECTION_AGE - 1.0


def test_401_reads_the_connection_at_once_and_once(world):
    """The key is changed while a hundred triggers wait: one look-up for all, then all go on with the new key.

    And one more, for what there may be to warn of in a connection that has changed.
    """
    world.over_at = 300.0

    async def everyone():
        tasks = [asyncio.create_task(ending_of(trigger(n))) for n in range(100)]
        await asyncio.sleep(29.5)
        world.keys["cml_default"] = "key-2"
        world.good.discard("key-1")
        return await asyncio.gather(*tasks)

    endings = run_in_virtual_time(everyone())
    renewed = [moment for _, moment in world.read if moment > 1.0]

    assert [["over"]] * 100 == endings
    assert renewed[0] < 40.0
    assert len([moment for moment in renewed if moment < renewed[0] + 30.0]) == 2


def test_401_with_the_same_key_is_told(world):
    """A key that is wrong and was not changed: one look-up more, and the task hears of it."""
    world.good.clear()

    endings = run_in_virtual_time(ending_of(trigger(1)))

    assert ["refused"] == endings
    assert 2 == len(world.read)
    assert 1 == len(world.asked)


def test_restarted_triggerer_does_not_knock_at_once(world):
    """Ten thousand old runs resumed at one moment: each second sees about as many looks, the first one too."""
    world.over_at = 120.0

    async def restart():
        return await asyncio.gather(*(ending_of(trigger(n, age=3600.0)) for n in range(10_000)))

    endings = run_in_virtual_time(restart())
    by_second = Counter(int(moment) for _, _, moment in world.asked)
    window = [by_second[second] for second in range(6, 120)]
    mean = sum(window) / len(window)

    assert [["over"]] * 10_000 == endings
    assert 0 == sum(by_second[second] for second in range(int(line.QUIET)))
    assert 10_000 / 28.0 <= mean <= 10_000 / 26.0
    assert 0.75 * mean <= min(window) <= max(window) <= 1.25 * mean


def test_tenacity_is_not_entered_before_the_first_failure():
    """Ten good looks load no tenacity; the first failure does."""
    program = """
import sys
from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.waiting import Wait, wait_for_job_run
from airflow_provider_cml.api.errors import CmlConnectionError
from airflow_provider_cml.api.wire import Now, Request, Response
exchange, moment, looks = wait_for_job_run(Wait(JobIds("p", "j"), "r")), 0.0, 0
wish = next(exchange)
while looks < 10:
    answer = None
    if isinstance(wish, Request):
        looks += 1
        answer = Response(200, {}, b'{"id": "r", "status": "ENGINE_RUNNING"}')
    elif isinstance(wish, Now):
        answer = moment
    else:
        moment += getattr(wish, "seconds", 0.0)
    wish = exchange.send(answer)
before = "tenacity" in sys.modules
while not isinstance(wish, Request):
    wish = exchange.send(moment if isinstance(wish, Now) else None)
wish = exchange.throw(CmlConnectionError("no way", sent=False))
while isinstance(wish, Now):
    wish = exchange.send(moment)
print(before, "tenacity" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "False True" == done.stdout.strip()
