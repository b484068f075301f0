"""Answers that many wait for, in virtual time: how many requests there are, and who hears of their answers when."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.waiting import Wait, wait_for_job_run
from airflow_provider_cml.api.endpoint import Endpoint
from airflow_provider_cml.api.errors import CmlConnectionError, CmlError
from airflow_provider_cml.api.wire import Request, Response, Scheme, ask, pause
from airflow_provider_cml.triggers.answers import SWEEP_GAP, SharingTransport
from tests.triggers.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange

IDS = JobIds("aaaa-bbbb-cccc-dddd", "eeee-ffff-gggg-hhhh")
LOOK = Request("GET", "/api/v2/runs/1", Scheme.BEARER, max_age=10.0)


class Workspace(SharingTransport):
    """Answers by itself, half a second after it was asked; a run is over at the second its id names."""

    def __init__(self) -> None:
        super().__init__(Endpoint("https://cml.example", key="a-key"))
        self.asked: list[tuple[str, float]] = []
        self.fails_until = 0.0

    async def _send_once(self, request: Request) -> Response:
        moment = asyncio.get_running_loop().time()
        run_id = request.path.rpartition("/")[2]
        self.asked.append((run_id, moment))
        await asyncio.sleep(0.5)
        if moment < self.fails_until:
            raise CmlConnectionError("no way there", sent=False)
        word = "ENGINE_SUCCEEDED" if moment >= float(run_id) else "ENGINE_RUNNING"
        return Response(200, {}, json.dumps({"id": run_id, "status": word}).encode())


async def status(workspace: Workspace, request: Request = LOOK) -> int:
    return (await workspace.perform(ask(request))).status


def test_a_thousand_waits_for_ten_runs_cost_what_ten_cost() -> None:
    """At most two of a hundred requests that as many separate waits would send, and all are told of their run's end."""

    async def wait_for_all(copies: int) -> tuple[Workspace, list[JobRun]]:
        workspace = Workspace()
        ends = [600 + 20 * number for number in range(10)]
        waits = [Wait(IDS, str(end), 30.0, age=600.0) for end in ends for _ in range(copies)]
        runs = await asyncio.gather(*(workspace.perform(wait_for_job_run(wait)) for wait in waits))
        return workspace, runs

    alone, _ = run_in_virtual_time(wait_for_all(1))
    shared, runs = run_in_virtual_time(wait_for_all(100))

    assert [True] * 1000 == [run.status.is_success for run in runs]
    assert len(shared.asked) <= 0.02 * 100 * len(alone.asked)
    assert 1 == max(Counter(shared.asked).values())


def test_who_asks_while_another_waits_gets_the_same_answer() -> None:
    """One request under way serves all who ask the same; who asks later than its age allows asks anew."""

    async def ask_thrice() -> Workspace:
        workspace = Workspace()
        await asyncio.gather(*(status(workspace) for _ in range(50)))
        await asyncio.sleep(9.0)
        await status(workspace)
        await asyncio.sleep(1.0)
        await status(workspace)
        return workspace

    assert [("1", 0.0), ("1", 10.5)] == run_in_virtual_time(ask_thrice()).asked


def test_other_questions_have_their_own_answers() -> None:
    """Method, path and query make a question; what may not be shared (`max_age` 0) is sent each time."""

    async def ask_all() -> Workspace:
        workspace = Workspace()
        others = [
            LOOK,
            Request("GET", "/api/v2/runs/2", Scheme.BEARER, max_age=10.0),
            Request("GET", "/api/v2/runs/1", Scheme.BEARER, (("a", "b"),), max_age=10.0),
            Request("GET", "/api/v2/runs/1", Scheme.BEARER),
            Request("GET", "/api/v2/runs/1", Scheme.BEARER),
        ]
        await asyncio.gather(*(status(workspace, request) for request in others))
        return workspace

    assert 5 == len(run_in_virtual_time(ask_all()).asked)


def test_who_is_cancelled_takes_nobody_along() -> None:
    """The one who asked is cancelled: one of the others asks instead. One who only waits is: nothing changes."""

    async def cancel(which: int) -> tuple[list[int], int]:
        workspace = Workspace()
        tasks = [asyncio.create_task(status(workspace)) for _ in range(10)]
        await asyncio.sleep(0.2)
        tasks[which].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found[which], asyncio.CancelledError)
        return [answer for answer in found if isinstance(answer, int)], len(workspace.asked)

    assert ([200] * 9, 2) == run_in_virtual_time(cancel(0))
    assert ([200] * 9, 1) == run_in_virtual_time(cancel(5))


