"""A small Airflow: one task instance, its tries, and what people and machines do to them.

Every wish of a worker is a choice point here: it may die, be frozen or given up, the task may be cleared, the dag run
deleted and made again, strangers may use the job. The first word of each table is the quiet one.

The law: `try_number` and `max_tries` are counted as Airflow 2.11 to 3.3 count them. A retry leaves max_tries alone, a
clear sets it to the tries so far plus `retries`, but not when the task was running; a dag run made again counts anew
and starts later. `series` is the truth the run keys are to tell: its number changes with every clear and re-creation,
except a clear of a running task that Airflow itself records like a retry.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.conversations.start import Start
from airflow_provider_cml.api.run_key import RunKey
from tests.api.exactly_once.one_try import Ending
from tests.api.exactly_once.worker import Worker
from tests.api.exactly_once.world import JOB, PROJECT, microseconds

if TYPE_CHECKING:
    from tests.api.exactly_once.schedules import Story

IDS = JobIds(PROJECT, JOB)
NOTICED = 2.0
"""Seconds until Airflow knows that a process has died."""
NOT_HEARD = 60.0
"""Seconds without a heartbeat after which Airflow gives a process up."""
FROZEN = 400.0
CLEARED = 2.0
"""Seconds from a clear to the next try."""
RECREATED = 100.0
"""Seconds from the end of a dag run's process to the first try of the one made in its place."""
ACTS = 3
"""Clears and re-creations in one schedule at most; and as many runs of strangers."""

TO_A_TASK = (
    "goes on",
    "dies",
    "is frozen",
    "is given up and lives on",
    "times out",
    "cleared while running, stopped",
    "cleared while running, dies",
    "cleared while running, lives on",
    "failed by hand and cleared, stopped",
    "failed by hand and cleared, dies",
    "failed by hand and cleared, lives on",
    "recreated, stopped",
    "recreated, dies",
    "recreated, lives on",
    "somebody runs the job",
    "somebody runs the job, unlisted",
    "others are refused",
    "somebody stops the run",
)
TO_A_LEFTOVER = ("goes on", "dies", "times out", "is frozen")
BEFORE_A_RETRY = ("nothing", "cleared", "one retry more", "recreated", "another task is cleared")
AFTER_THE_END = (
    "nothing", "cleared", "cleared, one retry more", "cleared, one retry less", "recreated",
    "cleared while the dag run goes on", "its iteration is made again",
)  # fmt: skip
NAMES = ("configured", "base URL", "localhost")
"""What tells this Airflow from others: a name that was set, the host of its base URL, or nothing."""
WORKERS = ("alike", "two base URLs", "one is configured")
"""How the workers of this Airflow are configured: a key may come from each kind."""
CLEAR_NUMBERS = ("every clear", "a finished dag run", "not given")
"""Which clears raise the dag run's `clear_number`; or the worker is not given it."""


