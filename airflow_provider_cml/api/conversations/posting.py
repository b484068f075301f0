"""The start requests of one try, and what became of each: accepted, rejected, not sent, refused for good, or lost.

Invariants: one POST at a time, each with a number of its own in its key. A lost one is looked for until GRACE is over,
and only then counted as never having been; a rejected one is not repeated before a look has shown why, or a backoff is
over. How many are lost is counted for the whole try.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.start import Origin, Progress, Start, Started
from airflow_provider_cml.api.errors import (
    CmlJobBusyError,
    CmlRefusedError,
    CmlRunMayExistError,
    CmlServerError,
    CmlUnavailableError,
)
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.api.wire import note, now, pause

if TYPE_CHECKING:
    from airflow_provider_cml.api.conversations.history import History
    from airflow_provider_cml.api.run_key import RunKey
    from airflow_provider_cml.api.wire import Exchange

GRACE = 180.0
"""Seconds from sending a start to the moment it can no longer take effect. Proxies cut at 60 to 120 s."""
RESENDS = 2
"""Lost answers after which one try still sends again; one more, and it gives up for good."""
LOSS_GAPS = (2.0, 5.0, 10.0, 20.0)
"""Seconds between looks for a lost start; the last repeats."""
REFUSAL_GAPS = (15.0, 30.0, 60.0, 120.0, 240.0, 300.0)
"""Seconds to wait after a rejection for which no look shows a reason; the last repeats."""
CONFLICT_PATIENCE = 600.0
"""Seconds for which a start is repeated that CML answers with 409, 412 or code 9, and nothing shows that it is busy."""
UNSENT_PATIENCE = 600.0
"""Seconds for which a start that cannot even leave this machine is tried."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_TOO_MANY_REQUESTS = 429


@dataclass(slots=True)
class _Loss:
    """A start request whose answer was lost. `listed` is what the list held before it was sent."""

    key: RunKey
    sent_at: float
    listed: frozenset[str]
    looks: int = 0


