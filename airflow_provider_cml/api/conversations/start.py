"""What is to be started, and what came of it: the values that `starting` takes and returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.conversations.finding import JobIds
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.run_key import RunKey


@dataclass(frozen=True, slots=True)
class Progress:
    """What a try has been through with its starts; it crosses every deferral, so that bounds hold for the whole try.

    :param losses: answers to starts that were lost, whatever became of them.
    :param rejections: starts that CML rejected because the job was busy.
    :param conflict_since: seconds of this try after which CML first answered a start with a conflict that no active
        run has explained yet; None while there is none.
    """

    losses: int = 0
    rejections: int = 0
    conflict_since: float | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """A run to be started once.

    :param ids: the job.
    :param key: the start's key, without the number of the POST.
    :param environment: variables of the run, the key not among them; kept out of `repr`.
    :param arguments: reaches the script as JOB_ARGUMENTS.
    :param durable: carry on with the run of an earlier try; without, only runs of this very try are ours.
    :param stop_former: stop what a clear left behind; without, it is waited for like a foreign run.
    :param wait_when_busy: wait for a busy job; without, the flow ends with `Busy`.
    :param can_defer: end with `Postponed` instead of waiting for the job or for time to pass, so that the caller can
        wait without a worker. A lost start is looked for here all the same.
    :param progress: what this try has been through in earlier flows.
    :param rejection: why CML rejected the last start, just before; its backoff comes first. "": it did not.
    :param busy_timeout: seconds to wait for a busy job and for former runs to stop; None is without limit.
    :param poll_interval: the longest interval between two looks at a busy job, seconds.
    :param waited: seconds since this try began that earlier flows have taken.
    :param dag_run_age: seconds since the dag run began, by Airflow's clocks; None where its start date is no date (see
        `RunKey.nonce`), so that runs of any age may be its own.
    :param sent: the keys of the starts of this flow that are out, accepted or lost, kept as it goes for the code that
        has to clean up; those known to have started nothing are taken out again.
    :param excluded: runs whose end is not to be taken for this try's result.
    :param has_connected: CML has answered this try before, so its address is right.
    """

    ids: JobIds
    key: RunKey
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    arguments: str | None = None
    durable: bool = True
    stop_former: bool = True
    wait_when_busy: bool = True
    can_defer: bool = False
    progress: Progress = Progress()
    rejection: str = ""
    busy_timeout: float | None = None
    poll_interval: float = 30.0
    waited: float = 0.0
    dag_run_age: float | None = None
    excluded: frozenset[str] = frozenset()
    sent: list[RunKey] = field(default_factory=list)
    has_connected: bool = False

    def is_of_my_try(self, key: RunKey) -> bool:
        """Whether this very try, in this process or a stale one, sent the start with `key`."""
        return self.key.is_same_try(key)

    def is_of_my_task(self, key: RunKey) -> bool:
        """Whether any try of this task instance sent it."""
        return self.key.is_same_task(key)

    def may_be_of_my_task(self, key: RunKey) -> bool:
        """Whether a key of another version has our ids: a fact this release does not know may tell the two apart."""
        return not key.is_understood and self.key.has_same_ids(key)


class Origin(StrEnum):
    """How a run came to be this try's."""

    STARTED = "started"
    FOUND = "found after a lost answer"
    CARRIED_ON = "carried on"
    SUCCEEDED_BEFORE = "had succeeded before"


@dataclass(frozen=True, slots=True)
class Started:
    """A run is ours. `key` is the one it carries; `losses` how many answers this try lost on the way."""

    run: JobRun
    origin: Origin
    key: RunKey
    losses: int = 0


@dataclass(frozen=True, slots=True)
class Busy:
    """The job takes no start, and this flow does not wait, or waited long enough: because of `run`, or of `reason`."""

    reason: str
    run: JobRun | None = None
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Postponed:
    """The flow has to wait, and the caller wanted to do so itself; afterwards it begins a new flow.

    :param seconds: to wait before the next flow at least.
    :param for_job: what is waited for is the job; otherwise only time has to pass.
    :param progress: for the next flow.
    """

    reason: str
    seconds: float
    for_job: bool
    progress: Progress
