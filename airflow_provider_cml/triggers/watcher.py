"""One watcher of one job: it looks, remembers how far it has told, and makes what it tells.

The law: a watcher has no task that could fail, so it never gives up and never raises. What goes wrong is said in the
triggerer's log, when it changes, and the looks get rarer until it goes well again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_cml import events
from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.endings import CursorError, look_for_endings
from airflow_provider_cml.api.conversations.finding import JobIds, find_job_ids
from airflow_provider_cml.api.conversations.waiting import SHORTEST_SHARE
from airflow_provider_cml.api.errors import (
    RETRY_AFTER_CAP,
    CmlError,
    CmlRefusedError,
    CmlUnauthorizedError,
    CmlUnavailableError,
)
from airflow_provider_cml.outlets import run_facts
from airflow_provider_cml.triggers import sharing
from airflow_provider_cml.triggers.watermark import MovedError, Watermark

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.api.endpoint import Endpoint
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange, Note
    from airflow_provider_cml.triggers.beats import Beat

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds one request of a look survives failures to ask; ten times as long it does what CML's Retry-After says."""
LONGEST_LOOK = 240.0
"""Seconds CML is asked in one look. Airflow 3.3 fails a watcher that is not done with a beat 300 after it was made."""
LONGEST_GAP = 600.0
"""Seconds between two looks at most, while they fail."""
DOUBLINGS = 10
"""How often a gap is doubled; a number that a job gone for weeks cannot make too large for a float."""
MOVED_GAP = 30.0
"""Seconds to leave to another watcher that is at work: its events are confirmed by then, or it is gone."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched: a job as the DAG's author calls it, and which endings are of interest."""

    cml_conn_id: str
    project: str
    job: str
    statuses: tuple[str, ...]
    poll_interval: float

    @property
    def key(self) -> str:
        """The name of the mark: the same for the same watch, whatever its gap."""
        parts = json.dumps([self.cml_conn_id, self.project, self.job, sorted(self.statuses)])
        return f"cml-job-run-events-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"


