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
from airflow_provider_cml.api.conversations.start import Started
from airflow_provider_cml.api.errors import (
    CmlError,
    CmlRefusedError,
    CmlStartError,
    CmlSupersededError,
    CmlUnavailableError,
    CmlUnknownStatusError,
)
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.api.conversations.start import Start
    from airflow_provider_cml.api.models import JobRun
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
    """A wish, played to its end. `took` hears of every run taken for ours, `tell` what there is to say."""

    def __init__(self, start: Start, took: Callable[[Started], None], tell: Callable[[str], None]) -> None:
        self.start = start
        self.found: Started | None = None
        """The run that is ours now."""
        self._took = took
        self._tell = tell

    def play(self) -> Exchange[Ending]:
        """From the first look to the end of the run."""
        given_up: frozenset[str] = frozenset()
        losses = 0
        while True:
            found = yield from self._start_or_find(given_up)
            if isinstance(found, Ending):
                return found
            losses = max(losses, found.losses)
            run = yield from self._wait(found)
            if isinstance(run, Ending):
                return run
            is_stopped = run.status is JobRunStatus.STOPPED
            is_of_earlier = found.key.try_number < self.start.key.try_number
            if is_stopped and is_of_earlier and len(given_up) < TAKES_PART_AGAIN:
                given_up |= {run.id}
            elif run.status is not JobRunStatus.SKIPPED:
                break
            self.found = None
        if losses:
            with suppress(CmlError):
                yield from waiting.look_for_doubles(self.start.ids, found.key, run.id)
        if run.status.is_success:
            return Ending.GREEN
        return Ending.STOPPED if is_stopped else Ending.RED

    def _start_or_find(self, given_up: frozenset[str]) -> Exchange[Started | Ending]:
        start = replace(self.start, excluded=given_up)
        while True:
            try:
                found = yield from starting.start_exactly_once(start)
            except CmlStartError as error:
                self._tell(str(error))
                return Ending.SUPERSEDED if isinstance(error, CmlSupersededError) else Ending.MAY_EXIST
            except CmlUnavailableError:
                return Ending.UNAVAILABLE
            except CmlRefusedError:
                return Ending.REFUSED
            if isinstance(found, Started):
                break
            if found.timed_out or not start.wait_elsewhere:
                return Ending.BUSY
            # The triggerer waits, and then a worker takes part from the beginning.
            yield from pause(max(found.gap, starting.BUSY_GAP))
            start = replace(start, refusals=found.refusals)
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
