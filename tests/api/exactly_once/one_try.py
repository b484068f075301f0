"""One try of the task as the operator plays it: start the run exactly once, wait for its end, say how it ended.

The law: it is a conversation like those it is made of. It knows nothing of the world but the answers it was sent, so
the model plays it in virtual time, and the two transports play it over sockets.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_provider_cml.api.conversations import starting, waiting
from airflow_provider_cml.api.conversations.start import Busy, Started
from airflow_provider_cml.api.errors import (
    CmlError,
    CmlRefusedError,
    CmlStartError,
    CmlSupersededError,
    CmlUnavailableError,
    CmlUnknownStatusError,
)
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import now, pause
from airflow_provider_cml.failures import CmlTaskFailError, failure_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.api.conversations.start import Start
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.run_key import RunKey
    from airflow_provider_cml.api.wire import Exchange

TAKES_PART_AGAIN = 1
"""Times a try takes part again because the run it carried on with was stopped."""
AGE = 60.0
"""Seconds a run is taken to be old when the wait begins: fewer polls, the same rules."""


class Ending(StrEnum):
    """How a try ended, and so what Airflow does next."""

    GREEN = "green"
    RED = "its run failed"
    STOPPED = "its run was stopped by somebody"
    BUSY = "the job is busy"
    REFUSED = "CML refuses the start"
    UNSEEN = "CML refuses to show the run"
    UNAVAILABLE = "CML could not be asked before a start"
    LOST_IN_OUTAGE = "CML could not be asked, and Airflow does not retry"
    UNWATCHED = "CML could not be asked about the run"
    MAY_EXIST = "a run may exist"
    SUPERSEDED = "a newer try is at work"
    KILLED = "killed"

    @property
    def is_retried(self) -> bool:
        """Airflow tries again, if there are tries left; everything else is for good."""
        return self in _RETRIED

    @property
    def is_clean(self) -> bool:
        """Nothing of this try is left behind: no start on its way, no run unwatched."""
        return self not in {Ending.MAY_EXIST, Ending.SUPERSEDED, Ending.KILLED, Ending.UNWATCHED, Ending.UNSEEN}


_RETRIED = frozenset({Ending.RED, Ending.UNAVAILABLE, Ending.UNWATCHED, Ending.KILLED})


class OneTry:
    """A wish, played to its end. `took` hears of every run taken for ours, `tell` what there is to say.

    :param resume: gives the key to a flow that goes on after a deferral, perhaps in a worker configured otherwise.
    """

    def __init__(
        self,
        start: Start,
        took: Callable[[Started], None],
        tell: Callable[[str], None],
        resume: Callable[[RunKey], RunKey] = lambda key: key,
    ) -> None:
        self.start = start
        self.found: Started | None = None
        """The run that is ours now."""
        self._took = took
        self._tell = tell
        self._resume = resume
        self._progress = start.progress
        self._began = 0.0

    def play(self) -> Exchange[Ending]:
        """From the first look to the end of the run."""
        given_up: frozenset[str] = frozenset()
        self._began = yield from now()
        rejection = ""
        while True:
            found = yield from self._start_or_find(given_up, rejection)
            if isinstance(found, Ending):
                return found
            self._progress = replace(self._progress, losses=max(self._progress.losses, found.losses))
            run = yield from self._wait(found)
            if isinstance(run, Ending):
                return run
            is_stopped = run.status is JobRunStatus.STOPPED
            is_of_earlier = found.key.try_number < self.start.key.try_number
            rejection = ""
            if is_stopped and is_of_earlier and len(given_up) < TAKES_PART_AGAIN:
                given_up |= {run.id}
            elif run.status is JobRunStatus.SKIPPED:
                rejection = f"CML skipped run {run.id}"
                self._progress = replace(self._progress, rejections=self._progress.rejections + 1)
            else:
                break
            self.found = None
        if self._progress.losses:
            with suppress(CmlError):
                yield from waiting.look_for_doubles(self.start.ids, found.key, run.id)
        if run.status.is_success:
            return Ending.GREEN
        return Ending.STOPPED if is_stopped else Ending.RED

    def _start_or_find(self, given_up: frozenset[str], rejection: str) -> Exchange[Started | Ending]:
        while True:
            waited = (yield from now()) - self._began
            start = replace(
                self.start,
                excluded=given_up,
                progress=self._progress,
                rejection=rejection,
                waited=waited,
                dag_run_age=None if self.start.dag_run_age is None else self.start.dag_run_age + waited,
                has_connected=self.start.has_connected or waited > 0,
            )
            try:
                found = yield from starting.start_exactly_once(start)
            except CmlError as error:
                self._tell(str(error))
                return _ending_of(error)
            if isinstance(found, Started):
                break
            if isinstance(found, Busy):
                return Ending.BUSY
            # The triggerer waits, and then a worker goes on with a new flow.
            self._tell(f"waits in the triggerer: {found.reason}")
            self._progress, rejection = found.progress, ""
            yield from pause(max(found.seconds, starting.BUSY_GAP))
            self.start = replace(self.start, key=self._resume(self.start.key))
        self.found = found
        self._took(found)
        return found

    def _wait(self, found: Started) -> Exchange[JobRun | Ending]:
        if found.run.status.is_over:
            return found.run
        try:
            return (yield from waiting.wait_for_job_run(waiting.Wait(self.start.ids, found.run.id, age=AGE)))
        except (CmlUnavailableError, CmlUnknownStatusError):
            return Ending.UNWATCHED
        except CmlRefusedError:
            return Ending.UNSEEN


def _ending_of(error: CmlError) -> Ending:
    """What the operator makes of a flow that failed before there was a run: see `failures`."""
    if isinstance(error, CmlStartError):
        return Ending.SUPERSEDED if isinstance(error, CmlSupersededError) else Ending.MAY_EXIST
    if isinstance(error, CmlRefusedError):
        return Ending.REFUSED
    is_final = isinstance(failure_of(error), CmlTaskFailError)
    return Ending.LOST_IN_OUTAGE if is_final else Ending.UNAVAILABLE
