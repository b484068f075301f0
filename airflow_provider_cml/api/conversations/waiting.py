"""Seeing a run to its end, or stopping it and seeing that.

The law: "the run failed" and "we could not ask" never meet. Failures to ask are counted in time, forgotten at the first
good answer, and end the wait, not the run. A status nobody knows is waited for with a bound, and never green.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.finding import read_list
from airflow_provider_cml.api.errors import (
    CmlError,
    CmlRefusedError,
    CmlUnauthorizedError,
    CmlUnavailableError,
    CmlUnknownStatusError,
    CmlWaitTimeoutError,
)
from airflow_provider_cml.api.retry import LONGEST_GAP
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE, RunKey
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import note, now, pause

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.finding import JobIds
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange

POLL_PATIENCE = 600.0
"""Seconds of consecutive failures to ask that a wait survives."""
UNKNOWN_BOUND = 1800.0
"""Seconds a run may stay in a status that is neither active nor over by any word we know."""
STOP_PATIENCE = 120.0
"""Seconds a stop is watched for its effect."""
STOP_GAP = 2.0
NEWEST = 20
"""Entries of a job's history that are read to stop the run of a task that is being killed."""
SHORTEST_GAP = 1.0
AGE_SHARE = 0.1
"""The gap between two looks, as a share of the run's age: a run of a minute is told three seconds late on average."""
SHORTEST_SHARE = 0.8
"""The shortest a jittered gap gets, as a share of the whole."""
STILL_THERE = 600.0
"""Seconds after which an unchanged status is said again."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What to wait for, and for how long.

    :param poll_interval: the longest gap between two looks, seconds.
    :param timeout: seconds from now until the wait is given up; None is without limit.
    :param age: seconds the run is old already.
    :param first_gap: seconds before the first look.
    :param until_clear: only until the run has a status we know, over or not.
    """

    ids: JobIds
    run_id: str
    poll_interval: float = 30.0
    timeout: float | None = None
    age: float = 0.0
    first_gap: float = 0.0
    until_clear: bool = False


def gap_after(age: float, poll_interval: float) -> float:
    """Seconds to the next look at a run that is `age` seconds old: a tenth of it, within bounds, and jittered.

    The jitter keeps ten thousand waits that a restarted triggerer resumes at once from knocking at once.
    """
    return _gap(age, poll_interval) * random.uniform(SHORTEST_SHARE, 1.0)  # noqa: S311 - jitter


def gap_in_midst(age: float, poll_interval: float) -> float:
    """Seconds to the first look of a wait that is resumed: what is left of a gap at some moment of it.

    Ten thousand waits that are resumed together then look as many times in each second, from the first second on. Some
    moment falls into a gap the likelier the longer the gap is; hence the root.
    """
    share = math.sqrt(random.uniform(SHORTEST_SHARE**2, 1.0))  # noqa: S311 - jitter
    return _gap(age, poll_interval) * share * random.uniform(0.0, 1.0)  # noqa: S311 - jitter


def within(gap: float, left: float | None) -> float:
    """A gap, or what is left of the time given where that is less; None is without limit."""
    return gap if left is None else min(gap, max(left, 0.0))


def _gap(age: float, poll_interval: float) -> float:
    return min(max(age * AGE_SHARE, SHORTEST_GAP), max(poll_interval, SHORTEST_GAP))


def wait_for_job_run(wait: Wait) -> Exchange[JobRun]:
    """Look at a run until it is over, and return it as it then is, whatever its ending.

    :raises CmlWaitTimeoutError: the time given is over; carries the run as last seen.
    :raises CmlUnknownStatusError: CML has given no status we know for `UNKNOWN_BOUND` seconds.
    :raises CmlUnavailableError: CML could not be asked for `POLL_PATIENCE` seconds in a row; the run is left alone.
    :raises CmlRefusedError: the run cannot be seen any more.
    """
    began = yield from now()
    deadline = None if wait.timeout is None else began + wait.timeout
    run: JobRun | None = None
    unknown_since: float | None = None
    looks = v2.JobRunLooks(wait.ids.project_id, wait.ids.job_id, wait.run_id, POLL_PATIENCE)
    said_at = began
    yield from pause(within(wait.first_gap, wait.timeout))
    while True:
        moment = yield from now()
        try:
            seen = yield from looks.again(deadline)
        except CmlUnavailableError as error:
            # Given up because the next attempt would come after the deadline: that is the end of the time, not of the
            # patience. One look more, when it is reached.
            next_attempt = max(LONGEST_GAP, (error.retry_after or 0.0) + 1.0)
            left = float("inf") if deadline is None else deadline - (yield from now())
            if left > next_attempt:
                raise
            if left <= 0:
                raise _timed_out(wait, run) from error
            yield from pause(left)
            continue
        moment = yield from now()
        if run is None or seen.word != run.word:
            yield from note(f"Run {seen.id} is {_word(seen)}.")
            said_at = moment
        elif moment - said_at >= STILL_THERE:
            yield from note(f"Run {seen.id} is still {_word(seen)}.")
            said_at = moment
        run = seen
        if run.status.is_over or (wait.until_clear and run.status is not JobRunStatus.UNKNOWN):
            return run
        if run.status is not JobRunStatus.UNKNOWN:
            unknown_since = None
        elif unknown_since is None:
            unknown_since = moment
        elif moment - unknown_since >= UNKNOWN_BOUND:
            message = (
                f"CML has called run {run.id} {_word(run)} for {UNKNOWN_BOUND / 60:.0f} minutes, which says neither "
                f"that it is active nor that it is over. The run is left alone; look at it in CML."
            )
            raise CmlUnknownStatusError(message, run)
        gap = gap_after(wait.age + moment - began, wait.poll_interval)
        if deadline is not None:
            if moment >= deadline:
                raise _timed_out(wait, run)
            gap = min(gap, deadline - moment)
        yield from pause(gap)


