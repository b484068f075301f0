"""What a job's list of runs has shown to one process, kept up to date look by look.

The law: a look that fails, or a list that repeats itself, is "could not ask", never "not found"; a first look
that ends before it has seen what it was to see says so; and a later look reads only what can have changed: from the
newest entry down to where no new one can appear, and on to every run that was still active when last seen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.finding import SINGLE_LOOKS, JobIds, check_token
from airflow_provider_cml.api.conversations.start import Contact
from airflow_provider_cml.api.errors import CmlNotFoundError
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.api.wire import now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange

DEEPEST_EXECUTED = 100
"""Executed runs the first look reads at most, if nothing of ours can be further back: before a first try, none is."""
DEEPEST = 1000
"""Entries it then reads at most, refusals (SKIPPED) included: a thousand waiters may have left as many. A later look
has the same bottom."""
FARTHEST = 10_000
"""Entries the first look reads at most to reach the moment since which something of ours may be there."""
SINGLE_LOOKS_AT_MOST = 500
"""Runs that are asked one by one at most to reach it, where a list shows no environments."""

LISTED_WITHIN = 90.0
"""Seconds by which a run may be listed late. It then stands below entries that are newer than itself."""

FIRST_PATIENCE = 30.0
"""Seconds a look is tried before CML has ever answered: nothing has begun, so a wrong address is told soon."""
LATER_PATIENCE = 600.0
"""Seconds any later look is tried: somebody may be waiting for hours already, or an answer is lost."""


class History:
    """The runs of one job as far as this process has seen them, newest first."""

    def __init__(self, ids: JobIds, since: datetime | None = None, contact: Contact | None = None) -> None:
        """`since`: something of ours may be anywhere among the runs created from this moment of CML's clock on."""
        self.ids = ids
        self.contact = contact or Contact()
        self.since = since
        self.is_cut = False
        """The first look did not see all runs since then: what is not here may be there nevertheless."""
        self.looked_at = float("-inf")
        """When the last look was sent; a moment of `wire.now`."""
        self.seen_at = float("-inf")
        """When the last look was answered."""
        self._runs: dict[str, JobRun] = {}
        self._order: list[str] = []
        self._anchor: str | None = None
        self._echo_of: dict[str, JobRun] = {}
        self._first = True

    def look(self) -> Exchange[None]:
        """Read the list. One request where the anchor is on its first page, as it nearly always is."""
        self.looked_at = yield from now()
        wanted = {run.id for run in self._runs.values() if run.is_active}
        if self._anchor is not None:
            wanted.add(self._anchor)
        yield from self._keep((yield from self._read(wanted)))
        for run_id in wanted - {self._anchor}:
            yield from self._look_at(run_id)
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
    def echoes(self) -> bool:
        """Whether this workspace shows a run's environment, as far as can be told.

        A job without runs tells nothing, and needs not: what is not there cannot be one of ours.
        """
        return not self._runs or any(run.echoes for run in self)

    def _read(self, wanted: set[str]) -> Exchange[list[JobRun]]:
        """The list from the newest entry on. What of `wanted` stands there is taken out of it."""
        entries: list[JobRun] = []
        executed = 0
        token = ""
        tokens = {token}
        is_bound = self._first and self.since is not None
        while True:
            page = yield from v2.list_job_runs(
                self.ids.project_id, self.ids.job_id, page_token=token, patience=self._patience()
            )
            self.contact.is_made = True
            entries.extend(page.items)
            executed += sum(run.status.is_executed for run in page.items)
            wanted.difference_update(run.id for run in page.items)
            token = page.next_page_token
            if not token or not (self._first or wanted):
                break
            is_deep = executed >= DEEPEST_EXECUTED or len(entries) >= DEEPEST
            if is_deep and (not is_bound or self._is_before(entries[-1]) or len(entries) >= FARTHEST):
                break
            check_token(token, tokens)
        if is_bound:
            self.is_cut = bool(token) and not self._is_before(entries[-1])
        return entries

    def _is_before(self, run: JobRun) -> bool:
        """Whether the run is too old to be ours, and so is all below it. One without a date may be of any time."""
        return self.since is not None and run.created_at is not None and run.created_at < self.since

    def _keep(self, entries: list[JobRun]) -> Exchange[None]:
        asked = {True: 0, False: 0}
        shown: list[JobRun] = []
        # Where one entry of the list shows an environment, one that shows none has none, and is not ours.
        is_blind = not any(entry.echoes for entry in entries)
        for entry in {run.id: run for run in entries}.values():
            run = entry
            if not run.echoes:
                # That lists carry the environment is inferred, not confirmed: ask for the newest runs one by one, and
                # for refusals apart from them, so that the refusals of many waiters never hide a run.
                kind = run.status.is_executed
                known = self._echo_of.get(run.id)
                if known is None and run.id not in self._runs:
                    may_be_ours = is_blind and kind and not (self._first and (not self.since or self._is_before(run)))
                    # A workspace of which a few runs show nothing when asked for is not asked for hundreds.
                    most = SINGLE_LOOKS_AT_MOST if may_be_ours and self._echo_of else SINGLE_LOOKS
                    if asked[kind] < most:
                        asked[kind] += 1
                        known = yield from self._ask(run.id)
                        if known.echoes:
                            self._echo_of[run.id] = known
                    elif may_be_ours and self._first:
                        self.is_cut = True
                if known is not None:
                    run = _with_key_of(run, known)
            shown.append(run)
        fresh = {run.id for run in shown}
        self._runs.update((run.id, run) for run in shown)
        self._order = [run.id for run in shown] + [run_id for run_id in self._order if run_id not in fresh]
        if self._first:
            self._first = False
            self._anchor = _anchor(shown)

    def _ask(self, run_id: str) -> Exchange[JobRun]:
        return v2.get_job_run(self.ids.project_id, self.ids.job_id, run_id, patience=self._patience())

    def _patience(self) -> float:
        return LATER_PATIENCE if self.contact.is_made else FIRST_PATIENCE

    def _look_at(self, run_id: str) -> Exchange[None]:
        """A run that was active and has left the list: it may lie deeper than a look reads, or be gone."""
        try:
            run = yield from self._ask(run_id)
        except CmlNotFoundError:
            del self._runs[run_id]
            self._order.remove(run_id)
        else:
            self._runs[run_id] = _with_key_of(run, self._echo_of.get(run_id, run))


def _anchor(entries: list[JobRun]) -> str:
    """The newest entry above which every run must show that the list does not hold yet; "" where none is so old.

    Not the newest of all: a run listed late stands below it, perhaps on a page no later look would read. Both times
    are CML's own.
    """
    newest = entries[0].created_at if entries else None
    for run in entries:
        if newest and run.created_at and (newest - run.created_at).total_seconds() > LISTED_WITHIN:
            return run.id
    return ""


def _with_key_of(run: JobRun, known: JobRun) -> JobRun:
    return run if run.echoes else replace(run, run_key=known.run_key, echoes=known.echoes)
