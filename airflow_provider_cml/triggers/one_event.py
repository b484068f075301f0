"""What every trigger of a deferred task is: a connection, what the task knows, and one event that tells how it went.

The law: a trigger never raises. An exception would fail the task without telling why, and leave its run to nobody.
It is quiet for five seconds, whatever it has to tell, because Airflow fails tasks whose trigger fires at once (3.3: the
executor's report of the deferral arrives after the event). Its arguments are JSON primitives: Airflow 3.2+ refuses
others only after the start.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations import line
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, outcome_of
from airflow_provider_cml.api.errors import CmlError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_provider_cml.api.wire import Note


class OneEventTrigger(BaseTrigger):
    """Waits for what a task sleeps for; how is its subclass's.

    :param cml_conn_id: the Airflow connection.
    :param watched: what the task knows, as `events.Watched.to_json`.
    :param poll_interval: the longest gap between two looks, seconds.
    """

    def __init__(self, cml_conn_id: str, watched: dict[str, Any], poll_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.cml_conn_id = cml_conn_id
        self.watched = watched
        self.poll_interval = poll_interval

    def _arguments(self) -> dict[str, Any]:
        return {"cml_conn_id": self.cml_conn_id, "watched": self.watched, "poll_interval": self.poll_interval}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, whatever happens."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        not_before = began + line.QUIET
        watched = events.Watched("", "")
        try:
            watched = events.Watched.from_json(self.watched)
            outcome = await self._wait(watched)
        except events.EventError as error:
            outcome = Outcome(Ending.REFUSED, None, str(error))
        except CmlError as error:
            outcome = outcome_of(error)
        except Exception as error:
            self.log.exception("The trigger could not go on")
            outcome = Outcome(
                Ending.UNANSWERED, None, f"The trigger could not go on: {type(error).__name__}. See its log."
            )
        await asyncio.sleep(max(not_before - loop.time(), 0.0))
        waited = watched.waited + loop.time() - began
        watched = replace(watched, waited=waited)
        yield TriggerEvent(events.write(outcome, watched))  # type: ignore[no-untyped-call]  # Airflow's

    async def _wait(self, watched: events.Watched) -> Outcome:
        raise NotImplementedError

    def _tell(self, note: Note) -> None:
        self.log.log(logging.WARNING if note.warning else logging.INFO, "%s", note.text)