class Posting:
    """What one process knows of the starts of its try."""

    def __init__(self, start: Start, history: History) -> None:
        self.start = start
        self.history = history
        self.losses = start.progress.losses
        self.rejection: str | None = start.rejection or None
        """Why CML rejected the last start, until a look has shown a reason of its own."""
        self.is_capacity = False
        """It was rejected for want of capacity: no other run of the job is meant."""
        self.conflict: CmlRefusedError | None = None
        """The conflict it was rejected with, if its text does not say that the job is busy."""
        self._posts = 0
        self._rejections = start.progress.rejections
        self._conflict_since = start.progress.conflict_since
        self._retry_after: float | None = None
        self._loss: _Loss | None = None
        self._unsent_since: float | None = None

    @property
    def progress(self) -> Progress:
        """What the next flow of this try has to know."""
        return Progress(self.losses, self._rejections, self._conflict_since)

    def post(self) -> Exchange[Started | None]:
        """Send one start. None: it is rejected, lost or not sent, and a look comes next.

        :raises CmlRefusedError: CML refuses for good, or has answered with conflicts for `CONFLICT_PATIENCE`.
        """
        self._posts += 1
        letters = "".join(random.choices(_LETTERS, k=4))  # noqa: S311 - a label, not a secret
        key = self.start.key.with_post(f"{self._posts}.{letters}")
        listed = frozenset(run.id for run in self.history)
        sent_at = yield from now()
        self.start.sent.append(key)
        try:
            run = yield from v2.create_job_run(
                self.start.ids.project_id,
                self.start.ids.job_id,
                environment={**self.start.environment, RUN_KEY_VARIABLE: str(key)},
                arguments=self.start.arguments,
            )
        except CmlJobBusyError as error:
            self._forget(key)
            self._reject("CML is out of quota" if error.out_of_quota else "CML calls the job busy", error.out_of_quota)
            self._conflict_since = None
            return None
        except CmlRefusedError as error:
            self._forget(key)
            is_final = not error.is_conflict or (yield from self._is_conflict_over(sent_at))
            if is_final and self.losses:
                raise self.may_exist(f"an answer was lost before, and now CML refuses: {error}") from error
            if is_final:
                raise
            self._reject(f"CML does not take the start{error.said}", is_capacity=False)
            self.conflict = error
            return None
        except CmlUnavailableError as error:
            yield from self._unanswered(key, _Loss(key, sent_at, listed), error)
            return None
        self.history.shows_environments = self.history.shows_environments or run.echoes
        if not run.status.is_executed:
            # The second face of a busy job (seen on live workspaces): 200, and a run that never runs.
            self._forget(key)
            self._reject("CML calls the job busy", is_capacity=False)
            self._conflict_since = None
            return None
        yield from note(f"Started run {run.id}.")
        return Started(run, Origin.STARTED, key, self.losses)

    def settle_loss(self) -> Exchange[bool]:
        """Go on with a lost start, if there is one. True: it is not settled, or has just been; look again.

        :raises CmlRunMayExistError: it cannot be settled.
        """
        loss = self._loss
        if loss is None:
            return False
        if any(self.start.is_of_my_try(key) and key.post == loss.key.post for key, _ in self.history.keyed):
            # An executed run with this number would be ours by now, so this is the record of a rejection.
            yield from note("The start whose answer was lost had been rejected: the job was busy.")
            self._forget(loss.key)
            self._loss = None
            self._reject("CML called the job busy", is_capacity=False)
            return True
        # A look may take minutes in an outage; what counts is what CML held when it was sent.
        over_at = loss.sent_at + GRACE
        if self.history.looked_at < over_at:
            gap = LOSS_GAPS[min(loss.looks, len(LOSS_GAPS) - 1)]
            loss.looks += 1
            yield from pause(min(gap, over_at - (yield from now())))
            return True
        unknown = [
            run.id for run in self.history.unreadable if run.id not in loss.listed and self.history.may_be_new(run)
        ]
        if unknown:
            raise self.may_exist(f"run {unknown[0]}, which began since, shows no environment, as no run of this job")
        if self.losses > RESENDS:
            raise self.may_exist(f"the answers to {self.losses} starts of this try were lost")
        self._loss = None
        yield from note(
            f"The start sent {GRACE:.0f} s ago is not among the job's runs: it is taken for lost, and sent again.",
            warning=True,
        )
        return True

    @property
    def is_pending(self) -> bool:
        """A start is out, and what became of it is not known."""
        return self._loss is not None

    def explain_rejection(self) -> None:
        """A look has shown an active run: that is why the last start was rejected."""
        self.rejection = self.conflict = self._conflict_since = None

    def take_backoff(self) -> Exchange[float]:
        """Seconds to stay away after a rejection that no look explains; taking it forgets the rejection."""
        gap = REFUSAL_GAPS[min(max(self._rejections, 1), len(REFUSAL_GAPS)) - 1]
        if self.conflict is not None and self._conflict_since is not None:
            left = self._conflict_since + CONFLICT_PATIENCE - self._in_try((yield from now()))
            gap = min(gap, max(left, 1.0))
        asked, self._retry_after, self.rejection, self.conflict = self._retry_after, None, None, None
        return gap if asked is None else max(asked, 1.0)

    def may_exist(self, why: str) -> CmlRunMayExistError:
        """The error that ends a try for good: a start is out, and starting again could run the job twice."""
        key = self._loss.key if self._loss else self.start.key
        return CmlRunMayExistError(
            f"A start of job {self.start.ids.job_id} was sent, and {why}. A run may exist: before starting the task "
            f"again, look in CML for a run with {RUN_KEY_VARIABLE}={key}"
        )

    def _unanswered(self, key: RunKey, loss: _Loss, error: CmlUnavailableError) -> Exchange[None]:
        self._conflict_since = None
        if isinstance(error, CmlServerError) and error.status == _TOO_MANY_REQUESTS:
            # A gateway that counts requests has not passed this one on.
            self._forget(key)
            self._reject("CML takes no more requests now (429)", is_capacity=True)
            self._retry_after = error.retry_after
        elif error.sent:
            self._loss = loss
            self.losses += 1
            yield from note(f"The answer to the start was lost. {error} Looking for the run by its key.", warning=True)
        else:
            self._forget(key)
            moment = yield from now()
            self._unsent_since = moment if self._unsent_since is None else self._unsent_since
            if moment - self._unsent_since > UNSENT_PATIENCE:
                raise error
            yield from note(f"The start could not be sent. {error}", warning=True)
            yield from pause(random.uniform(0.5, 1.0) * REFUSAL_GAPS[0])  # noqa: S311 - jitter
            return
        self._unsent_since = None

    def _is_conflict_over(self, sent_at: float) -> Exchange[bool]:
        """Whether conflicts have been answered for so long that this one is final."""
        at = self._in_try(sent_at)
        if self._conflict_since is None:
            self._conflict_since = at
            yield from note(
                f"CML does not take the start now; it is repeated for {CONFLICT_PATIENCE:g} s.", warning=True
            )
        return at - self._conflict_since >= CONFLICT_PATIENCE

    def _in_try(self, moment: float) -> float:
        """Seconds since the try began."""
        return self.start.waited + moment - self.history.began

    def _forget(self, key: RunKey) -> None:
        """This start has started nothing: code that cleans up from now on has nothing of it to look for."""
        self.start.sent.remove(key)

    def _reject(self, why: str, is_capacity: bool) -> None:
        self.rejection = why
        self.is_capacity = is_capacity
        self._rejections += 1
        self._unsent_since = None
