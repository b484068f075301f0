"""A job of CML on paper, in virtual time: the other party of the conversations that start and watch runs.

It follows CML's rules (one active run, SKIPPED entries for refused starts, an echoed environment, newest first), and
the next starts may be given a fate of their own: lost, late, refused, not sent. It decides nothing and repeats nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.errors import CmlError, CmlResponseTooLargeError
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE, RunKey
from airflow_provider_cml.api.wire import Response
from tests.api.playing import Player, document, grpc_error, lost, unsent

if TYPE_CHECKING:
    from airflow_provider_cml.api.wire import Request
    from tests.api.playing import Outcome

IDS = JobIds("k9yi-cww6-iw3w-buq0", "0d10-o6va-nd9j-p6wx")
KEY = RunKey("prod", "daily", "run 1", "start", -1, start=1_790_000_000_000_000, max_tries=3, retries=3, try_number=1)
EPOCH = datetime(2026, 11, 21, tzinfo=UTC)
OVER = {"stopped", "succeeded", "failed", "timedout", "skipped"}

Fate: TypeAlias = "str | tuple[str, float] | Response | CmlError"
"""accepted; lost (it took effect); vanished (lost, without effect); ("late", seconds); unsent; skipped (200); or what
comes back."""


def try_number(number: int, **changes: Any) -> RunKey:
    """My key in another try."""
    return replace(KEY, try_number=number, **changes)


def of_dag_run(paper: PaperJob, age: float, **changes: Any) -> RunKey:
    """My key, where the dag run began so many seconds ago by Airflow's clock."""
    began = EPOCH + timedelta(seconds=paper.player.now - age)
    return replace(KEY, start=int(began.timestamp() * 1_000_000), **changes)


def dag_run_age(paper: PaperJob, key: RunKey) -> float | None:
    """Seconds since the key's dag run began, by Airflow's clock; None under a nonce."""
    return None if key.nonce else EPOCH.timestamp() + paper.player.now - key.start / 1_000_000


