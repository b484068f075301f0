"""What the triggerer runs for a sensor that follows the child jobs below its run.

The law: one event, never an exception (`one_event`). How the chain has ended is for the worker to see once more: it
depends on nothing but CML.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations import line
from airflow_provider_cml.api.conversations.chain import follow_chain
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, Pace
from airflow_provider_cml.triggers import sharing
from airflow_provider_cml.triggers.one_event import OneEventTrigger

if TYPE_CHECKING:
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange
    from airflow_provider_cml.events import Watched


class CmlJobChainTrigger(OneEventTrigger):
    """Wait until all child jobs that CML starts below a run are over.

    :param cml_conn_id: the Airflow connection.
    :param watched: what the task knows of the run at the top, as `events.Watched.to_json`.
    :param poll_interval: the longest gap between two looks, seconds.
    """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for Airflow's database."""
        return ("airflow_provider_cml.triggers.chain.CmlJobChainTrigger", self._arguments())

    async def _wait(self, watched: Watched) -> Outcome:
        def chain() -> Exchange[JobRun]:
            # Made anew where a changed key begins the wait anew: what is left of its time is less by then.
            spread = random.uniform(0.0, min(1.0, self.poll_interval))  # noqa: S311 - as all triggers of a restart
            pace = Pace(self.poll_interval, events.seconds_to(watched.deadline), first_gap=line.QUIET + spread)
            return follow_chain(watched.ids, watched.run_id, pace, datetime.now(UTC))

        top = await sharing.perform(self.cml_conn_id, chain, self._tell)
        return Outcome(Ending.OVER, top)
