"""What a job's list of runs has shown to one process, kept up to date look by look.

A look that fails, or a list that repeats itself, is "could not ask", never "not found"; a first look that ends before
it has seen what it was to see says so; and a later look reads only what can have changed: from the newest entry down to
where no new one can appear, and each run that was still active when last seen.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.finding import SINGLE_LOOKS, JobIds, began, read_list
from airflow_provider_cml.api.errors import CmlNotFoundError
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.api.wire import now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_provider_cml.api.conversations.start import Start
    from airflow_provider_cml.api.models import JobRun, Page
    from airflow_provider_cml.api.wire import Exchange

FIRST_ENTRIES = 20
"""Entries a first try reads: it needs what is active, and nothing of its own can be further back. A start that is
rejected because of an active run below them makes the next look read on."""
DEEPEST = 1000
"""Entries a look reads at most, rejected starts (SKIPPED) included: a thousand waiters may have left as many."""
FARTHEST = 10_000
"""Entries the first look of a later try reads at most to reach the time when its dag run began."""
SINGLE_LOOKS_AT_MOST = 500
"""Runs that are asked for singly at most to reach it, where a list shows no environments."""

LISTED_WITHIN = timedelta(seconds=90)
"""By how much a run may be listed late. It then stands below entries that are newer than itself."""
AGE_MARGIN = timedelta(minutes=15)
"""By how much a run has to be older than the dag run to be none of its runs. Ages are compared, not clocks: the run's
by CML's Date header, the dag run's by Airflow's clocks."""
CLOCK_MARGIN = timedelta(days=1)
"""The same where CML sends no Date header, so that its clock is compared with Airflow's."""

OUTAGE_PATIENCE = 600.0
"""Seconds for which a look survives 5xx and timeouts, and everything else once CML has answered."""
UNREACHABLE_PATIENCE = 30.0
"""Seconds for which it survives that no workspace is found at the address, before CML has ever answered."""


