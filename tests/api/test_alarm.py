"""Sleeps and time limits by a few timers for all, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_cml.api.alarm import BEAT, EXACT, ROUND, Alarm, Limits
from tests.triggers.virtual_time import VirtualLoop, run_in_virtual_time


class CountingLoop(VirtualLoop):
    """Counts the timers it is asked for."""

    timers = 0

    def call_at(self, *args, **kwargs):
        self.timers += 1
        return super().call_at(*args, **kwargs)


@pytest.mark.parametrize(("seconds", "late"), [(0.3, 0.0), (0.7, BEAT), (30.0, BEAT)])
def test_sleepers_wake_in_time_or_on_a_beat(seconds, late):
    """Nobody wakes before time; who sleeps long wakes with others, at most a beat later, who sleeps short in time."""

    async def sleep():
        alarm, loop = Alarm(), asyncio.get_running_loop()

        async def one(number):
            await asyncio.sleep(number / 1000)
            began = loop.time()
            await alarm.after(seconds)
            return loop.time() - began

        return await asyncio.gather(*(one(number) for number in range(100)))

    slept = run_in_virtual_time(sleep())

    assert min(slept) >= seconds - 1e-6
    assert max(slept) <= seconds + late + 1e-6


def test_thousands_of_sleepers_need_a_few_timers():
    """Ten thousand sleeps over thirty seconds: one timer for each beat, not for each sleep."""

    async def sleep():
        alarm, loop = Alarm(), asyncio.get_running_loop()
        before = loop.timers
        await asyncio.gather(*(alarm.after(1.0 + number * 0.003) for number in range(10_000)))
        return loop.timers - before

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        timers = runner.run(sleep())

    assert timers <= 30 / BEAT + 2


def test_sleeper_that_was_cancelled_is_left_alone():
    """A cancellation comes first; the beat that follows finds nobody to wake there, and wakes the others."""

    async def sleep():
        alarm = Alarm()
        gone, other = (alarm.after(10.0) for _ in range(2))
        gone.cancel()
        await other
        return asyncio.get_running_loop().time()

    assert pytest.approx(10.0) == run_in_virtual_time(sleep())


async def limited(limits, seconds, work):
    """How long `work` seconds of work may take under a limit; whether it was ended."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(None) as limit:
            limits.begin(limit, seconds)
            try:
                await asyncio.sleep(work)
            finally:
                limits.end(limit)
    except TimeoutError:
        return loop.time() - began, True
    return loop.time() - began, False


def test_what_outlives_its_limit_is_ended():
    """Not before its limit, at most a round after it; what is in time is left alone, each by its own limit."""

    async def work():
        limits = Limits()
        return await asyncio.gather(limited(limits, 5.0, 100.0), limited(limits, 7.0, 100.0), limited(limits, 5.0, 4.9))

    (first, _), (second, _), third = ended = run_in_virtual_time(work())

    assert [True, True, False] == [was_ended for _, was_ended in ended]
    assert 5.0 <= first <= 5.0 + ROUND
    assert 7.0 <= second <= 7.0 + ROUND
    assert 4.9 == pytest.approx(third[0])


def test_a_turn_longer_than_a_round_ends_no_limits_but_those_that_are_over():
    """The loop is blocked while a limit ends, so the next look comes before that end is seen; later limits hold."""

    async def work():
        limits, loop = Limits(), asyncio.get_running_loop()
        told = []
        loop.set_exception_handler(lambda _loop, context: told.append(context["message"]))

        def block():
            loop._clock.moment += 1.5 * ROUND

        first = asyncio.create_task(limited(limits, EXACT, 100.0))
        other = asyncio.create_task(limited(limits, 3 * EXACT, 100.0))
        await asyncio.sleep(0)
        loop.call_at(EXACT + 5e-10, block)  # in the turn of the look that ends the first one, and after it
        ended = [await first, await asyncio.wait_for(other, 100.0), await limited(limits, EXACT, 100.0)]
        return ended, told

    ended, told = run_in_virtual_time(work())

    assert [True, True, True] == [was_ended for _, was_ended in ended]
    assert [] == told


def test_short_limits_are_exact():
    """A second more than the three that a kill has would be the one in which Airflow ends the process."""

    async def work():
        limits = Limits()
        return await asyncio.gather(*(limited(limits, seconds, 100.0) for seconds in (0.3, 3.0, EXACT - 0.1)))

    assert [(pytest.approx(seconds), True) for seconds in (0.3, 3.0, EXACT - 0.1)] == run_in_virtual_time(work())


def test_limits_stop_watching_when_nothing_is_under_way():
    """No timer is left behind, and the next request is limited again."""

    async def work():
        limits, loop = Limits(), asyncio.get_running_loop()
        await limited(limits, 5.0, 1.0)
        await asyncio.sleep(3 * ROUND)
        timers = loop.timers
        await asyncio.sleep(100.0)
        idle = loop.timers - timers
        return idle, await limited(limits, 5.0, 100.0)

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        idle, (_, was_ended) = runner.run(work())

    assert 1 == idle  # the test's own sleep
    assert was_ended


def test_cancelled_task_stays_cancelled():
    """A limit does not swallow the cancellation of a task by somebody else."""

    async def work():
        limits = Limits()
        task = asyncio.create_task(limited(limits, 5.0, 100.0))
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled(), limits._ends

    assert (True, {}) == run_in_virtual_time(work())
