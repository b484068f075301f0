"""From a run that failed to the one by which CML's own Job Retry replaces it.

What is known (Cloudera's documentation, the published document): a retry is a new run of the same job, `retry_delay`
seconds later, `max_retry` times at most, for the endings the job names; it may wait longer where an administrator
limits how many go on at once. A run says nothing of the one it replaces. That a retry is given the environment of its
forerunner is inferred, and not confirmed on a live CML; so the run key, which nobody else writes, is what a successor
is known by.

The law: without that proof nothing is followed. A run that cannot be told to be a successor is a stranger's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.finding import newest_runs, runs_with_key
from airflow_provider_cml.api.conversations.waiting import POLL_PATIENCE, Wait, gap_after, wait_for_job_run
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, follow, outcome_of
from airflow_provider_cml.api.errors import CmlError, CmlRefusedError
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import note, now, pause

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_provider_cml.api.conversations.finding import JobIds
    from airflow_provider_cml.api.conversations.watching import Pace, Target
    from airflow_provider_cml.api.models import Job, JobRun
    from airflow_provider_cml.api.wire import Exchange

LATENESS = 180.0
"""Seconds after the job's own delay in which a successor may still appear. How late CML may be is not known."""

LONGEST_DELAY = 86_400.0
"""Seconds of a job's own delay that are believed; every wait ends."""


def may_be_made_again(run: JobRun) -> bool:
    """Whether CML's Job Retry knows this ending: it makes failed and timed-out runs again, and skipped ones.

    A skipped one is not a failure here but a busy job, which whoever started it waits for by itself.
    """
    return run.status in (JobRunStatus.FAILED, JobRunStatus.TIMEDOUT)


def find_successor(
    ids: JobIds, run: JobRun, known: Collection[str], timeout: float | None, poll_interval: float
) -> Exchange[JobRun | None]:
    """The run that CML has made, or will make, of one that ended badly; None where there is none to come.

    :param known: the ids of the runs that were followed already, `run` among them.
    :param timeout: seconds that may be waited; None is as long as one may come.
    :raises CmlUnavailableError: CML could not be asked for ten minutes.
    """
    if not may_be_made_again(run):
        return None
    if run.run_key is None:
        yield from note(
            f"Run {run.id} carries no key, so a retry of CML's cannot be told from another run.", warning=True
        )
        return None
    began = yield from now()
    try:
        job = yield from v2.get_job(ids.project_id, ids.job_id, patience=POLL_PATIENCE)
        if not _is_retried(job, run):
            return None
        patience = min(max(job.retry_delay, 0), LONGEST_DELAY) + LATENESS
        patience = patience if timeout is None else min(patience, timeout)
        is_told = False
        while True:
            # Both times are CML's own: what is made of a run is newer than the run.
            listed = yield from newest_runs(ids, POLL_PATIENCE, run.created_at)
            copies = yield from runs_with_key(ids, listed, run.run_key, POLL_PATIENCE)
            newer = [copy for copy in copies if copy.id not in known and not _is_older(copy, run)]
            for copy in newer:
                if copy.status.is_executed:
                    return copy
            # A retry that was itself skipped counts as one, and may be made again in turn.
            is_last = bool(job.max_retry) and len(copies) > job.max_retry
            elapsed = (yield from now()) - began
            if is_last or (newer and not job.retry_for_skipped) or elapsed >= patience:
                why = "its retries are used up" if is_last else "none has come"
                yield from note(f"CML makes no run again of run {run.id}: {why}.")
                return None
            if not is_told:
                yield from note(f"Run {run.id} ended badly; waiting up to {patience:.0f} s for CML's Job Retry.")
                is_told = True
            yield from pause(min(gap_after(elapsed, poll_interval), patience - elapsed))
    except CmlRefusedError as error:
        yield from note(f"CML refused to tell whether it makes run {run.id} again. {error}", warning=True)
        return None


def follow_retries(target: Target, pace: Pace, turn_to: Callable[[JobRun], None]) -> Exchange[JobRun]:
    """Wait until the run that is meant is over, and each that CML makes of it, up to the one that decides.

    :param turn_to: told of each successor before it is waited for, for whoever may have to stop it.
    :raises CmlError: as `follow`.
    """
    began = yield from now()
    run = yield from follow(target, pace)
    known = {run.id}
    while True:
        left = None if pace.timeout is None else max(began + pace.timeout - (yield from now()), 0.0)
        successor = yield from find_successor(target.ids, run, known, left, pace.poll_interval)
        if successor is None:
            return run
        yield from note(f"CML's Job Retry has made run {successor.id} of run {run.id} ({run.status}): following it.")
        known.add(successor.id)
        turn_to(successor)
        left = None if pace.timeout is None else max(began + pace.timeout - (yield from now()), 0.0)
        run = yield from wait_for_job_run(Wait(target.ids, successor.id, pace.poll_interval, left))


def find_last_retry(ids: JobIds, run: JobRun, timeout: float | None, poll_interval: float) -> Exchange[JobRun]:
    """The run CML has made last of one that ended badly, as it is when it is found; `run` itself where there is none.

    :raises CmlUnavailableError: as `find_successor`.
    """
    began = yield from now()
    known = {run.id}
    while True:
        left = None if timeout is None else max(began + timeout - (yield from now()), 0.0)
        successor = yield from find_successor(ids, run, known, left, poll_interval)
        if successor is None:
            return run
        yield from note(f"CML's Job Retry has made run {successor.id} of run {run.id}; it is {successor.status}.")
        known.add(successor.id)
        run = successor


def watch_retries(target: Target, pace: Pace, turn_to: Callable[[JobRun], None]) -> Exchange[Outcome]:
    """The same; every ending is a value."""
    try:
        return Outcome(Ending.OVER, (yield from follow_retries(target, pace, turn_to)))
    except CmlError as error:
        return outcome_of(error)


def _is_retried(job: Job, run: JobRun) -> bool:
    """Whether the job wants runs with this ending made again. Why a run failed, API v2 does not tell."""
    wanted = job.retry_for_failure if run.status is JobRunStatus.FAILED else job.retry_for_timedout
    return job.retry_enabled and wanted


def _is_older(copy: JobRun, run: JobRun) -> bool:
    """Whether a run was made before another; both times are CML's own."""
    return copy.created_at is not None and run.created_at is not None and copy.created_at < run.created_at
