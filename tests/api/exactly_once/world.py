"""A small CML with one job, in virtual time: what it holds, and how it answers.

It speaks HTTP with the real conversations: a `Request` of `api.v2` comes in, a `Response` with JSON as CML writes it
goes out, so decoding, retry and the status table are under test as well. What happens to a request on its way (lost,
late, refused) is decided by `network`; this module only knows what a workspace does with one that arrives.

The law: this CML keeps its promises. One run is active at a time; a status is never stale; a list is a snapshot,
newest first. A run may be listed late, but only as late as whoever made it was told.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.api.wire import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_cml.api.wire import Request
    from tests.api.exactly_once.worker import Worker

PROJECT = "pppp-pppp-pppp-pppp"
JOB = "jjjj-jjjj-jjjj-jjjj"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
STOP_TAKES = 3.0
SCHEDULING = 1.0
"""Seconds a run is scheduling before it runs."""
QUOTA_WINDOW = 40.0
"""Seconds a workspace stays out of quota."""
LOCKED_WINDOW = 700.0
"""Seconds a workspace answers every start with a conflict that says nothing of an active run."""


class Timeline:
    """Virtual time: what happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    def after(self, seconds: float, happening: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._due, (self.now + seconds, self._count, happening))

    def advance(self) -> bool:
        """Let the next thing happen. False: nothing is due any more."""
        if not self._due:
            return False
        self.now, _, happening = heapq.heappop(self._due)
        happening()
        return True


@dataclass(slots=True, eq=False)
class Run:
    """One entry of the job's history, and the truth about it that no API tells.

    `series` is the number of the series of tries it was started in, None for somebody else's run; `worker` who sent
    its start. `executed` is False for a refusal's entry and for a run that was skipped before it ran.
    """

    id: str
    series: int | None
    worker: Worker | None
    created_at: float
    listed_at: float
    over_at: float
    ending: str
    executed: bool
    shown: str
    created: str
    middle: str = "RUNNING"
    stop_at: float | None = None
    stopped_by: list[Worker | None] = field(default_factory=list)

    def word(self, moment: float) -> str:
        if self.over_at <= moment:
            return self.ending
        if self.stop_at is not None:
            return "STOPPING"
        return "SCHEDULING" if moment < self.created_at + SCHEDULING else self.middle

    def is_active(self, moment: float) -> bool:
        return self.over_at > moment

    def body(self, moment: float, *, with_environment: bool) -> str:
        environment = f', "environment": {self.shown}' if with_environment else ""
        return (
            f'{{"id": "{self.id}", "project_id": "{PROJECT}", "job_id": "{JOB}", '
            f'"status": "ENGINE_{self.word(moment)}", "created_at": "{self.created}"{environment}}}'
        )


@dataclass(frozen=True, slots=True)
class Habits:
    """What one workspace is like: things that do not change while a schedule is played."""

    echo: str = "full"
    """"full"; "not in lists"; or "none"."""
    page: int = 100
    """Entries of a page at most, whatever is asked for."""
    busy: str = "skipped"
    """How a busy job answers: with a "skipped" run, "code 9", or "412" of an older gateway without an entry; or with
    "code 9, in other words" and "409, in other words", which do not say that a run is active."""
    clock: float = 0.0
    """Seconds by which CML's clock is ahead of Airflow's."""
    has_date: bool = True
    """Whether answers carry a Date header."""