class PaperJob:
    """One job: its runs, newest first, and what befalls the coming starts."""

    def __init__(self, *fates: Fate, page_size: int = 100, latency: float = 0.0) -> None:
        self.player = Player(self._answer, latency=latency)
        self.fates: list[Fate] = list(fates)
        self.page_size = page_size
        self.runs: list[dict[str, Any]] = []
        self.list_echoes = True
        self.echoes = True
        self.is_dated = True
        self.clock = 0.0
        """Seconds by which CML's clock is ahead of Airflow's."""
        self.has_date = True
        """Whether CML's answers tell its clock, in a Date header."""
        self.largest: int | None = None
        """Bytes of a list that are read at most; a larger answer is an error."""
        self.failing: list[Outcome] = []
        """What comes of the next requests that are no starts, before anything else does."""
        self.stop_takes = 3.0
        self.stopped: list[str] = []
        self.started_at: list[float] = []

    def add(self, status: str = "running", key: RunKey | None = None, post: str = "1.aaaa", age: float = 600.0) -> str:
        """Put a run into the history; a key of None makes it somebody else's."""
        return self.add_with("" if key is None else str(key.with_post(post)), status, age)

    def add_with(self, text: str, status: str = "running", age: float = 600.0) -> str:
        """Put a run into the history whose key is any text."""
        variables = {"DB_PASSWORD": "hunter2"} | ({RUN_KEY_VARIABLE: text} if text else {})
        return self._enter(variables, status, self.player.now - age)

    def add_by_hand(self, status: str = "succeeded", age: float = 600.0) -> str:
        """Put a run into the history that has no environment: somebody started it in the user interface."""
        return self._enter({}, status, self.player.now - age)

    def set(self, run_id: str, status: str, after: float = 0.0) -> None:
        """Change a run's status, now or later."""

        def change() -> None:
            run = self.run(run_id)
            if run["status"] not in OVER:
                run["status"] = status

        if after:
            self.player.at(after, change)
        else:
            change()

    def run(self, run_id: str) -> dict[str, Any]:
        return next(run for run in self.runs if run["id"] == run_id)

    @property
    def executed(self) -> list[str]:
        """The runs that were no refusals, newest first."""
        return [run["id"] for run in self.runs if run["status"] != "skipped"]

    @property
    def keys(self) -> list[RunKey | None]:
        """The keys of all starts that were sent."""
        posted = [request.json or {} for request in self.player.requests if _is_start(request)]
        return [RunKey.parse(body["environment"][RUN_KEY_VARIABLE]) for body in posted]  # type: ignore[index]

    @property
    def posts(self) -> int:
        return len(self.started_at)

    def _enter(self, variables: dict[str, str], status: str, created: float) -> str:
        run = {"id": f"run{len(self.runs) + 1:013d}", "created": created, "status": status, "environment": variables}
        self.runs.append(run)
        self.runs.sort(key=lambda run: float(run["created"]), reverse=True)
        return str(run["id"])

    def _answer(self, request: Request) -> Outcome:
        path = unquote(request.path)
        if _is_start(request):
            return self._start(request)
        if self.failing:
            return self.failing.pop(0)
        if path.endswith("/runs"):
            return self._page(request)
        found = re.search(r"/runs/([^:]+)(:stop)?$", path)
        assert found is not None, path
        known = [run for run in self.runs if run["id"] == found[1]]
        if not known:
            return grpc_error(404, "job run not found", 5)
        if found[2]:
            self.stopped.append(found[1])
            if known[0]["status"] in OVER:
                return grpc_error(400, "job run is not active", 9)
            known[0]["status"] = "stopping"
            self.player.at(self.stop_takes, lambda: self.set(found[1], "stopped"))
        return document(self._shown(known[0], echoes=self.echoes))

    def _page(self, request: Request) -> Outcome:
        query = dict(request.query)
        assert query["sort"] == "-created_at"
        begin = int(query.get("page_token", "0"))
        end = begin + min(self.page_size, int(query["page_size"]))
        shown = [self._shown(run, echoes=self.list_echoes and self.echoes) for run in self.runs[begin:end]]
        date = EPOCH + timedelta(seconds=self.player.now + self.clock)
        page = document(
            {"job_runs": shown, "next_page_token": str(end) if end < len(self.runs) else ""},
            headers={"date": format_datetime(date, usegmt=True)} if self.has_date else {},
        )
        if self.largest is not None and len(page.body) > self.largest:
            return CmlResponseTooLargeError(f"the answer is larger than {self.largest} bytes")
        return page

    def _start(self, request: Request) -> Outcome:
        self.started_at.append(self.player.now)
        fate = self.fates.pop(0) if self.fates else "accepted"
        if isinstance(fate, Response | CmlError):
            return fate
        variables = dict((request.json or {})["environment"])  # type: ignore[call-overload]
        match fate:
            case "accepted":
                return self._take(variables)
            case "lost":
                self._take(variables)
                return lost()
            case "skipped":
                run_id = self._enter(variables, "skipped", self.player.now)
                return document(self._shown(self.run(run_id), echoes=self.echoes))
            case "vanished":
                return lost()
            case "unsent":
                return unsent()
            case (_, seconds):
                self.player.at(seconds, lambda: self._take(variables))
                return lost()
        raise AssertionError(fate)

    def _take(self, variables: dict[str, str]) -> Response:
        """The effect of a start: a run, or a SKIPPED entry where one is active."""
        if any(run["status"] not in OVER for run in self.runs):
            self._enter(variables, "skipped", self.player.now)
            return grpc_error(400, f"job run for job {IDS.job_id} already active", 9)
        return document(
            self._shown(self.run(self._enter(variables, "scheduling", self.player.now)), echoes=self.echoes)
        )

    def _shown(self, run: dict[str, Any], *, echoes: bool) -> dict[str, Any]:
        created = EPOCH + timedelta(seconds=run["created"] + self.clock)
        return {
            "id": run["id"],
            "project_id": IDS.project_id,
            "job_id": IDS.job_id,
            "status": f"ENGINE_{run['status'].upper()}",
            "created_at": created.isoformat() if self.is_dated else None,
            "environment": json.dumps(run["environment"]) if echoes and run["environment"] else "",
        }


def _is_start(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("/runs")
