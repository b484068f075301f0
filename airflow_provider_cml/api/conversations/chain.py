"""The chain of child jobs that CML starts below a run, and how it ends.

What is known (Cloudera's documentation, the published document): a job may name a parent in its project (`parent_id`);
when a run of the parent succeeds, CML starts one of the child, as a run of its own. No run says which one started it.
So a child's run is known by its time: the first of its job that began when the parent's run ended.

The law: what CML does not start within `CHILD_WITHIN` is not waited for, and is no success. After a run that did not
succeed nothing is expected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.finding import JobIds, all_pages, check_token
from airflow_provider_cml.api.conversations.waiting import (
    POLL_PATIENCE,
    UNKNOWN_BOUND,
    gap_after,
    shareable_age,
    within,
)
from airflow_provider_cml.api.errors import CmlUnknownStatusError, CmlWaitTimeoutError
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import note, now, pause

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_cml.api.conversations.watching import Pace
    from airflow_provider_cml.api.models import Job, JobRun
    from airflow_provider_cml.api.wire import Exchange

CHILD_WITHIN = 300.0
"""Seconds after a run's end in which CML starts the children of its job. How late it may be is not published."""
SLACK = 10.0
"""Seconds by which a child's run may be dated before the end of the one that started it."""
PAGE_SIZE = 25
"""Entries of a child's history one page holds: its run is among the newest."""


@dataclass(frozen=True, slots=True)
class Link:
    """A child job below a run that succeeded, and its run, once there is one.

    :param missing: why there is none, and will be none; "" while there may be.
    """

    job: Job
    parent: JobRun
    run: JobRun | None = None
    missing: str = ""

    @property
    def is_over(self) -> bool:
        """Nothing more will come of it."""
        return bool(self.missing) or (self.run is not None and self.run.status.is_over)

    @property
    def is_success(self) -> bool:
        """Its run succeeded."""
        return self.run is not None and self.run.status.is_success

    def __str__(self) -> str:
        """As the log tells it."""
        if self.run is None:
            return self.missing or f"Job {self.job.name!r} follows run {self.parent.id} and has not been started yet."
        return f"Run {self.run.id} of job {self.job.name!r}, which follows run {self.parent.id}, is {self.run.status}."


