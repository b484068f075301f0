"""What the triggerer runs for a deferred task: it looks and reports. Starts happen in the worker only.

The law: a trigger never raises. An exception would fail the task without telling why, and leave its run to nobody.
It sleeps before it may fire, because Airflow fails tasks whose trigger fires at once (3.3: the executor's report of the
deferral arrives after the event). Its arguments are JSON primitives: Airflow 3.2+ refuses others only after the start.
"""

from __future__ import annotations

import random
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, Pace, Target, outcome_of
from airflow_provider_cml.api.errors import CmlError
from airflow_provider_cml.compat import BaseTrigger, TriggerEvent
from airflow_provider_cml.hooks.cml import CmlHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUIET = 5.0
"""Seconds after deferral in which a trigger never fires."""


class CmlJobRunTrigger(BaseTrigger):
    """Wait until a run is over.

    :param cml_conn_id: the Airflow connection.
    :param watched: what the task knows of its run, as `events.Watched.to_json`.
    :param poll_interval: the longest gap between two looks, seconds.
    :param run_key: wait for the run that carries this key, where no run id is known yet.
    :param since: wait for the newest run created at or after this moment (ISO 8601), likewise.
    """

    def __init__(
        self,
        cml_conn_id: str,
        watched: dict[str, Any],
        poll_interval: float = 30.0,
        run_key: str | None = None,
        since: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.cml_conn_id = cml_conn_id
        self.watched = watched
        self.poll_interval = poll_interval
        self.run_key = run_key
        self.since = since

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for Airflow's database."""
        return (
            "airflow_provider_cml.triggers.cml.CmlJobRunTrigger",
            {
                "cml_conn_id": self.cml_conn_id,
                "watched": self.watched,
                "poll_interval": self.poll_interval,
                "run_key": self.run_key,
                "since": self.since,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, whatever happens."""
        watched = events.Watched.from_json(self.watched)
        outcome = await self._outcome(watched)
        yield TriggerEvent(events.write(outcome, watched))  # type: ignore[no-untyped-call]  # Airflow's

    async def _outcome(self, watched: events.Watched) -> Outcome:
        hook = CmlHook(self.cml_conn_id)
        age = max(time.time() - watched.began, 0.0) if watched.began else 0.0
        target = Target(
            watched.ids,
            run_id=watched.run_id or None,
            run_key=self.run_key,
            since=datetime.fromisoformat(self.since) if self.since else None,
        )
        pace = Pace(
            poll_interval=self.poll_interval,
            timeout=None if watched.deadline is None else max(watched.deadline - time.time(), 0.0),
            age=age,
            # Spread: a restarted triggerer resumes thousands of these at the same moment.
            first_gap=QUIET + random.uniform(0.0, min(max(age / 10, 1.0), self.poll_interval)),  # noqa: S311
        )
        try:
            return await hook.awatch_job_run(target, pace)
        except CmlError as error:
            return outcome_of(error)
        except Exception as error:
            self.log.exception("The trigger could not go on")
            return Outcome(
                Ending.UNANSWERED, None, f"The trigger could not go on: {type(error).__name__}. See its log."
            )
        finally:
            await hook.aclose()
