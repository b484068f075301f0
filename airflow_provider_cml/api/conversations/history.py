"""What a job's list of runs has shown to one process, kept up to date look by look.

The law: a look that fails, or a list that repeats itself, is "could not ask", never "not found"; and a later look
reads only what can have changed: from the newest entry down to where no new one can appear, and on to every run that
was still active when last seen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.finding import SINGLE_LOOKS, JobIds, check_token
from airflow_provider_cml.api.errors import CmlNotFoundError
from airflow_provider_cml.api.run_key import RunKey
from airflow_provider_cml.api.wire import now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange

DEEPEST_EXECUTED = 100
"""Executed runs the first look reads at most. Older ones are further back than any series of tries reaches."""
DEEPEST = 1000
"""Entries a look reads at most, refusals (SKIPPED) included: a thousand waiters may have left as many."""

LISTED_WITHIN = 90.0
"""Seconds by which a run may be listed late. It then stands below entries that are newer than itself."""

FIRST_PATIENCE = 30.0
"""Seconds the first look is tried: nothing has begun, so a wrong address is told soon."""
LATER_PATIENCE = 600.0
"""Seconds any later look is tried: somebody may be waiting for hours already, or an answer is lost."""


class History:
    """The runs of one job as far as this process has seen them, newest first."""

    def __init__(self, ids: JobIds) -> None:
        self.ids = ids
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
        patience = FIRST_PATIENCE if self._first else LATER_PATIENCE
        entries: list[JobRun] = []
        executed = 0
        token = ""
        tokens = {token}
        while True:
            page = yield from v2.list_job_runs(
                self.ids.project_id, self.ids.job_id, page_token=token, patience=patience
            )
            entries.extend(page.items)
            executed += sum(run.status.is_executed for run in page.items)
            wanted.difference_update(run.id for run in page.items)
            token = page.next_page_token
            deep = executed >= DEEPEST_EXECUTED or len(entries) >= DEEPEST
            if not token or deep or not (self._first or wanted):
                break
            check_token(token, tokens)
        yield from self._keep(entries)
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

    def _keep(self, entries: list[JobRun]) -> Exchange[None]:
        asked = {True: 0, False: 0}
        shown: list[JobRun] = []
        for entry in {run.id: run for run in entries}.values():
            run = entry
            if not run.echoes:
                # That lists carry the environment is inferred, not confirmed: ask for the newest runs one by one, and
                # for refusals apart from them, so that the refusals of many waiters never hide a run.
                kind = run.status.is_executed
                known = self._echo_of.get(run.id)
                if known is None and asked[kind] < SINGLE_LOOKS and run.id not in self._runs:
                    asked[kind] += 1
                    known = yield from v2.get_job_run(self.ids.project_id, self.ids.job_id, run.id)
                if known is not None and known.echoes:
                    self._echo_of[run.id] = known
                    run = _with_key_of(run, known)
            shown.append(run)
        fresh = {run.id for run in shown}
        self._runs.update((run.id, run) for run in shown)
        self._order = [run.id for run in shown] + [run_id for run_id in self._order if run_id not in fresh]
        if self._first:
            self._first = False
            self._anchor = _anchor(shown)

    def _look_at(self, run_id: str) -> Exchange[None]:
        """A run that was active and has left the list: it may lie deeper than a look reads, or be gone."""
        try:
            run = yield from v2.get_job_run(self.ids.project_id, self.ids.job_id, run_id)
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
