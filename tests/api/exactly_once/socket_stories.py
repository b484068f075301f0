"""One task against a workspace that is really served: its tries, its deaths, its clears, and what goes wrong meanwhile.

A seed makes a schedule: faults of the server, a mode of the operator, strangers that use the job, how runs go, and when
processes end. The tries are played by whichever transport is handed in; `truth` judges what the server then knows.

The law: a story draws everything it does from its seed before or between tries, and writes down what it did, so that
it can be judged without asking a run key what it means. What threads and sockets add is not repeatable, and only time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from airflow_provider_cml.api.conversations import waiting
from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.start import Start, Started
from airflow_provider_cml.api.endpoint import CONNECT_TIMEOUT, Endpoint, Tls
from airflow_provider_cml.api.errors import CmlError, CmlInterruptedError
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE, RunKey
from airflow_provider_cml.api.transports import AsyncTransport, Transport
from airflow_provider_cml.api.wire import Exchange
from airflow_provider_cml.emulator import Emulator, Fault, Life, Run
from tests.api.exactly_once.one_try import Ending, OneTry
from tests.api.exactly_once.quickened import KilledError, Process, quickened
from tests.api.exactly_once.socket_faults import faults_by_chance

TRIES = 3
"""Tries of one story at most."""
MODES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"durable": False},
    {"stop_former": False},
    {"can_defer": True},
    {"wait_when_busy": False},
)
WISHES = (1, 2, 2, 2, 2, 3, 3, 4, 6, 10)
"""At which request or pause a process ends: mostly about its first start, which is the second."""
LATEST_DEATH = 100.0
DELAYS = (0.0, 0.0, 0.0, 10.0, 40.0, 100.0)
"""Seconds from a try's end to its retry."""
ENDINGS = ("succeeded",) * 7 + ("failed", "failed", "timedout")


def endpoint_of(emulator: Emulator, pace: float) -> Endpoint:
    """The way to the workspace. Over http no certificate is checked, and none has to be read for every process."""
    return Endpoint(emulator.url, key=emulator.api_key, connect_timeout=CONNECT_TIMEOUT / pace, tls=Tls(verify=False))


@dataclass(frozen=True, slots=True)
class Tried:
    """One try as it truly was."""

    series: int
    number: int
    ending: Ending
    taken: tuple[Started, ...]
    process: Process


