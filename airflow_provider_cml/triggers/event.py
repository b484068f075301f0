"""Event-driven scheduling (Airflow 3): what an `AssetWatcher` runs, so that the end of a job's run starts a DAG.

The law: a DAG file makes this object, so nothing but Airflow's own trigger classes is loaded before it runs; and its
arguments tell which watch it is, so that equal watchers are one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.compat import BaseEventTrigger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from airflow_provider_cml.triggers.beats import Beat

ENDINGS = tuple(status for status in JobRunStatus if status.is_over and status.is_executed)
"""What counts where nothing is chosen: the run ran, and is over."""


class CmlJobRunEventTrigger(BaseEventTrigger):
    """Fire an event for each run of a job that ends, whoever started it.

    For an `AssetWatcher`. On Airflow 3.3+ the watch goes on where it was after the triggerer was away: each ending is
    told once. One that Airflow was just storing when the triggerer was killed is told once more, with `repeated` true.
    Before 3.3 endings are told from the start of the triggerer on. Needs a connection for API v2.

    The event's payload: `run_id`, `status`, `run_url`, `run_key`, `project_id`, `job_id` and the run's times where they
    are known, `project` and `job` as given here, and `repeated`.

    :param project: id, `owner/name`, `owner/slug`, or a name only one visible project has.
    :param job: id or exact name.
    :param statuses: the endings to tell of: `succeeded`, `failed`, `timedout`, `stopped`, `skipped`. None: all but
        `skipped`, which are starts that CML refused.
    :param cml_conn_id: the Airflow connection.
    :param poll_interval: the gap between two looks at the job, seconds.
    """

    def __init__(
        self,
        project: str,
        job: str,
        statuses: Iterable[str] | None = None,
        cml_conn_id: str = "cml_default",
        poll_interval: float = 30.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.project = project
        self.job = job
        self.statuses = _endings(statuses)
        self.cml_conn_id = cml_conn_id
        self.poll_interval = poll_interval
        if not poll_interval > 0:
            message = f"poll_interval: {poll_interval!r} is not a number of seconds above zero."
            raise ValueError(message)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for Airflow's database."""
        return (
            "airflow_provider_cml.triggers.event.CmlJobRunEventTrigger",
            {
                "project": self.project,
                "job": self.job,
                "statuses": self.statuses,
                "cml_conn_id": self.cml_conn_id,
                "poll_interval": self.poll_interval,
            },
        )

    def run(self) -> AsyncIterator[TriggerEvent]:
        """Events without end, on an Airflow that confirms none of them."""
        from airflow_provider_cml.triggers.beats import beats_alone  # noqa: PLC0415 - what no DAG file needs to be read

        return self._watch(beats_alone(self.poll_interval))

    # ---------------------------------------------------------------- Airflow 3.3+

    def shared_stream_key(self) -> tuple[object, ...]:
        """One stream per watch; it is by a stream that Airflow confirms what it has stored."""
        return (type(self).__qualname__, self.cml_conn_id, self.project, self.job, *self.statuses, self.poll_interval)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> Any:
        """What makes the beats of one watch."""
        from airflow.triggers.shared_stream import SharedStreamProducer  # noqa: PLC0415 - 3.3+

        from airflow_provider_cml.triggers.beats import Beats  # noqa: PLC0415 - see run

        class Producer(Beats, SharedStreamProducer):
            """Beats, as Airflow wants them."""

        return Producer(kwargs["poll_interval"])

    def filter_shared_stream(self, shared_stream: AsyncIterator[Beat]) -> AsyncIterator[TriggerEvent]:
        """Look at each beat."""
        return self._watch(shared_stream)

    async def _watch(self, beats: AsyncIterator[Beat]) -> AsyncGenerator[TriggerEvent]:
        from airflow_provider_cml.triggers.watcher import Watch, Watcher  # noqa: PLC0415 - see run

        watch = Watch(self.cml_conn_id, self.project, self.job, tuple(self.statuses), self.poll_interval)
        watcher = Watcher(watch, getattr(self, "asset_state_store", None), self.log)
        try:
            async for beat in beats:
                for payload in await watcher.look(beat):
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's
        finally:
            await watcher.leave()


def _endings(statuses: Iterable[str] | None) -> list[str]:
    """The chosen endings as CML's words without prefix, in one order, so that equal choices are equal."""
    if statuses is None:
        return [str(status) for status in ENDINGS]
    chosen = [statuses] if isinstance(statuses, str) else list(statuses)
    found = {JobRunStatus.read(str(word)) for word in chosen}
    if not found or not all(status.is_over for status in found):
        over = ", ".join(status for status in JobRunStatus if status.is_over)
        message = f"statuses: {chosen!r} must be endings of a run: {over}."
        raise ValueError(message)
    return [str(status) for status in JobRunStatus if status in found]