class History:
    """The runs of one job as far as this process has seen them, newest first."""

    def __init__(self, start: Start) -> None:
        self.ids: JobIds = start.ids
        self.reads_back = start.durable and start.key.try_number > 1
        """Runs of an earlier try may be anywhere since the dag run began."""
        self.is_cut = False
        """The first look did not see all runs since then: what is not here may be there nevertheless."""
        self.looked_at = float("-inf")
        """When the last look was sent; a moment of `wire.now`."""
        self.seen_at = float("-inf")
        """When the last look was answered."""
        self.began = float("inf")
        """When the first look was sent, with which the flow began."""
        self.shows_environments = False
        """Whether any run of this job has shown its environment. Where one does, a run that shows none has none."""
        self._lists_show = False
        self._page_size = v2.PAGE_SIZE if self.reads_back else FIRST_ENTRIES
        self._has_answered = start.has_connected
        self._key = start.key
        self._dag_run_age = start.dag_run_age
        self._date: datetime | None = None
        self._dated_at = 0.0
        self._runs: dict[str, JobRun] = {}
        self._order: list[str] = []
        self._is_first = True
        self._all_listed_before: datetime | None = None
        """No run created before this moment of CML's clock can still appear in the list."""

    def look(self, *, for_active: bool = False) -> Exchange[None]:
        """Read the list: one request, as a rule.

        :param for_active: read on until a run is seen that was executed; an active one is the newest of those.
        """
        self.looked_at = yield from now()
        self.began = min(self.began, self.looked_at)
        active = [run.id for run in self._runs.values() if run.is_active]
        entries = yield from self._read(for_active)
        yield from self._merge(entries)
        listed = {run.id for run in entries}
        for run_id in active:
            if run_id not in listed:
                yield from self._refresh_run(run_id)
        self.seen_at = yield from now()

    def __iter__(self) -> Iterator[JobRun]:
        return (self._runs[run_id] for run_id in self._order)

    @property
    def keyed(self) -> list[tuple[RunKey, JobRun]]:
        """The runs that carry a key of ours, or of another task's, newest first."""
        found = ((RunKey.parse(run.run_key), run) for run in self)
        return [(key, run) for key, run in found if key is not None]

    @property
    def active(self) -> list[JobRun]:
        """The runs that occupy the job. CML allows one at a time, but its own Job Retry may add another."""
        return [run for run in self if run.is_active]

    @property
    def unreadable(self) -> list[JobRun]:
        """The executed runs that may carry a key although CML shows none: no run of the job shows an environment."""
        if self.shows_environments:
            return []
        return [run for run in self if run.status.is_executed and not run.echoes]

    def is_before_dag_run(self, run: JobRun) -> bool:
        """Whether the run is too old to be one of our dag run's. One without a date may be of any time."""
        if run.created_at is None or self._dag_run_age is None:
            return False
        if self._date is not None:
            age = timedelta(seconds=self._dag_run_age + self._dated_at - self.began)
            return self._date - run.created_at > age + AGE_MARGIN
        since = began(self._key, CLOCK_MARGIN)
        return since is not None and run.created_at < since

    def may_be_new(self, run: JobRun) -> bool:
        """Whether the run may have begun since this process first looked, although it did not read to that run then."""
        limit = self._all_listed_before
        return limit is None or run.created_at is None or run.created_at >= limit

    def _read(self, for_active: bool) -> Exchange[list[JobRun]]:
        """The list from the newest entry on, as far as this look has to see."""
        is_back = self._is_first and self.reads_back

        def is_enough(entries: list[JobRun]) -> bool:
            if len(entries) >= (FARTHEST if is_back else DEEPEST):
                return True
            if for_active and not any(run.status.is_executed for run in entries):
                return False
            oldest = entries[-1] if entries else None
            if is_back:
                return oldest is not None and self.is_before_dag_run(oldest)
            if self._is_first:
                return len(entries) >= FIRST_ENTRIES
            return oldest is not None and not self.may_be_new(oldest)

        def fetch_page(token: str, size: int) -> Exchange[Page[JobRun]]:
            page = yield from v2.list_job_runs(
                self.ids.project_id,
                self.ids.job_id,
                page_size=size,
                page_token=token,
                patience=OUTAGE_PATIENCE,
                unreachable_patience=self._unreachable_patience,
            )
            self._has_answered = True
            if not token:
                self._date, self._dated_at = page.date, (yield from now())
            return page

        listing = yield from read_list(fetch_page, is_enough, self._page_size)
        self._page_size = listing.page_size
        if is_back:
            self.is_cut = not (listing.is_complete or (listing.items and self.is_before_dag_run(listing.items[-1])))
        return listing.items

    def _merge(self, entries: list[JobRun]) -> Exchange[None]:
        """Take over what was listed. That lists carry the environment is inferred, not confirmed on a live CML.

        Where none shows one, the newest runs are asked for singly, and rejected starts apart from them, so that those
        of many waiters never hide a run. A workspace that shows none even then is not asked for hundreds.
        """
        asked = {True: 0, False: 0}
        self._lists_show = self._lists_show or any(run.echoes for run in entries)
        self.shows_environments = self.shows_environments or self._lists_show
        listed: dict[str, None] = {}
        for entry in {run.id: run for run in entries}.values():
            run = entry
            known = self._runs.get(run.id)
            if not run.echoes and known is not None:
                run = _with_environment_of(run, known)
            elif not run.echoes and not self._lists_show:
                is_executed = run.status.is_executed
                may_be_own = is_executed and not (
                    self._is_first and (not self.reads_back or self.is_before_dag_run(run))
                )
                most = SINGLE_LOOKS_AT_MOST if may_be_own and self.shows_environments else SINGLE_LOOKS
                if asked[is_executed] < most:
                    asked[is_executed] += 1
                    run = _with_environment_of(run, (yield from self._get_run(run.id)))
                    self.shows_environments = self.shows_environments or run.echoes
                elif may_be_own and self._is_first:
                    self.is_cut = True
            self._runs[run.id] = run
            listed[run.id] = None
        self._order = [*listed, *(run_id for run_id in self._order if run_id not in listed)]
        if self._is_first:
            self._is_first = False
            # Not the newest of all: a run listed late stands below it. Both times are CML's own.
            newest = next((run.created_at for run in entries if run.created_at), self._date)
            self._all_listed_before = newest and newest - LISTED_WITHIN

    def _get_run(self, run_id: str) -> Exchange[JobRun]:
        return v2.get_job_run(self.ids.project_id, self.ids.job_id, run_id, patience=OUTAGE_PATIENCE)

    @property
    def _unreachable_patience(self) -> float | None:
        return None if self._has_answered else UNREACHABLE_PATIENCE

    def _refresh_run(self, run_id: str) -> Exchange[None]:
        """A run that was active and is below what this look has read, or gone."""
        try:
            run = yield from self._get_run(run_id)
        except CmlNotFoundError:
            del self._runs[run_id]
            self._order.remove(run_id)
        else:
            self._runs[run_id] = _with_environment_of(run, self._runs[run_id])


def _with_environment_of(run: JobRun, known: JobRun) -> JobRun:
    return run if run.echoes else replace(run, run_key=known.run_key, echoes=known.echoes)