class Watcher:
    """Looks at each beat, and returns what has to be told.

    :param accessors: the state of the watched assets, as Airflow 3.3+ gives it to a trigger.
    """

    def __init__(self, watch: Watch, accessors: Any, log: Any) -> None:
        self._watch = watch
        self._log = log
        self._mark = Watermark(accessors, watch.key)
        self._stay = sharing.Stay(watch.cml_conn_id)
        self._told: list[Beat] = []
        self._ids: JobIds | None = None
        self._run_url = ""
        self._is_read = False
        self._failures = 0
        self._not_before = 0.0
        self._looked_at = 0.0
        self._cut_at = 0.0
        self._complaint = ""

    async def look(self, beat: Beat) -> list[dict[str, Any]]:
        """The payloads of the events to be fired at this beat."""
        try:
            payloads = await self._look(beat)
        except MovedError:
            self._is_read = False
            self._not_before = asyncio.get_running_loop().time() + MOVED_GAP
            self._complain("Another triggerer has told of this job's runs meanwhile: going on from there.")
            return []
        except CursorError as error:
            self._is_read = True
            self._mark.forget()
            self._complain(f"What was kept for this watch is of no use, so it begins anew: {error}")
            return []
        except CmlError as error:
            if isinstance(error, CmlRefusedError) and not isinstance(error, CmlUnauthorizedError):
                self._ids, self._run_url = None, ""  # of a project that is gone CML says 403 or 404
            self._fail(str(error), getattr(error, "retry_after", None))
            return []
        except Exception as error:  # noqa: BLE001 - Airflow would start the watcher again at once, and again
            text = f"{type(error).__name__}: {error}"
            if text != self._complaint:
                self._log.exception("The look at %s failed", self)
            self._fail(text)
            return []
        if payloads:
            beat.told = True
            self._told.append(beat)
        return payloads

    async def leave(self) -> None:
        """Give up the place in the shared pool."""
        await self._stay.leave()

    def __str__(self) -> str:
        """The job in words."""
        return f"job {self._watch.job!r} of project {self._watch.project!r}"

    async def _look(self, beat: Beat) -> list[dict[str, Any]]:
        if self._told and all(beat.stored for beat in self._told):
            await self._mark.settle()
            self._told.clear()
        now = asyncio.get_running_loop().time()
        if now < self._not_before or beat.made_at < self._looked_at:
            # Beats are made while a look lasts, too, and Airflow counts the time of each from then on.
            return []
        self._cut_at = now + LONGEST_LOOK
        try:
            return await self._news()
        finally:
            self._looked_at = asyncio.get_running_loop().time()

    async def _news(self) -> list[dict[str, Any]]:
        mark = self._mark
        if not self._is_read:
            self._told.clear()
            await mark.read()
            self._is_read = True
            self._log.info("Watching %s. %s", self, self._beginning())
        endpoint = await self._stay.renew()
        if self._ids is None:
            watch = self._watch
            self._ids = await self._perform(lambda: find_job_ids(watch.project, watch.job))
        ids, cursor = self._ids, mark.cursor
        found = await self._perform(lambda: look_for_endings(ids, cursor, PATIENCE))
        self._recover()
        news = [run for run in found.runs if run.status in self._watch.statuses]
        if news and not self._run_url:
            self._run_url = await self._link(endpoint, ids)
        doubtful = mark.doubtful
        await mark.advance(found.cursor, [run.id for run in news])
        return [self._payload(run, ids, doubtful) for run in news]

    def _payload(self, run: JobRun, ids: JobIds, doubtful: frozenset[str]) -> dict[str, Any]:
        repeated = run.id in doubtful
        self._log.info("Run %s of %s is %s%s.", run.id, self, run.status, " (told once more)" if repeated else "")
        facts = run_facts(events.Watched(ids.project_id, ids.job_id, run_url=self._run_url), run)
        return {"project": self._watch.project, "job": self._watch.job, **facts, "repeated": repeated}

    async def _link(self, endpoint: Endpoint, ids: JobIds) -> str:
        """The address of the jobs page. One request; where it fails, events go without a link."""
        try:
            project = await self._perform(lambda: v2.get_project(ids.project_id, patience=0))
        except CmlError:
            return ""
        return endpoint.jobs_url(project.owner, project.slug)

    async def _perform(self, exchange: Callable[[], Exchange[T]]) -> T:
        try:
            async with asyncio.timeout_at(self._cut_at) as limit:
                return await sharing.perform(self._watch.cml_conn_id, exchange, self._tell)
        except TimeoutError:
            if not limit.expired():
                raise
            error = CmlUnavailableError(f"CML had not answered all that was asked within {LONGEST_LOOK:.0f} seconds.")
            error.retry_after = RETRY_AFTER_CAP  # the most that it may have asked for meanwhile
            raise error from None

    def _beginning(self) -> str:
        kept = "" if self._mark.survives else " Nothing is kept: what ends while no triggerer runs will not be told."
        if self._mark.cursor is None:
            return f"What is over by now is no news.{kept}"
        doubtful = self._mark.doubtful
        doubt = f" Told perhaps, and once more: {', '.join(sorted(doubtful))}." if doubtful else ""
        return f"Going on where the last watcher stopped.{doubt}"

    def _fail(self, text: str, retry_after: float | None = None) -> None:
        self._failures += 1
        rarer = self._watch.poll_interval * 2.0 ** min(self._failures, DOUBLINGS)
        gap = min(rarer, max(LONGEST_GAP, self._watch.poll_interval))
        self._not_before = asyncio.get_running_loop().time() + max(gap * SHORTEST_SHARE, retry_after or 0.0)
        self._complain(text)

    def _recover(self) -> None:
        if self._failures:
            self._log.info("Watching %s: well again.", self)
        self._failures, self._not_before, self._complaint = 0, 0.0, ""

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._log.warning("Watching %s: %s", self, text)
            self._complaint = text

    def _tell(self, note: Note) -> None:
        # Of an outage that goes on, each look would say the same once more.
        level = logging.DEBUG if self._failures else logging.WARNING if note.warning else logging.INFO
        self._log.log(level, "%s", note.text)