def stop_and_confirm(ids: JobIds, run_id: str) -> Exchange[JobRun]:
    """Stop a run, once, and look until it is over. A run that is over or stopping already gets no request.

    :returns: the run as last seen: over, or, if `STOP_PATIENCE` did not suffice, still on its way.
    :raises CmlError: CML could not be asked, or refused.
    """
    run = yield from stop_if_active(ids, run_id)
    deadline = (yield from now()) + STOP_PATIENCE
    while not run.status.is_over:
        if (yield from now()) >= deadline:
            break
        yield from pause(STOP_GAP)
        run = yield from v2.get_job_run(ids.project_id, ids.job_id, run_id)
    return run


def stop_if_active(ids: JobIds, run_id: str) -> Exchange[JobRun]:
    """Look at a run, and send one stop if it is neither over nor stopping. Returns the run as last seen."""
    run = yield from v2.get_job_run(ids.project_id, ids.job_id, run_id)
    if run.status.can_be_stopped:
        try:
            run = yield from v2.stop_job_run(ids.project_id, ids.job_id, run_id)
        except CmlUnavailableError as error:
            yield from note(f"The answer to stopping run {run_id} was lost. {error}", warning=True)
        except CmlUnauthorizedError:
            raise
        except CmlRefusedError as error:
            # The run may have ended between the look and the request; the next look tells.
            yield from note(f"CML answered the stop of run {run_id} with a refusal. {error}", warning=True)
    return run


def stop_in_passing(ids: JobIds, key: RunKey, run_id: str, seconds: float) -> Exchange[None]:
    """Stop the run of a try whose process is being killed: one look and one stop at most, within `seconds` in all.

    Without a run id the answer to the start is still out: then the run is looked for by its key. A request may take
    its `read_timeout` twice, to connect and to be answered; a third of the time is kept for the stop.
    """
    began = yield from now()
    allowed = seconds / 3
    if run_id:
        seen = [(yield from v2.get_job_run(ids.project_id, ids.job_id, run_id, patience=0, read_timeout=allowed))]
    else:
        # Few entries: there is no time to read a large page twice.
        page = yield from v2.list_job_runs(
            ids.project_id, ids.job_id, page_size=NEWEST, patience=0, read_timeout=allowed
        )
        keyed = [(RunKey.parse(run.run_key), run) for run in page.items if run.status.is_executed]
        seen = [run for found, run in keyed if found is not None and _is_own(found, key)]
    if not seen:
        yield from note(
            f"The task is killed while the answer to its start is out. A run may exist: look in CML for a run with "
            f"{RUN_KEY_VARIABLE}={key}",
            warning=True,
        )
    for run in seen[:1]:
        if run.status.can_be_stopped:
            left = max(seconds - ((yield from now()) - began), seconds / 6)
            asked = yield from v2.stop_job_run(ids.project_id, ids.job_id, run.id, read_timeout=left / 2)
            yield from note(f"Run {run.id} was asked to stop and is {asked.status}.")


def look_for_doubles(ids: JobIds, key: RunKey, run_id: str) -> Exchange[None]:
    """After a lost answer: one more look before the task ends, for a second run of this very try.

    CML has no idempotency key, so a start may take effect later than anybody can wait. An active second run is
    stopped; one that is over is told as an error of the log, because it cannot be undone. A run with this very key,
    its POST number included, comes of no start of ours: CML's own Job Retry makes copies of runs.
    """
    listing = yield from read_list(
        lambda token, size: v2.list_job_runs(ids.project_id, ids.job_id, page_size=size, page_token=token),
        lambda runs: len(runs) >= v2.PAGE_SIZE,
    )
    for run in listing.items:
        found = RunKey.parse(run.run_key)
        if found is None or not _is_own(found, key) or run.id == run_id or not run.status.is_executed:
            continue
        if found == key:
            yield from note(f"Run {run.id} has the key of run {run_id}: CML's Job Retry made it, and it is left alone.")
            continue
        if run.status.can_be_stopped:
            yield from note(f"Run {run.id} is a second run of this try, from a late start: stopping it.", warning=True)
            try:
                yield from v2.stop_job_run(ids.project_id, ids.job_id, run.id)
            except CmlError as error:
                yield from note(f"Run {run.id} could not be stopped. {error}", warning=True)
        else:
            yield from note(
                f"Run {run.id} is a second run of this try and {run.status}: a start took effect after its time. "
                f"The job has run twice for this task.",
                warning=True,
            )


def _is_own(found: RunKey, key: RunKey) -> bool:
    """Whether a run may be stopped as one of this try: of another Airflow's copy of the task it may not."""
    return found.is_same_try(key) and found.is_same_airflow(key)


def _timed_out(wait: Wait, run: JobRun | None) -> CmlWaitTimeoutError:
    # Not after how many seconds: a trigger that was made anew knows only what was left of them.
    when = "when the time given to wait was over"
    if run is None:
        return CmlWaitTimeoutError(f"Run {wait.run_id} could not be looked at {when}.", None)
    return CmlWaitTimeoutError(f"Run {run.id} was still {_word(run)} {when}.", run)


def _word(run: JobRun) -> str:
    """The status as words: CML's own where we know none."""
    return f"{run.status} ({run.word!r})" if run.status is JobRunStatus.UNKNOWN else str(run.status)
