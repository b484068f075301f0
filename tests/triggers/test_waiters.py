"""A thousand tasks before one busy job, in one event loop and in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
import tracemalloc
from dataclasses import dataclass, field

import pytest

from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.line import QUIET, SHOW_UP, Place
from airflow_provider_cml.api.conversations.starting import BUSY_GAP
from airflow_provider_cml.api.endpoint import Endpoint
from airflow_provider_cml.api.errors import CmlServerError, CmlWaitTimeoutError
from airflow_provider_cml.api.wire import Now, Pause, Request, Response
from airflow_provider_cml.triggers import sharing
from tests.triggers.virtual_time import run_in_virtual_time

IDS = JobIds("aaaa-bbbb-cccc-dddd", "eeee-ffff-gggg-hhhh")


@dataclass
class Job:
    """A job of one active run at a time, as its list of runs shows it."""

    seconds: float = 20.0
    looks: list[float] = field(default_factory=list)
    runs: list[tuple[str, float]] = field(default_factory=list)
    refused: int = 0

    def start(self, name: str, moment: float) -> bool:
        """Whether the start is taken: not while another run is active."""
        if self.runs and moment < self.runs[-1][1] + self.seconds:
            self.refused += 1
            return False
        self.runs.append((name, moment))
        return True

    def answer(self, request: Request, moment: float) -> Response:
        """The newest runs, as API v2 lists them."""
        assert request.path.endswith("/runs")
        self.looks.append(moment)
        status = {True: "ENGINE_RUNNING", False: "ENGINE_SUCCEEDED"}
        shown = [
            {"id": name, "status": status[moment < began + self.seconds]}
            for name, began in self.runs[: -1 - int(dict(request.query)["page_size"]) : -1]
        ]
        return Response(200, {}, json.dumps({"job_runs": shown}).encode())


class InMemory:
    """Runs a conversation by hand against `job`, on the clock of the loop."""

    job = Job()

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    async def perform(self, exchange, tell=None):
        loop = asyncio.get_running_loop()
        try:
            wish = next(exchange)
            while True:
                match wish:
                    case Request():
                        try:
                            answer = self.job.answer(wish, loop.time())
                        except CmlServerError as error:
                            wish = exchange.throw(error)
                            continue
                    case Pause():
                        answer = await asyncio.sleep(wish.seconds)
                    case Now():
                        answer = loop.time()
                    case _:
                        answer = None
                wish = exchange.send(answer)
        except StopIteration as end:
            return end.value

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(autouse=True)
def quick():
    """Here the gaps are what they are: time is virtual."""


@pytest.fixture
def job(monkeypatch):
    """A job whose runs the line looks at in memory."""
    monkeypatch.setattr(InMemory, "job", Job())
    monkeypatch.setattr(sharing, "AsyncTransport", InMemory)

    async def endpoint(self, conn_id, *, refused=None):
        return Endpoint("https://cml.example", key=f"key of {conn_id}")

    monkeypatch.setattr(sharing._Shared, "endpoint", endpoint)
    return InMemory.job


async def wait_and_start(job: Job, number: int, order: list[str]) -> None:
    """What Airflow does with one task: wait, find a worker, play the turn; once more if somebody was faster."""
    loop = asyncio.get_running_loop()
    date = f"2026-{1 + number // 28 % 12:02}-{1 + number % 28:02}T{number // 336:02}:00:00"
    while True:
        place = Place(date, -1, f"task {number}", loop.time() + QUIET)
        await sharing.stand_in_line("cml_default", IDS, place, 30.0, None, lambda note: None)
        await asyncio.sleep(random.uniform(3, 20))
        if job.start(f"run{number:04}", loop.time()):
            order.append(date)
            return


def test_a_thousand_waiters_are_served_in_order_for_one_request_a_gap(job, record_property):
    """All get their turn, the earliest date first, nobody is refused, and one look in each gap serves them all."""
    order: list[str] = []
    memory = []

    async def backfill() -> float:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        tasks = [asyncio.create_task(wait_and_start(job, number, order)) for number in random.sample(range(1000), 1000)]
        await asyncio.sleep(1)
        memory.append((tracemalloc.get_traced_memory()[0] - before) / len(tasks))
        tracemalloc.stop()
        await asyncio.gather(*tasks)
        return asyncio.get_running_loop().time()

    seconds = run_in_virtual_time(backfill())
    gaps = [later - earlier for earlier, later in zip(job.looks, job.looks[1:], strict=False)]
    record_property("bytes_per_waiter", round(memory[0]))
    print(f"1,000 waiters: {memory[0]:.0f} bytes each, {len(job.looks)} looks in {seconds:.0f} s of virtual time")

    assert len(job.runs) == 1000
    assert order == sorted(order)
    assert job.refused == 0
    assert min(gaps) >= 0.8 * BUSY_GAP
    assert seconds / 1000 < job.seconds + 40


def test_one_who_does_not_show_up_holds_the_line_for_two_minutes(job):
    """A task that was let go and found no worker delays the next one, but not for ever."""

    async def two() -> float:
        loop = asyncio.get_running_loop()
        stand = sharing.stand_in_line
        await stand("cml_default", IDS, Place("1", -1, "lost", loop.time()), 30.0, None, lambda note: None)
        began = loop.time()
        await stand("cml_default", IDS, Place("2", -1, "next", loop.time()), 30.0, None, lambda note: None)
        return loop.time() - began

    # A line that empties forgets; somebody else keeps this one alive.
    async def with_company() -> float:
        loop = asyncio.get_running_loop()
        last = Place("9", -1, "company", loop.time() + 10_000)
        company = asyncio.create_task(sharing.stand_in_line("cml_default", IDS, last, 30.0, None, lambda note: None))
        await asyncio.sleep(0)
        seconds = await two()
        company.cancel()
        return seconds

    seconds = run_in_virtual_time(with_company())

    assert SHOW_UP <= seconds <= SHOW_UP + 2 * BUSY_GAP


def test_time_given_to_wait_ends_with_the_name_of_the_run_in_the_way(job):
    """A run that never ends: the wait does, it names the run, and the line is empty again."""
    job.seconds = 1e9
    job.start("foreign", 0.0)

    async def wait() -> None:
        place = Place("1", -1, "task", 0.0)
        await sharing.stand_in_line("cml_default", IDS, place, 30.0, 300.0, lambda note: None)

    with pytest.raises(CmlWaitTimeoutError, match="run foreign is running") as caught:
        run_in_virtual_time(wait())

    assert caught.value.run.id == "foreign"


def test_task_that_stands_in_line_twice(job):
    """A task that was cleared and deferred again has two waits for a moment: the old one leaves, the new one stays."""
    job.seconds = 60.0
    job.start("foreign", 0.0)

    async def story() -> list[str]:
        gone: list[str] = []

        async def wait(task: str, name: str) -> None:
            place = Place("1", -1, task, asyncio.get_running_loop().time())
            await sharing.stand_in_line("cml_default", IDS, place, 30.0, None, lambda note: None)
            gone.append(name)

        waits = [("task", "old"), ("task", "new"), ("zebra", "other")]
        old, *others = [asyncio.create_task(wait(task, name)) for task, name in waits]
        await asyncio.sleep(10.0)
        old.cancel()
        await asyncio.gather(*others)
        return gone

    assert ["new", "other"] == run_in_virtual_time(story())
