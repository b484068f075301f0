"""The parts of a distributed Airflow, each a process that can die and is started again.

The law: every setting that makes a death noticed sooner than Airflow's default stands in `SETTINGS`, and is reported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
from processes import Process, running

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SETTINGS = {
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",  # 300
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",  # 10
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",  # 300
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
    "SCHEDULER__TASK_QUEUED_TIMEOUT": "120",  # 600
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "15",  # 120
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
}
"""Airflow's settings by which a death is noticed; its defaults behind them, where they differ."""


@dataclass
class Part:
    """One command of Airflow, alive until the deployment ends, whatever befalls it."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    folder: Path
    starts: int = 0
    process: Process | None = None
    sessions: list[int] = field(default_factory=list)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self) -> None:
        """Start it, with a log of its own each time."""
        self.starts += 1
        log = self.folder / f"{self.name}-{self.starts}.log"
        self.process = self.stack.enter_context(running(self.command, self.environment, log))
        self.sessions.append(self.process.popen.pid)

    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process is not None and self.process.popen.poll() is not None

    def kill(self, *, with_children: bool) -> None:
        """SIGKILL. What it leaves behind, if anything, lives on until the deployment ends."""
        assert self.process is not None
        if with_children:
            for child in self._children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.popen.kill()
        self.process.popen.wait()
        self.process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and all its children."""
        assert self.process is not None
        for process in [psutil.Process(self.process.popen.pid), *self._children()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _children(self) -> list[psutil.Process]:
        assert self.process is not None
        try:
            return psutil.Process(self.process.popen.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def close(self) -> None:
        """End it, and all that was ever started here and still lives: by force, as nobody waits for its results."""
        for process in _of([self]):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.stack.close()


def airflow(*words: str) -> list[str]:
    """A command of the Airflow this interpreter has."""
    return [sys.executable, "-m", "airflow", *words]


def parts_of(executor: str, environment: Mapping[str, str], folder: Path) -> dict[str, Part]:
    """The parts, by name, not yet started."""
    commands = {
        "api-server": airflow("api-server"),
        "scheduler": airflow("scheduler", "--skip-serve-logs"),
        "dag-processor": airflow("dag-processor"),
        "triggerer-a": airflow("triggerer", "--skip-serve-logs"),
        "triggerer-b": airflow("triggerer", "--skip-serve-logs"),
    }
    if executor == "celery":
        for name in ("worker-a", "worker-b"):
            commands[name] = airflow("celery", "worker", "--skip-serve-logs", "-H", f"{name}@%h", "-c", "4")
    return {name: Part(name, command, environment, folder) for name, command in commands.items()}


def task_processes(parts: Iterable[Part]) -> list[tuple[psutil.Process, str]]:
    """The processes that run tasks, those a dead parent left behind among them, with their task instances' ids."""
    found = []
    for process in _of(parts):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = " ".join(process.cmdline()).strip().split(" -- ")
            if words[0] == "airflow worker" and len(words) == 2 and len(words[1]) == 36:
                found.append((process, words[1]))
    return found


def _of(parts: Iterable[Part]) -> list[psutil.Process]:
    """All processes that these parts ever started: they may leave their parent and its group, not its session."""
    sessions = {number for part in parts for number in part.sessions}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) in sessions:
                found.append(process)
    return found