class Story:
    """One task, and what befalls it."""

    def __init__(self, seed: int, emulator: Emulator, pace: float) -> None:
        self.seed = seed
        self.emulator = emulator
        self.pace = pace
        self.dice = dice = Random(seed)
        workspace = emulator.workspace
        self.job = workspace.add_job(next(iter(workspace.projects.values())), f"job {seed}", life=self._life)
        self.ids = JobIds(self.job.project_id, self.job.id)
        self._lives = Random(seed + 1)
        self.mode = dice.choice(MODES)
        self.retries = dice.choice((2, 2, 1))
        self.max_tries = self.retries
        self.series = 1
        self.try_number = 0
        self.delay = 0.0
        self.tried: list[Tried] = []
        self.notes: list[str] = []
        self.goes_on = True
        self.strangers = 0
        self.lag, self.faults = faults_by_chance(dice, emulator, self.job.id, pace)
        self.spent: list[tuple[Fault, int]] = []
        self._invite_strangers()
        self._begin()

    # ------------------------------------------------------------------------------------------------- tries

    def _begin(self) -> None:
        dice = self.dice
        self.try_number += 1
        if not self.mode.get("durable", True) and self.try_number > 1:
            self.series += 1
        self.process = Process(self.pace)
        self.death: float | None = None
        """Seconds of ours after which the process is interrupted, wherever it is then."""
        if dice.random() < (0.6, 0.3, 0.0)[self.try_number - 1]:
            if dice.random() < 0.7:
                self.process = Process(self.pace, dice.choice(WISHES), is_heard=dice.random() < 0.75)
            else:
                self.death = dice.uniform(0.0, LATEST_DEATH) / self.pace
        self.taken: list[Started] = []
        start = Start(self.ids, self.key, **self.mode)
        self.one_try = OneTry(start, self.taken.append, self.notes.append)

    def exchange(self) -> Exchange[Ending]:
        """The conversation of the present try."""
        return quickened(self.one_try.play(), self.process)

    def ended(self, ending: Ending) -> Exchange[None] | None:
        """The try is over. Airflow decides what comes next; a process that is told to end may have last words."""
        self.tried.append(Tried(self.series, self.try_number, ending, tuple(self.taken), self.process))
        self.notes.append(f"try {self.try_number} of series {self.series}: {ending}")
        found, key = self.one_try.found, self.key
        has_last_words = ending is Ending.KILLED and self.death is not None and self.dice.random() < 0.4
        self._decide(ending)
        if not has_last_words:
            return None
        run_id = found.run.id if found else ""
        return quickened(waiting.stop_in_passing(self.ids, key, run_id, 3.0), Process(self.pace))

    def _decide(self, ending: Ending) -> None:
        is_retry = ending.is_retried and self.try_number <= self.max_tries
        is_cleared = self.dice.random() < 0.2
        if self.try_number == TRIES or not (is_retry or is_cleared):
            self.goes_on = False
            return
        self.delay = self.dice.choice(DELAYS)
        if is_cleared:
            self.max_tries = self.try_number + self.retries
            self.series += 1
        self._begin()

    @property
    def key(self) -> RunKey:
        """What Airflow knows of the present try."""
        return RunKey("here", "dag", f"run {self.seed}", "task", -1, 1_700_000_000_000_000, self.max_tries,
                      self.retries, self.try_number, is_configured=True)  # fmt: skip

    def over(self) -> None:
        """Count the faults that came true, and take back all."""
        fired = {entry["id"]: entry["fired"] for entry in self.emulator.faults.listing()}
        self.spent = [(fault, int(str(fired[fault.id]))) for fault in self.faults]
        for fault in self.faults:
            self.emulator.faults.remove(fault)

    # -------------------------------------------------------------------------------------------- the world

    def _life(self, run: Run) -> Life:
        dice = self._lives
        if run.api == "hand":
            return Life(0.0, 0.0, dice.uniform(5.0, 60.0) / self.pace)
        states = [dice.uniform(0.0, 5.0), dice.uniform(0.0, 5.0), dice.uniform(1.0, dice.choice((5.0, 60.0)))]
        return Life(*(seconds / self.pace for seconds in states), dice.choice(ENDINGS))

    def _invite_strangers(self) -> None:
        """Others start the job, now or later, with keys that are nearly ours."""
        workspace = self.emulator.workspace
        near = replace(self.key, try_number=2, post="1.abcd")
        keys = (None, replace(near, map_index=3), replace(near, deployment="elsewhere"))

        def start(due: float) -> None:
            key = keys[number % len(keys)]
            environment = {} if key is None else {RUN_KEY_VARIABLE: str(key)}
            workspace.engine.start(workspace.engine.create(self.job, api="hand", environment=environment, at=due))

        number = self.dice.randrange(3)
        for longest in (0.0, 100.0):
            if self.dice.random() < 0.35:
                self.strangers += 1
                due = workspace.clock() + self.dice.uniform(0.0, longest) / self.pace
                workspace.agenda.at(due, ("stranger", self.job.id), start)


# ------------------------------------------------------------------------------------------------- two transports


def play_blocking(story: Story, endpoint: Endpoint) -> None:
    """Play a story on requests: each process has a transport of its own, and a signal's handler interrupts it."""
    while story.goes_on:
        time.sleep(story.delay * 1.02 / story.pace)
        transport = Transport(endpoint)
        alarm = threading.Timer(story.death or 0.0, transport.interrupt)
        exchange = story.exchange()
        try:
            if story.death is not None:
                alarm.start()
            ending = transport.perform(exchange)
        except (KilledError, CmlInterruptedError):
            ending = Ending.KILLED
        finally:
            alarm.cancel()
            exchange.close()
            transport.close()
        last_words = story.ended(ending)
        if last_words is not None:
            transport = Transport(endpoint)
            with suppress(CmlError):
                transport.perform(last_words)
            transport.close()
    story.over()


async def play_awaiting(story: Story, transport: AsyncTransport) -> None:
    """Play a story on aiohttp: all processes share one transport, and an interrupted one is cancelled in its midst."""
    while story.goes_on:
        await asyncio.sleep(story.delay * 1.02 / story.pace)
        exchange = story.exchange()
        try:
            async with asyncio.timeout(story.death):
                ending = await transport.perform(exchange)
        except (KilledError, TimeoutError):
            ending = Ending.KILLED
        finally:
            exchange.close()
        last_words = story.ended(ending)
        if last_words is not None:
            with suppress(CmlError):
                await transport.perform(last_words)
    story.over()
