"""Commands in process groups of their own, that end when their time is over.

Law: whatever was started here is gone when `running` is left, however it is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


class DemoError(Exception):
    """The demo cannot go on, and why."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running command, and the file its output goes to."""

    popen: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def check(self) -> None:
        """Raise if it has ended: here, nothing that was started ends by itself."""
        if self.popen.poll() is not None:
            raise DemoError(f"{self.log.stem} ended with {self.popen.returncode}:\n{self.output()[-3000:]}")


@contextlib.contextmanager
def running(
    command: list[str],
    environment: Mapping[str, str],
    log: Path,
    owner: int | None = None,
) -> Iterator[Process]:
    """Run a command as long as the block lasts, as the user with this number where one is given."""
    with log.open("wb") as file:
        popen = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            user=owner,
            extra_groups=None if owner is None else [],
        )
    try:
        yield Process(popen, log)
    finally:
        end(popen)


def end(popen: subprocess.Popen[bytes]) -> None:
    """Ask the whole group to end; after 20 seconds, make it."""
    for number, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 5)):
        deadline = time.monotonic() + patience
        try:
            os.killpg(popen.pid, number)
            while time.monotonic() < deadline:
                popen.poll()
                os.killpg(popen.pid, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            break
    popen.wait()


def wait_until(condition: Callable[[], bool], what: str, seconds: float, *processes: Process) -> None:
    """Look every second; fail when time is over, or one of the processes."""
    deadline = time.monotonic() + seconds
    while not condition():
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            ends = "\n".join(f"--- {each.log.name}\n{each.output()[-3000:]}" for each in processes)
            raise DemoError(f"{what}: not within {seconds:.0f} s\n{ends}")
        time.sleep(1)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        taken = [sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in taken]
