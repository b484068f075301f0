"""What the triggerer runs for a deferred task: it looks and reports. Starts happen in the worker only.

The law: one event, never an exception (`one_event`). Nothing is stopped but the run of a task that a user has ended.
Arguments are read tolerantly, as all that crosses a deferral (`events`): a release that knows more of them may have
stored the trigger.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations import line
from airflow_provider_cml.api.conversations.waiting import gap_in_midst, stop_if_active
from airflow_provider_cml.api.conversations.watching import Ending, Outcome, Pace, Target, follow
from airflow_provider_cml.compat import is_killed_for_certain, task_state
from airflow_provider_cml.triggers import sharing
from airflow_provider_cml.triggers.one_event import OneEventTrigger

if TYPE_CHECKING:
    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.api.wire import Exchange

KILL_SECONDS = 20.0
"""Airflow gives `on_kill` thirty."""
_LIVING = {"deferred", "up_for_retry"}
"""States of a task that goes on by itself: no user's mark or clear leads there."""


class CmlJobRunTrigger(OneEventTrigger):
    """Wait until a run is over.

    :param cml_conn_id: the Airflow connection.
    :param watched: what the task knows of its run, as `events.Watched.to_json`.
    :param poll_interval: the longest gap between two looks, seconds.
    :param run_key: wait for the run that carries this key, where no run id is known yet.
    :param since: wait for the newest run created at or after this moment (ISO 8601), likewise.
    :param cancel_on_kill: stop the run when a user marks or clears the deferred task (Airflow 3.3+).
    :param looked_at: with `since`, when the task looked first (ISO 8601): later runs do not change the answer.
    """

    def __init__(
        self,
        cml_conn_id: str,
        watched: dict[str, Any],
        poll_interval: float = 30.0,
        run_key: str | None = None,
        since: str | None = None,
        cancel_on_kill: bool = False,
        looked_at: str | None = None,
        **_unknown: Any,
    ) -> None:
        super().__init__(cml_conn_id, watched, poll_interval)
        self.run_key = run_key
        self.since = since
        self.cancel_on_kill = cancel_on_kill
        self.looked_at = looked_at

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for Airflow's database."""
        return (
            "airflow_provider_cml.triggers.cml.CmlJobRunTrigger",
            {
                **self._arguments(),
                "run_key": self.run_key,
                "since": self.since,
                "cancel_on_kill": self.cancel_on_kill,
                "looked_at": self.looked_at,
            },
        )

    async def _wait(self, watched: events.Watched) -> Outcome:
        target = Target(
            watched.ids,
            run_id=watched.run_id or None,
            run_key=self.run_key,
            since=datetime.fromisoformat(self.since) if self.since else None,
            looked_at=datetime.fromisoformat(self.looked_at) if self.looked_at else None,
        )

        def watch() -> Exchange[JobRun]:
            return follow(target, self._pace(watched))

        return Outcome(Ending.OVER, await sharing.perform(self.cml_conn_id, watch, self._tell))

    async def on_kill(self) -> None:
        """Stop the run of a deferred task that a user has marked or cleared.

        Airflow 3.3 calls this too when a triggerer merely loses its triggers, and cancels it again each second while it
        works; so it asks for the task's state first, and works in a task of its own that outlives the cancellations.
        """
        if not self.cancel_on_kill:
            return
        stopping = asyncio.create_task(asyncio.wait_for(self._stop(), KILL_SECONDS))
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                if stopping.cancelled():
                    raise
            except Exception:  # noqa: BLE001, S110 - told below
                pass
        error = stopping.exception()
        if error is not None:
            why = f"not stopped within {KILL_SECONDS:g} seconds." if isinstance(error, TimeoutError) else error
            self.log.warning("Run %s may still be active in CML: %s", self.watched.get("run_id"), why)

    async def _stop(self) -> None:
        state = None
        if not is_killed_for_certain(self.task_instance):
            state = await task_state(self.task_instance)
        if state in _LIVING:
            self.log.info("The task is %s: this triggerer has lost it, nobody has killed it.", state)
            return
        watched = events.Watched.from_json(self.watched)
        run = await sharing.perform(self.cml_conn_id, lambda: stop_if_active(watched.ids, watched.run_id), self._tell)
        self.log.info("The task was ended by a user: run %s is %s.", run.id, run.status)

    def _pace(self, watched: events.Watched) -> Pace:
        age = max(time.time() - watched.began, 0.0) if watched.began else 0.0
        return Pace(
            poll_interval=self.poll_interval,
            timeout=events.seconds_to(watched.deadline),
            age=age,
            # A restarted triggerer resumes thousands of these at the same moment.
            first_gap=line.QUIET + gap_in_midst(age, self.poll_interval),
        )


class CmlJobFreeTrigger(OneEventTrigger):
    """Wait until a busy job is free and it is this task's turn.

    The tasks of one triggerer that wait for one job stand in one line, and are let go one per free slot. The task then
    plays its whole turn in the worker: that the job is free is a hint, no permission.

    :param cml_conn_id: the Airflow connection.
    :param watched: what the task knows, as `events.Watched.to_json`.
    :param poll_interval: the longest gap between two looks at the job, seconds.
    :param date: the date of the dag run, in ISO 8601; the earlier goes first.
    :param map_index: of the task; the lower goes first.
    :param name: tells this task from all others of that date and map index.
    :param gap: seconds to stay away first, after a rejection that no run explains.
    :param only_gap: wait for that time and no longer, whether the job is free or not.
    """

    def __init__(
        self,
        cml_conn_id: str,
        watched: dict[str, Any],
        poll_interval: float = 30.0,
        date: str = "",
        map_index: int = -1,
        name: str = "",
        gap: float = 0.0,
        only_gap: bool = False,
        **_unknown: Any,
    ) -> None:
        super().__init__(cml_conn_id, watched, poll_interval)
        self.date = date
        self.map_index = map_index
        self.name = name
        self.gap = gap
        self.only_gap = only_gap

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for Airflow's database."""
        return (
            "airflow_provider_cml.triggers.cml.CmlJobFreeTrigger",
            {
                **self._arguments(),
                "date": self.date,
                "map_index": self.map_index,
                "name": self.name,
                "gap": self.gap,
                "only_gap": self.only_gap,
            },
        )

    async def _wait(self, watched: events.Watched) -> Outcome:
        if self.only_gap:
            left = events.seconds_to(watched.deadline)
            if left is not None and left < self.gap:
                await asyncio.sleep(left)
                return Outcome(Ending.TIMED_OUT, None, "The task was still waiting before its first start.")
            await asyncio.sleep(self.gap)
            return Outcome(Ending.FREE)
        moment = asyncio.get_running_loop().time()
        place = line.Place(self.date, self.map_index, self.name, moment + max(self.gap, line.QUIET))
        patience = events.seconds_to(watched.free_deadline)
        await sharing.stand_in_line(self.cml_conn_id, watched.ids, place, self.poll_interval, patience, self._tell)
        return Outcome(Ending.FREE)
