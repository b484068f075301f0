"""The start requests of one try, and the fate of each: accepted, refused, not sent, rejected, or lost.

The law: one POST at a time, each with a number of its own in its key. A lost one is looked for until GRACE is over, and
only then counted as never having been; a refused one is not repeated before a look has shown why.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations.start import Origin, Start, Started
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
"""Seconds to wait after a refusal for which no look shows a reason; the last repeats."""
UNSENT_PATIENCE = 600.0
"""Seconds for which a start that cannot even leave this machine is tried."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_TOO_MANY_REQUESTS = 429


@dataclass(slots=True)
class _Loss:
    """A start request whose answer was lost."""

    key: RunKey
    sent_at: float
    looks: int = 0


class Posting:
    """What one process knows of the starts it sent."""

    def __init__(self, start: Start, history: History) -> None:
        self.start = start
        self.history = history
        self.losses = 0
        """Answers lost so far, whatever became of them."""
        self.refusal: str | None = start.refusal or None
        """Why CML refused the last start, until a look has shown a reason of its own."""
        self.is_capacity = False
        """The refusal was for want of capacity: no other run of the job is meant."""
        self._posts = 0
        self.refusals = start.refusals
        """Starts CML has refused this try."""
        self._retry_after: float | None = None
        self._loss: _Loss | None = None
        self._unsent_since: float | None = None
        self._echoed = False

    def post(self) -> Exchange[Started | None]:
        """Send one start. None: it is refused, lost or not sent, and a look comes next."""
        self._posts += 1
        letters = "".join(random.choices(_LETTERS, k=4))  # noqa: S311 - a label, not a secret
        key = self.start.key.with_post(f"{self._posts}.{letters}")
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
            self._refuse("CML is out of quota" if error.out_of_quota else "CML calls the job busy", error.out_of_quota)
            return None
        except CmlRefusedError as error:
            self._forget(key)
            if self.losses:
                raise self.may_exist(f"an answer was lost before, and now CML refuses: {error}") from error
            raise
        except CmlUnavailableError as error:
            yield from self._unanswered(key, sent_at, error)
            return None
        self._echoed = self._echoed or run.echoes
        if not run.status.is_executed:
            # The second face of a busy job (seen on live workspaces): 200, and a run that never runs.
            self._forget(key)
            self._refuse("CML calls the job busy", is_capacity=False)
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
            # An executed run with this number would be ours by now, so this is the receipt of a refusal.
            yield from note("The start whose answer was lost had been refused: the job was busy.")
            self._forget(loss.key)
            self._loss = None
            self._refuse("CML called the job busy", is_capacity=False)
            return True
        if not (self._echoed or self.history.echoes):
            raise self.may_exist("this workspace does not show the environment of runs, so it cannot be looked for")
        left = loss.sent_at + GRACE - (yield from now())
        if left > 0:
            gap = LOSS_GAPS[min(loss.looks, len(LOSS_GAPS) - 1)]
            loss.looks += 1
            yield from pause(min(gap, left))
            return True
        if self.losses > RESENDS:
            raise self.may_exist(f"the answers to {self.losses} starts in a row were lost")
        self._loss = None
        yield from note(
            f"The start sent {GRACE:.0f} s ago has not shown among the job's runs: taken for lost, and sent again.",
            warning=True,
        )
        return True

    @property
    def is_pending(self) -> bool:
        """A start is out whose fate is not known."""
        return self._loss is not None

    def refusal_gap(self) -> float:
        """Seconds to stay away after a refusal that no look explains; taking it forgets the refusal."""
        gap = REFUSAL_GAPS[min(self.refusals, len(REFUSAL_GAPS)) - 1]
        asked, self._retry_after, self.refusal = self._retry_after, None, None
        return gap if asked is None else max(asked, 1.0)

    def may_exist(self, why: str) -> CmlRunMayExistError:
        """The error that ends a try for good: a start is out, and starting again could run the job twice."""
        key = self._loss.key if self._loss else self.start.key
        return CmlRunMayExistError(
            f"A start of job {self.start.ids.job_id} was sent, and {why}. A run may exist: before starting the task "
            f"again, look in CML for a run with {RUN_KEY_VARIABLE}={key}"
        )

    def _unanswered(self, key: RunKey, sent_at: float, error: CmlUnavailableError) -> Exchange[None]:
        if isinstance(error, CmlServerError) and error.status == _TOO_MANY_REQUESTS:
            # A gateway that counts requests has not passed this one on.
            self._forget(key)
            self._refuse("CML takes no more requests now (429)", is_capacity=True)
            self._retry_after = error.retry_after
        elif error.sent:
            self._loss = _Loss(key, sent_at)
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

    def _forget(self, key: RunKey) -> None:
        """This start has started nothing: whoever is killed from now on has nothing of it to look for."""
        self.start.sent.remove(key)

    def _refuse(self, why: str, is_capacity: bool) -> None:
        self.refusal = why
        self.is_capacity = is_capacity
        self.refusals += 1
        self._unsent_since = None