class Airflow:
    """One task instance and its history."""

    def __init__(
        self, story: Story, mode: dict[str, Any], retries: int, retry_delay: float, setup: tuple[str, str, str]
    ) -> None:
        self.story = story
        self.retries = retries
        self.retry_delay = retry_delay
        self.name, self.workers_are, self.clear_numbers = setup
        self.started_at = 0.0
        self.clear_number = 0
        self.lives = 1
        self.region = "first"
        self.try_number = 0
        self.max_tries = retries
        self.series = 1
        self.wish = Start(IDS, self.key, **mode)
        self.current: Worker | None = None
        self.workers: list[Worker] = []
        self.final: Ending | None = None
        self._ticket = 0
        self._acts = ACTS
        self._visits = ACTS
        self._edits = 1
        self._strangers = 0

    @property
    def key(self) -> RunKey:
        name, is_configured = self._configuration(self.try_number)
        return RunKey(
            deployment=name,
            is_configured=is_configured,
            loop_index=0,
            region=self.region,
            clear_number=None if self.clear_numbers == "not given" else self.clear_number,
            dag_id="dag",
            run_id="2026-01-01",
            task_id="task",
            map_index=-1,
            start=microseconds(self.started_at),
            max_tries=self.max_tries,
            retries=self.retries,
            try_number=self.try_number,
        )

    def _configuration(self, number: int) -> tuple[str, bool]:
        """The name that a worker reads, and whether it was set."""
        names = {
            "configured": ("here", True),
            "base URL": ("airflow.example.com", False),
            "localhost": ("localhost:8080", False),
        }
        if self.workers_are == "alike":
            return names[self.name]
        if number % 2:
            # Two names that were set, and differ, are two Airflows by the rule.
            return names["base URL" if self.name == "configured" else self.name]
        return ("other.example.com", False) if self.workers_are == "two base URLs" else ("set", True)

    def resumed(self, key: RunKey) -> RunKey:
        """The key in the worker in which a deferred try goes on: of the other kind, if there are two."""
        name, is_configured = self._configuration(self.try_number)
        if (key.deployment, key.is_configured) == (name, is_configured):
            name, is_configured = self._configuration(self.try_number + 1)
        return replace(key, deployment=name, is_configured=is_configured)

    @property
    def names_one_airflow(self) -> bool:
        """Whether all its keys tell this Airflow from others."""
        return self.workers_are == "alike" and self.name != "localhost"

    @property
    def has_leftovers(self) -> bool:
        """Whether a process lives that Airflow has given up."""
        return any(worker.is_alive and worker.is_stale for worker in self.workers)

    # --------------------------------------------------------------------------------------------------- tries

    def schedule(self, seconds: float) -> None:
        """Let the next try begin so much later, unless something else is decided meanwhile."""
        self._ticket += 1
        self.final = None
        self.current = None
        self.story.timeline.after(seconds, partial(self._begin, self._ticket))

    def ended(self, worker: Worker, ending: Ending) -> None:
        """A process says how its try ended; Airflow hears only the one it knows."""
        if worker is not self.current or worker.is_stale:
            return
        self.current = None
        if ending.is_retried:
            self._fail_try()
        else:
            self._finish(ending)

    def _begin(self, ticket: int) -> None:
        if ticket != self._ticket:
            return
        self.try_number += 1
        if not self.wish.durable and self.try_number > 1:
            self.series += 1
        age = self.story.timeline.now - self.started_at
        worker = Worker(self.story, self.series, replace(self.wish, key=self.key, dag_run_age=age))
        self.workers.append(worker)
        self.current = worker
        self.story.tell(f"Airflow begins {worker}, max_tries {self.max_tries}, retries {self.retries}")
        worker.resume(0)

    def _fail_try(self) -> None:
        if self.try_number > self.max_tries:
            self._finish(Ending.RED)
            return
        self.schedule(self.retry_delay)
        act = self._act(BEFORE_A_RETRY)
        if act == "cleared":
            self._clear()
        elif act == "one retry more":
            self._edit_retries(1)
        elif act == "recreated":
            self._recreate()
        elif act == "another task is cleared":
            self._count_clear(is_finished=False)

    def _finish(self, ending: Ending) -> None:
        self.final = ending
        self.story.tell(f"Airflow: the task is over: {ending}")
        if ending is Ending.GREEN:
            self.story.ledger.task_green(self.series)
        act = self._act(AFTER_THE_END)
        if act == "nothing":
            return
        if act == "recreated":
            self._recreate()
            return
        if act == "its iteration is made again":
            # A clear that reaches a loop's gate: a new region with the same index, whose tries count from 1.
            started_at, clear_number, self.region = self.started_at, self.clear_number + 1, f"{self.region}'"
            self._recreate()
            self.started_at, self.clear_number = started_at, clear_number
            self._end_leftovers()
            return
        self._edit_retries({"cleared, one retry more": 1, "cleared, one retry less": -1}.get(act, 0))
        self._clear(is_finished="goes on" not in act)

    def _edit_retries(self, by: int) -> None:
        """Once in a schedule: no function of what Airflow knows tells the series apart through two edits."""
        if by and self._edits:
            self._edits -= 1
            self.retries = max(self.retries + by, 0)

    def _clear(self, *, is_finished: bool = False) -> None:
        """Clear a task that is not running. A dag run that was finished gets a new start date."""
        self.max_tries = self.try_number + self.retries
        self.series += 1
        self._count_clear(is_finished=is_finished)
        # Left out of the bounded world: the first start in a dag run made again is still on its way, and a clear that
        # is counted makes it look like one that ended in the dag run's earlier life.
        is_counted = self.clear_numbers != "not given" and (is_finished or self.clear_numbers == "every clear")
        has_landed = any(run.worker and run.worker.dag_run_life == self.lives for run in self.story.cml.runs)
        seconds = RECREATED if self.lives > 1 and not has_landed and is_counted else CLEARED
        if is_finished:
            if not self.names_one_airflow:
                self._end_leftovers()
            self.started_at = self.story.timeline.now + seconds / 2
        self.schedule(seconds)

    def _count_clear(self, *, is_finished: bool) -> None:
        self.clear_number += is_finished or self.clear_numbers == "every clear"

    def _recreate(self) -> None:
        if not self.names_one_airflow:
            self._end_leftovers()
        self.started_at = self.story.timeline.now + RECREATED
        self.lives += 1
        self.clear_number = 0
        self.try_number = 0
        self.max_tries = self.retries
        self.series += 1
        self.schedule(RECREATED)

    def _end_leftovers(self) -> None:
        """Left out of the bounded world: a leftover that cannot know that it is one.

        With a new start date only a name tells it so, and with a new region nothing does.
        """
        for worker in self.workers:
            if worker.is_alive:
                worker.kill(may_stop=False)

    # ------------------------------------------------------------------------------------------------- events

    def visit(self, worker: Worker, life: int) -> None:
        """What happens to a process at this moment."""
        if life != worker.life or not worker.is_alive or worker.is_dying:
            return
        if worker.is_stale or worker is not self.current:
            event = self.story.choices.pick("leftover", TO_A_LEFTOVER)
        else:
            event = self.story.choices.pick("task", TO_A_TASK)
        if event == "goes on":
            return
        self.story.tell(f"{worker}: {event}")
        if "cleared" in event or "recreated" in event:
            self._take_away(worker, event)
        elif "somebody" in event or "others" in event:
            self._use_the_job(event)
        elif event in {"dies", "times out"}:
            worker.kill(may_stop=event == "times out")
            self.story.timeline.after(NOTICED, partial(self._give_up, worker, self._ticket))
        elif self.story.may_outlive():
            is_frozen = event == "is frozen"
            worker.frozen_until = self.story.timeline.now + (FROZEN if is_frozen else 0.0)
            self.story.timeline.after(NOT_HEARD if is_frozen else 0.0, partial(self._give_up, worker, self._ticket))

    def _take_away(self, worker: Worker, event: str) -> None:
        """The task is cleared, or its dag run made again, while `worker` is at it."""
        if not self._acts:
            return
        self._acts -= 1
        act, what_becomes = event.rsplit(", ", 1)
        if what_becomes == "lives on" and not self.story.may_outlive():
            what_becomes = "dies"
        worker.is_stale = True
        if what_becomes != "lives on":
            worker.kill(may_stop=what_becomes == "stopped")
        if act == "recreated":
            self._recreate()
        elif act == "failed by hand and cleared":
            self._clear()
        else:
            self._count_clear(is_finished=False)
            if self.try_number > self.max_tries:
                # More tries than there are: only this kind of clear brings that about, so it is recognised.
                self.series += 1
            self.schedule(self.retry_delay)

    def _give_up(self, worker: Worker, ticket: int) -> None:
        if worker is not self.current or ticket != self._ticket:
            return
        worker.is_stale = True
        self._fail_try()

    def _act(self, words: tuple[str, ...]) -> str:
        act = self.story.choices.pick("act", words)
        if act == "nothing" or not self._acts:
            return "nothing"
        self._acts -= 1
        self.story.tell(f"the task is {act}")
        return act

    def _use_the_job(self, event: str) -> None:
        cml = self.story.cml
        if event == "somebody stops the run":
            run = cml.active()
            if run is not None:
                cml.stop(run, None)
            return
        if not self._visits:
            return
        self._visits -= 1
        if event == "others are refused":
            for _ in range(6):
                cml.refuse(None, self.strange_key())
            return
        lag = self.story.options.lag if event.endswith("unlisted") and self.story.may_be_late() else 0.0
        if cml.active() is None:
            cml.add(None, self.strange_key(), (40.0, "SUCCEEDED"), lag=lag)
        else:
            cml.refuse(None, self.strange_key(), lag)

    def strange_key(self) -> str | None:
        """What the run of somebody else carries: nothing of ours, or a key that is nearly ours."""
        self._strangers += 1
        mine = self.key.with_post("1.abcd")
        newer = replace(mine, try_number=mine.try_number + 1)
        hour = 3_600_000_000
        keys: list[RunKey | None] = [
            replace(newer, map_index=3),
            replace(mine, loop_index=1, region="other"),
            replace(mine, version="v9"),
            None,
        ]
        match self.name:
            case "configured" if self.workers_are == "alike":
                # A copy of the database, in which the name was set first; and another Airflow.
                keys += [replace(newer, deployment="copy"), replace(newer, deployment="copy", start=mine.start + hour)]
            case "base URL" if self.workers_are == "alike":
                keys += [
                    # A copy of this database whose name was set. Its run of the same try would be taken for ours.
                    replace(newer, try_number=mine.try_number + 10, deployment="copy", is_configured=True),
                    replace(newer, deployment="elsewhere.example.com", start=mine.start + hour),
                    replace(mine, deployment="elsewhere.example.com", start=mine.start - hour),
                ]
            case "localhost" if self.workers_are == "alike":
                keys += [replace(newer, start=mine.start + hour), replace(mine, start=mine.start - hour)]
        key = keys[self._strangers % len(keys)]
        return None if key is None else str(key)
