"""What befalls a deployment and its workspace: which, when and whom is the seed's choice.

The law: every trouble ends. What was killed is started again, what was frozen thaws, every fault is taken back.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import psutil
from standalone import HttpError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.deployment import Deployment, Try
    from tests.chaos.parts import Part
    from tests.chaos.workspace import Workspace

FROZEN = 40.0
"""Seconds a triggerer is stopped: longer than Airflow waits before it gives its triggers to another."""
WINDOW = 20.0
"""Seconds the workspace drops answers, or says 502."""
SPARED = 5
"""Kills after which a task's processes are spared: with few tasks left, the dice would find the same one each time."""
Trouble: TypeAlias = "Callable[[], str | None]"
"""Brings it about; says to whom, or None where there was nobody."""


class Troubles:
    """The troubles of one chaos.

    :param gap: seconds between two troubles, on average.
    :param grave: also what takes minutes to get over (requests that are lost before they had an effect), and all of
        it again and again; otherwise everything comes once.
    """

    def __init__(
        self, deployment: Deployment, workspace: Workspace, jobs: int, seed: int, gap: float, *, grave: bool
    ) -> None:
        self.deployment = deployment
        self.workspace = workspace
        self.jobs = jobs
        self.dice = random.Random(seed)
        self.gap = gap
        self.grave = grave
        self.counts: Counter[str] = Counter()
        self.killed: list[Try] = []
        self.foreign: list[str] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._deck: list[str] | None = None
        self._next = time.monotonic() + 5.0
        self._kinds: dict[str, tuple[int, Trouble]] = {
            "task": (4, self._kill_task),
            "task with its supervisor": (1, self._kill_supervisor),
            "triggerer": (1, self._kill_triggerer),
            "scheduler": (1, self._kill_scheduler),
            "triggerer frozen": (1, self._freeze_triggerer),
            "answers dropped": (1, self._drop_answers),
            "502": (1, self._answer_502),
            "workspace": (1, self._kill_workspace),
            "somebody else's run": (2, self._run_foreign),
        }
        if any(name.startswith("worker") for name in deployment.parts):
            self._kinds["worker"] = (1, self._kill_worker)

    @property
    def missing(self) -> list[str]:
        """The kinds that have not come about yet."""
        return [kind for kind in self._kinds if not self.counts[kind]]

    def step(self, *, calm: bool = False) -> list[str]:
        """Do what is due; what happened, in words. Where it is calm, nothing new begins once all kinds have been."""
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()
        happened = [f"{part.name} ended by itself" for part in self.deployment.parts.values() if part.has_ended()]
        for part in self.deployment.parts.values():
            if part.has_ended():
                self.counts["ended by itself"] += 1
                part.process = None
                self._start_soon(part)
        if calm and not self.missing:
            return happened
        if time.monotonic() >= self._next and (kind := self._draw()) is not None:
            whom = self._kinds[kind][1]()
            if whom is None:
                self._put_back(kind)
                self._next = time.monotonic() + 1.0
            else:
                self.counts[kind] += 1
                self._next = time.monotonic() + self.gap * self.dice.uniform(0.5, 1.5)
                happened.append(f"{kind}: {whom}")
        return happened

    def end(self) -> None:
        """Do all that is still to come, so that nothing stays broken."""
        while self._due:
            heapq.heappop(self._due)[2]()

    def _draw(self) -> str | None:
        if self._deck is None or (self.grave and not self._deck):
            self._deck = [kind for kind, (count, _) in self._kinds.items() for _ in range(count)]
            self.dice.shuffle(self._deck)
        return self._deck.pop() if self._deck else None

    def _put_back(self, kind: str) -> None:
        """There was nobody whom it could befall; later."""
        self._deck = [*(self._deck or []), kind]
        self.dice.shuffle(self._deck)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._count), action))

    def _start_soon(self, part: Part) -> None:
        self._later(self.dice.uniform(1, 6), part.start)

    # ---------------------------------------------------------------- tasks

    def _victims(self) -> list[tuple[psutil.Process, Try]]:
        kills = Counter((each.run_id, each.task_id) for each in self.killed)
        found = self.deployment.tasks_running()
        return sorted(
            (pair for pair in found if kills[pair[1].run_id, pair[1].task_id] < SPARED), key=lambda pair: pair[0].pid
        )

    def _kill_task(self) -> str | None:
        found = self._victims()
        if not found:
            return None
        process, whose = self.dice.choice(found)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        self.killed.append(whose)
        return str(whose)

    def _kill_supervisor(self) -> str | None:
        found = self._victims()
        if not found:
            return None
        process, whose = self.dice.choice(found)
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor = process.parent()
            if supervisor is not None and supervisor.pid not in self._roots() and supervisor.pid != 1:
                supervisor.kill()
            process.kill()
        self.killed.append(whose)
        return str(whose)

    def _roots(self) -> set[int]:
        return {part.process.popen.pid for part in self.deployment.parts.values() if part.process is not None}

    # ---------------------------------------------------------------- parts

    def _alive(self, *beginnings: str) -> list[Part]:
        parts = self.deployment.parts.values()
        return [part for part in parts if part.name.startswith(beginnings) and part.process is not None]

    def _kill(self, part: Part, *, with_children: bool) -> str:
        tasks = [whose for _, whose in self.deployment.tasks_running()] if with_children else []
        part.kill(with_children=with_children)
        if tasks and part.name != "triggerer":
            left = {whose for _, whose in self.deployment.tasks_running()}
            self.killed += [whose for whose in tasks if whose not in left]
        self._start_soon(part)
        return part.name + (" and its children" if with_children else " alone")

    def _kill_triggerer(self) -> str | None:
        found = self._alive("triggerer")
        return self._kill(self.dice.choice(found), with_children=self.dice.random() < 0.5) if found else None

    def _kill_scheduler(self) -> str | None:
        found = self._alive("scheduler")
        return self._kill(found[0], with_children=self.dice.random() < 0.5) if found else None

    def _kill_worker(self) -> str | None:
        found = self._alive("worker")
        return self._kill(self.dice.choice(found), with_children=True) if found else None

    def _freeze_triggerer(self) -> str | None:
        found = self._alive("triggerer")
        if not found:
            return None
        part = self.dice.choice(found)
        part.signal(signal.SIGSTOP)
        sessions = list(part.sessions)

        def thaw() -> None:
            if part.process is not None and part.sessions == sessions:
                part.signal(signal.SIGCONT)

        self._later(FROZEN, thaw)
        return f"{part.name} for {FROZEN:.0f} s"

    # ---------------------------------------------------------------- workspace

    def _window(self, *faults: tuple[str, str, dict[str, object]]) -> str | None:
        numbers = []
        for operation, kind, settings in faults:
            try:
                numbers.append(self.workspace.fault(operation, kind, seed=self.dice.randrange(1000), **settings))
            except (HttpError, OSError):
                return None
        self._later(WINDOW, lambda: self.workspace.take_back(*numbers))
        return f"for {WINDOW:.0f} s"

    def _drop_answers(self) -> str | None:
        lost: tuple[str, str, dict[str, object]] = ("*", "drop_after", {"probability": 0.4})
        unheard: tuple[str, str, dict[str, object]] = ("*", "drop_before", {"probability": 0.1})
        return self._window(lost, unheard) if self.grave else self._window(lost)

    def _answer_502(self) -> str | None:
        unheard: dict[str, object] = {"status": 502, "probability": 0.7}
        # Where a start gets a 502 before it had an effect, its task looks for three minutes before it starts again.
        operations = ("*",) if self.grave else ("GetJobRun", "ListJobRuns", "ListJobs", "ListProjects", "GetProject")
        heard: tuple[str, str, dict[str, object]] = ("*", "error_after", {"status": 502})
        return self._window(*((operation, "error_before", unheard) for operation in operations), heard)

    def _kill_workspace(self) -> str | None:
        part = self.workspace.part
        if part.process is None:
            return None
        part.kill(with_children=False)
        self._later(self.dice.uniform(2, 6), self.workspace.start)
        return "killed, and started again on its state"

    def _run_foreign(self) -> str | None:
        name = f"report {self.dice.randint(1, self.jobs)}"
        try:
            run_id = self.workspace.start_foreign_run(name)
        except (HttpError, OSError):
            return None
        if run_id is None:
            return None
        self.foreign.append(run_id)
        return f"{run_id} of {name}"