class Cml:
    """The workspace."""

    def __init__(self, timeline: Timeline, habits: Habits) -> None:
        self.timeline = timeline
        self.habits = habits
        self.runs: list[Run] = []
        """Oldest first, refusals included."""
        self.quota_until = float("-inf")
        self.locked_until = float("-inf")
        self.down_until = float("-inf")
        self.down = "503"
        """What is heard of it until then."""

    def active(self) -> Run | None:
        moment = self.timeline.now
        for run in reversed(self.runs):
            if run.over_at > moment:
                return run
        return None

    def add(
        self,
        worker: Worker | None,
        key: str | None,
        life: tuple[float, str] = (10.0, "SUCCEEDED"),
        *,
        lag: float = 0.0,
        age: float = 0.0,
        echoes: bool = True,
        executed: bool = True,
    ) -> Run:
        """A new entry. `life` is for how long it is active, and how it ends."""
        moment = self.timeline.now - age
        environment = {"CDSW_PROJECT": "x"} if key is None else {RUN_KEY_VARIABLE: key}
        run = Run(
            id=f"run{len(self.runs):013d}",
            series=None if worker is None else worker.series,
            worker=worker,
            created_at=moment,
            listed_at=moment + lag,
            over_at=moment + life[0],
            ending=life[1],
            executed=executed,
            shown=json.dumps(json.dumps(environment) if echoes and self.habits.echo != "none" else ""),
            created=date(moment + self.habits.clock).isoformat(),
        )
        self.runs.append(run)
        return run

    def refuse(self, worker: Worker | None, key: str | None, lag: float = 0.0) -> Run:
        """The entry a refused start leaves behind."""
        return self.add(worker, key, (0.0, "SKIPPED"), lag=lag, executed=False)

    def stop(self, run: Run, by: Worker | None, takes: float = STOP_TAKES) -> bool:
        """Begin to stop a run. False: it is over, or stopping already."""
        moment = self.timeline.now
        if not run.is_active(moment) or run.stop_at is not None:
            return False
        run.stop_at = moment
        run.stopped_by.append(by)
        run.over_at = moment + takes
        run.ending = "STOPPED"
        return True

    def find(self, run_id: str) -> Run | None:
        number = int(run_id.removeprefix("run"))
        return self.runs[number] if number < len(self.runs) else None

    # ------------------------------------------------------------------------------------------------ answers

    def answer_list(self, request: Request) -> tuple[Response, list[Run]]:
        """One page, and what was on it."""
        moment = self.timeline.now
        query = dict(request.query)
        assert query["sort"] == "-created_at"
        size = min(int(query["page_size"]), self.habits.page)
        begin = int(query.get("page_token", "0"))
        listed = [run for run in reversed(self.runs) if run.listed_at <= moment]
        page = listed[begin : begin + size]
        token = str(begin + size) if begin + size < len(listed) else ""
        with_environment = self.habits.echo == "full"
        entries = ", ".join(run.body(moment, with_environment=with_environment) for run in page)
        response = _answer(200, f'{{"job_runs": [{entries}], "next_page_token": "{token}"}}')
        if self.habits.has_date:
            response = replace(response, headers={**response.headers, "date": self.date_header()})
        return response, page

    def date_header(self) -> str:
        return format_datetime(date(self.timeline.now + self.habits.clock), usegmt=True)

    def answer_run(self, run: Run) -> Response:
        return _answer(200, run.body(self.timeline.now, with_environment=True))


def date(moment: float) -> datetime:
    """The day and hour Airflow and CML write for a moment of virtual time."""
    return EPOCH + timedelta(seconds=moment)


def microseconds(moment: float) -> int:
    return int(date(moment).timestamp() * 1_000_000)


def refused(status: int, code: int, text: str) -> Response:
    """An answer that says no."""
    return _answer(status, json.dumps({"error": text, "code": code, "message": text, "details": []}))


def failed(status: int, retry_after: int | None = None) -> Response:
    """An answer of a gateway."""
    headers = {"content-type": "text/html"} | ({} if retry_after is None else {"retry-after": str(retry_after)})
    return Response(status, headers, b"<html><title>gateway</title></html>")


def is_red(run: Run, moment: float) -> bool:
    """Whether whoever looks now sees that it ended without success."""
    return run.executed and run.over_at <= moment and run.ending != "SUCCEEDED"


def executed(runs: Iterable[Run], series: int) -> list[Run]:
    return [run for run in runs if run.executed and run.series == series]


def _answer(status: int, body: str) -> Response:
    return Response(status, {"content-type": "application/json"}, body.encode())
