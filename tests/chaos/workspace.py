"""The workspace of the chaos, in a process of its own that can be killed: its jobs, its faults, its ledger."""

from __future__ import annotations

import os
import secrets
import sys
from typing import TYPE_CHECKING, Any

from processes import free_ports, wait_until
from standalone import HttpError, call

from tests.chaos.parts import Part

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_HEAD = """\
[workspace]
scheduling = 0.3
starting = 0.5
stopping = 2.0

[[projects]]
owner = "alice"
name = "Risk Analysis"
slug = "risk-analysis"
"""
_JOB = """
[[projects.jobs]]
number = {number}
name = "report {number}"
life = {{ running = {seconds} }}
"""


class Workspace:
    """An emulator that keeps its state in a file.

    :param jobs: how many there are, called `report 1` and so on.
    :param seconds: how long the runs of the job with this number run.
    """

    def __init__(self, folder: Path, jobs: int, seconds: Callable[[int], float] = lambda number: 4.0 + number) -> None:
        self.key = secrets.token_hex(24)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        home = folder / "workspace"
        home.mkdir()
        lives = [_JOB.format(number=number, seconds=seconds(number)) for number in range(1, jobs + 1)]
        (home / "workspace.toml").write_text(_HEAD + "".join(lives))
        words = ["--workspace", str(home), "--port", str(port), "--state", str(folder / "state.jsonl")]
        command = [sys.executable, "-m", "airflow_provider_cml.emulator", *words, "--api-key", self.key]
        self.part = Part("emulator", command, {"PATH": os.environ["PATH"]}, folder)

    def start(self) -> None:
        """Serve, with what an earlier process left in the file."""
        self.part.start()
        assert self.part.process is not None
        wait_until(self._answers, "the emulator", 60, self.part.process)

    def ledger(self) -> dict[str, Any]:
        """What really ran, and what was asked."""
        found: dict[str, Any] = self._call("GET", "ledger")
        return found

    def fault(self, operation: str, kind: str, **settings: Any) -> int:
        """Let something go wrong until it is taken back; the number to take it back by."""
        return int(self._call("POST", "faults", {"operation": operation, "kind": kind, **settings})["id"])

    def take_back(self, *numbers: int) -> None:
        """The emulator may have been killed meanwhile, and its faults with it."""
        for number in numbers:
            try:
                self._call("DELETE", f"faults/{number}")
            except (HttpError, OSError):
                continue

    def start_foreign_run(self, job_name: str) -> str | None:
        """A run that somebody starts in CML; None if the job is busy."""
        found = self._api("GET", "projects")["projects"]
        jobs = f"projects/{found[0]['id']}/jobs"
        listed = self._api("GET", f"{jobs}?page_size=100")["jobs"]
        (job_id,) = [job["id"] for job in listed if job["name"] == job_name]
        try:
            return str(
                self._api("POST", f"{jobs}/{job_id}/runs", {"project_id": found[0]["id"], "job_id": job_id})["id"]
            )
        except (HttpError, OSError):
            return None

    def _api(self, method: str, path: str, body: object = None) -> Any:
        return call(method, f"{self.url}/api/v2/{path}", self.key, body)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        return call(method, f"{self.url}/emulator/{path}", self.key, body)

    def _answers(self) -> bool:
        try:
            self._call("GET", "faults")
        except (HttpError, OSError):
            return False
        return True