class Chain:
    """All that follows a run, as far as it was seen; links stand in the order in which they are reached.

    :param ids: the job of the run at the top.
    :param top: that run, succeeded.
    """

    def __init__(self, ids: JobIds, top: JobRun) -> None:
        self.links: list[Link] = []
        self._ids = ids
        self._top = top
        self._jobs: list[Job] | None = None
        self._said: dict[str, str] = {}
        self._unknown_since: dict[str, float] = {}

    @property
    def is_over(self) -> bool:
        """Every link has ended, or will never begin. Known after a look."""
        return self._jobs is not None and all(link.is_over for link in self.links)

    @property
    def broken(self) -> Link | None:
        """The first link that ended, and not in success."""
        return next((link for link in self.links if link.is_over and not link.is_success), None)

    def look(self, moment: datetime, max_age: float = 0.0) -> Exchange[None]:
        """See how far it has come; what has changed is said.

        :param moment: now, by a clock that can be compared with CML's.
        :raises CmlUnknownStatusError: CML has given a run no status we know for `UNKNOWN_BOUND` seconds.
        """
        if self._jobs is None:
            self._jobs = yield from all_pages(
                lambda token: v2.list_jobs(self._ids.project_id, page_token=token, patience=POLL_PATIENCE)
            )
        known = {link.job.id: link for link in self.links}
        links: list[Link] = []
        reached = [(self._ids.job_id, self._top)]
        seen = {self._ids.job_id}
        while reached:
            job_id, parent = reached.pop(0)
            for child in self._jobs:
                if child.parent_id != job_id or child.id in seen:
                    continue
                seen.add(child.id)
                link = known.get(child.id, Link(child, parent))
                if not link.is_over:
                    link = yield from self._look_at(link, moment, max_age)
                links.append(link)
                if link.run is not None and link.is_success:
                    reached.append((child.id, link.run))
        self.links = links
        for link in links:
            if self._said.get(link.job.id) != str(link):
                self._said[link.job.id] = str(link)
                yield from note(str(link), warning=bool(link.missing))

    def follow(self, pace: Pace, moment: datetime) -> Exchange[None]:
        """Look until it is over.

        :param moment: as for `look`, at the beginning.
        :raises CmlWaitTimeoutError: the time given is over.
        :raises CmlError: as `look`; or CML could not be asked for ten minutes, or refused.
        """
        began = changed = yield from now()
        yield from pause(within(pace.first_gap, pace.timeout))
        while True:
            before = list(self.links)
            elapsed = (yield from now()) - began
            max_age = shareable_age(elapsed + began - changed, pace.poll_interval)
            yield from self.look(moment + timedelta(seconds=elapsed), max_age)
            if self.is_over:
                return
            present = yield from now()
            if self.links != before:
                changed = present
            gap = gap_after(present - changed, pace.poll_interval)
            if pace.timeout is not None:
                left = began + pace.timeout - present
                if left <= 0:
                    raise self.timed_out()
                gap = min(gap, left)
            yield from pause(gap)

    def timed_out(self) -> CmlWaitTimeoutError:
        """What is told where the time given is over; carries the run that is waited for, if there is one."""
        # Not after how many seconds: a trigger that was made anew knows only what was left of them.
        message = f"The chain below run {self._top.id} was not over when the time given to wait was over."
        waiting = next((link for link in self.links if not link.is_over), None)
        if waiting is None:
            return CmlWaitTimeoutError(message, None)
        return CmlWaitTimeoutError(f"{message} {waiting}", waiting.run and _named(waiting.run, waiting))

    def _look_at(self, link: Link, moment: datetime, max_age: float) -> Exchange[Link]:
        if link.run is None:
            return (yield from self._find(link, moment, max_age))
        run = yield from v2.get_job_run(
            self._ids.project_id, link.job.id, link.run.id, patience=POLL_PATIENCE, max_age=max_age
        )
        if run.status is not JobRunStatus.UNKNOWN:
            self._unknown_since.pop(run.id, None)
        elif moment.timestamp() - self._unknown_since.setdefault(run.id, moment.timestamp()) >= UNKNOWN_BOUND:
            message = (
                f"CML has called run {run.id} of job {link.job.name!r} {run.word!r} for {UNKNOWN_BOUND / 60:.0f} "
                f"minutes, which says neither that it is active nor that it is over."
            )
            raise CmlUnknownStatusError(message, _named(run, link))
        return replace(link, run=run)

    def _find(self, link: Link, moment: datetime, max_age: float) -> Exchange[Link]:
        """The run CML has started of a child; or the reason why there will be none."""
        ended = link.parent.finished_at or link.parent.created_at or moment
        first, last = ended - timedelta(seconds=SLACK), ended + timedelta(seconds=CHILD_WITHIN)
        skipped: JobRun | None = None
        found: JobRun | None = None
        for run in (yield from self._runs_from(link.job.id, first, max_age)):  # newest first, so the first comes last
            if run.created_at is None or not first <= run.created_at <= last:
                continue
            if run.status.is_executed:
                found = run
            else:
                skipped = run
        if found is not None or moment <= last:
            return replace(link, run=found)
        why = f"CML has started no run of job {link.job.name!r} ({link.job.id}) within {CHILD_WITHIN / 60:.0f} minutes"
        why = f"{why} after the end of run {link.parent.id}, which it follows"
        if skipped is not None:
            why = f"{why}: run {skipped.id} was skipped, because another run of the job was active"
        elif link.job.paused:
            why = f"{why}: the job is paused"
        return replace(link, missing=f"{why}.")

    def _runs_from(self, job_id: str, first: datetime, max_age: float) -> Exchange[list[JobRun]]:
        """A child's runs, newest first, down to those that are too old to matter."""
        runs: list[JobRun] = []
        token = ""
        seen = {token}
        while True:
            page = yield from v2.list_job_runs(
                self._ids.project_id,
                job_id,
                page_size=PAGE_SIZE,
                page_token=token,
                patience=POLL_PATIENCE,
                max_age=max_age,
            )
            runs.extend(page.items)
            token = page.next_page_token
            if not token or any(run.created_at and run.created_at < first for run in page.items):
                return runs
            check_token(token, seen)


def follow_chain(ids: JobIds, run_id: str, pace: Pace, moment: datetime) -> Exchange[JobRun]:
    """Wait until all that follows a run is over, however it ended; returns the run at the top.

    :raises CmlError: as `Chain.follow`.
    """
    top = yield from v2.get_job_run(ids.project_id, ids.job_id, run_id, patience=POLL_PATIENCE)
    yield from Chain(ids, top).follow(pace, moment)
    return top


def _named(run: JobRun, link: Link) -> JobRun:
    """A link's run, which says of which job it is, whatever CML has told of that."""
    return replace(run, job_id=link.job.id)
