"""What is to be started, and what came of it: the nouns of `starting`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.conversations.finding import JobIds
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.run_key import RunKey


@dataclass(slots=True)
class Contact:
    """Whether CML has answered this try yet, kept as it goes. Until it has, its very address may be the mistake."""

    is_made: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """A wish to run a job once.

    :param ids: the job.
    :param key: the start's key, without the number of the POST.
    :param environment: variables of the run, the key not among them; kept out of `repr`.
    :param arguments: reaches the script as JOB_ARGUMENTS.
    :param durable: carry on with the run of an earlier try; without, only runs of this very try are ours.
    :param stop_former: stop what a clear left behind; without, it is waited for like anybody's run.
    :param wait_when_busy: wait for a busy job; without, the conversation ends with `Busy`.
    :param wait_elsewhere: end with `Busy` wherever this conversation would wait for others, so that somebody else can.
    :param refusals: starts CML has refused this try before, in an earlier conversation.
    :param refusal: why CML refused the last of them, just before; the gap it asks for is taken first. "": none did.
    :param busy_timeout: seconds to wait for a busy job and for former runs to stop; None is without limit.
    :param poll_interval: the longest gap between two looks at a busy job, seconds.
    :param waited: seconds since this try began that other conversations have taken already.
    :param sent: the keys of the starts of this conversation that are out, accepted or lost, kept as it goes for whoever
        has to clean up; those known to have started nothing are taken out again.
    :param excluded: runs whose end is not to be taken for this try's result.
    :param contact: whether CML has answered this try, in this conversation or before.
    """

    ids: JobIds
    key: RunKey
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    arguments: str | None = None
    durable: bool = True
    stop_former: bool = True
    wait_when_busy: bool = True
    wait_elsewhere: bool = False
    refusals: int = 0
    refusal: str = ""
    busy_timeout: float | None = None
    poll_interval: float = 30.0
    waited: float = 0.0
    excluded: frozenset[str] = frozenset()
    sent: list[RunKey] = field(default_factory=list)
    contact: Contact = field(default_factory=Contact)

    def is_of_my_try(self, key: RunKey) -> bool:
        """Whether this very try, in this process or a stale one, sent the start with `key`."""
        return key.attempt == self.key.attempt

    def is_of_my_task(self, key: RunKey) -> bool:
        """Whether any try of this task instance sent it."""
        return key.identity == self.key.identity


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
    """The job takes no start now: because of `run`, or, without one, for the reason in words.

    `gap` is how many seconds to stay away before the next look; `refusals` how many starts of this try CML refused.
    """

    reason: str
    run: JobRun | None = None
    timed_out: bool = False
    gap: float = 0.0
    refusals: int = 0