@pytest.mark.parametrize("asker_first", [True, False])
@pytest.mark.parametrize("how", ["cancelled", "out of time"])
def test_who_is_cancelled_together_with_who_asked_ends(how: str, asker_first: bool) -> None:
    """As when a triggerer shuts down: nobody goes on because the answer that was waited for will not come either."""

    async def story() -> tuple[list[int | BaseException], int]:
        workspace = Workspace()

        async def follow() -> int:
            async with limit:
                return await status(workspace)

        limit = asyncio.timeout(None)
        asking, waiting = asyncio.create_task(status(workspace)), asyncio.create_task(follow())
        await asyncio.sleep(0.2)
        ends: list[Callable[[], object]] = [
            asking.cancel,
            waiting.cancel if how == "cancelled" else lambda: limit.reschedule(0.0),
        ]
        for end in ends if asker_first else reversed(ends):
            end()
        return await asyncio.gather(asking, waiting, return_exceptions=True), len(workspace.asked)

    found, asked = run_in_virtual_time(story())

    ended = asyncio.CancelledError if how == "cancelled" else TimeoutError
    assert ([asyncio.CancelledError, ended], 1) == ([type(error) for error in found], asked)


def test_who_was_cancelled_before_is_not_taken_along() -> None:
    """A task that outlives a cancellation, to tidy up, still gets its answer when another one is cancelled."""

    async def story() -> int:
        workspace = Workspace()

        async def tidy() -> int:
            try:
                await asyncio.sleep(10.0)
            except asyncio.CancelledError:
                return await status(workspace)
            raise AssertionError

        tidying = asyncio.create_task(tidy())
        asking = asyncio.create_task(status(workspace))
        await asyncio.sleep(0.1)
        tidying.cancel()
        await asyncio.sleep(0.1)
        asking.cancel()
        return await tidying

    assert 200 == run_in_virtual_time(story())


def test_failure_is_shared_but_not_kept() -> None:
    """All who wait for an answer hear that there is none; who asks after that asks CML."""

    async def fail() -> tuple[list[object], int, Workspace]:
        workspace = Workspace()
        workspace.fails_until = 1.0
        heard = await asyncio.gather(*(status(workspace) for _ in range(10)), return_exceptions=True)
        await asyncio.sleep(1.0)
        return [*heard], await status(workspace), workspace

    heard, then, workspace = run_in_virtual_time(fail())

    assert [True] * 10 == [isinstance(answer, CmlError) for answer in heard]
    assert (200, 2) == (then, len(workspace.asked))


def test_news_wakes_who_sleeps() -> None:
    """Whoever sleeps after a question is woken when the answer to it is another than before, not by the same again."""

    async def sleep() -> list[float]:
        workspace = Workspace()
        loop = asyncio.get_running_loop()
        woken = []

        def sleeper() -> Exchange[None]:
            yield from ask(Request("GET", "/api/v2/runs/60", Scheme.BEARER, max_age=1.0))
            yield from pause(1000.0)

        async def wait() -> None:
            await workspace.perform(sleeper())
            woken.append(loop.time())

        waits = [asyncio.create_task(wait()) for _ in range(5)]
        for _ in range(10):
            await asyncio.sleep(10.0)
            await status(workspace, Request("GET", "/api/v2/runs/60", Scheme.BEARER, max_age=1.0))
        await asyncio.gather(*waits)
        return woken

    woken = run_in_virtual_time(sleep())

    assert 5 == len(woken)
    assert 60.0 < min(woken) <= max(woken) < 75.0


def test_answers_nobody_may_use_any_more_are_dropped() -> None:
    """However many runs have been asked for, what is kept is what the last minute or so asked for."""

    async def ask_for_many() -> int:
        workspace = Workspace()
        for number in range(400):
            await status(workspace, Request("GET", f"/api/v2/runs/{number}", Scheme.BEARER, max_age=1.0))
        assert asyncio.get_running_loop().time() > 3 * SWEEP_GAP
        return len(workspace._answers)

    assert run_in_virtual_time(ask_for_many()) <= 2 * (SWEEP_GAP + 1.0)


@pytest.mark.parametrize("seconds", [0.3, 7.0])
def test_pauses_of_many_end_on_a_beat(seconds: float) -> None:
    """Who sleeps long wakes with others, at most a twentieth of a second later; who sleeps short wakes in time."""

    def sleeper() -> Exchange[None]:
        yield from pause(seconds)

    async def sleep() -> list[float]:
        workspace = Workspace()
        loop = asyncio.get_running_loop()

        async def wait(number: int) -> float:
            await asyncio.sleep(number / 1000)
            began = loop.time()
            await workspace.perform(sleeper())
            return loop.time() - began

        return await asyncio.gather(*(wait(number) for number in range(50)))

    slept = run_in_virtual_time(sleep())

    assert min(slept) >= seconds - 1e-6
    assert max(slept) <= seconds + (0.05 if seconds > 1 else 0.0) + 1e-6
