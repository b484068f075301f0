"""What an `AssetWatcher` runs: the end of a job's run becomes an event, once, whatever happens to the triggerer."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.triggers import beats, watcher
from airflow_provider_cml.triggers.event import ENDINGS, CmlJobRunEventTrigger
from tests.airflow_side import PASSWORD, set_connection
from tests.triggers.test_watermark import Accessors, Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from airflow_provider_cml.emulator import Emulator, Job, Project, Workspace

confirming = pytest.mark.skipif(
    find_spec("airflow.triggers.shared_stream") is None, reason="before 3.3 Airflow confirms nothing to a trigger"
)
GAP = 0.05


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats, "SPREAD", 0.0)
    monkeypatch.setattr(watcher, "PATIENCE", 0.1)
    monkeypatch.setattr(watcher, "LONGEST_GAP", 0.1)
    monkeypatch.setattr(CmlJobRunEventTrigger, "log", logging.getLogger("test.CmlJobRunEventTrigger"))


def watch(**changes: Any) -> CmlJobRunEventTrigger:
    """A watch of the job of tests/conftest.py, as it comes out of Airflow's database."""
    wanted = {"project": "alice/risk-analysis", "job": "nightly VaR", "poll_interval": GAP} | changes
    _, arguments = CmlJobRunEventTrigger(**wanted).serialize()
    return CmlJobRunEventTrigger(**json.loads(json.dumps(arguments)))


class Triggerer:
    """As much of Airflow's triggerer as an event meets: it is taken, stored, and confirmed; or not.

    :param confirms: the stored events are confirmed to the trigger, as on 3.3+.
    """

    def __init__(self, trigger: CmlJobRunEventTrigger, store: Store | None = None, *, confirms: bool = True) -> None:
        self.events: list[dict[str, Any]] = []
        self.confirms = confirms
        self._seqs: list[int] = []
        trigger.asset_state_store = Accessors(asset=store) if store else None  # type: ignore[assignment]
        self._trigger = trigger

    async def __aenter__(self) -> Self:
        from airflow.triggers.shared_stream import SharedStreamManager

        self._manager = SharedStreamManager()
        self._key = self._trigger.shared_stream_key()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends as a killed one does: nothing more is stored or confirmed."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._manager.stop_all()

    async def confirm(self) -> None:
        """Airflow has stored what has come so far."""
        self._manager.confirm_persisted(self._seqs)

    @property
    def runs(self) -> list[str]:
        return [event["run_id"] for event in self.events]

    async def _run(self) -> None:
        stream = self._manager.subscribe(trigger_id=1, trigger=self._trigger, key=self._key)
        async for event in self._trigger.filter_shared_stream(stream):
            seq = self._manager.bind_pending_event(trigger_id=1, key=self._key)
            assert seq is not None, "this event would never be confirmed"
            self.events.append(json.loads(json.dumps(event.payload)))
            self._seqs.append(seq)
            if self.confirms:
                asyncio.get_running_loop().call_later(GAP, self._manager.confirm_persisted, [seq])


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that is bound to come."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


async def looks(cml: Emulator, count: int = 2) -> None:
    """Wait until somebody has looked at the job so many times more."""
    before = cml.ledger.count("ListJobRuns")
    await until(lambda: cml.ledger.count("ListJobRuns") >= before + count, "looks at the job")


def mark_of(store: Store) -> dict[str, Any]:
    (kept,) = store.kept.values()
    return dict(json.loads(kept))


def is_settled(store: Store) -> bool:
    return bool(store.kept) and not mark_of(store)["told"]


def end(workspace: Workspace, job: Job, status: str = "succeeded") -> str:
    """A run of the job, from its start to its end."""
    run = workspace.start(job)
    workspace.set_status(run, status)
    return str(run.id)


async def alone(trigger: CmlJobRunEventTrigger, during: Callable[[list[dict[str, Any]]], Awaitable[None]]) -> None:
    """The trigger as an Airflow runs it that confirms nothing."""
    events: list[dict[str, Any]] = []

    async def run() -> None:
        async for event in trigger.run():
            events.extend([json.loads(json.dumps(event.payload))])

    task = asyncio.create_task(run())
    try:
        await during(events)
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# ------------------------------------------------------------------------------------------------ the arguments


def test_arguments_survive_the_database() -> None:
    """Airflow stores path and arguments; equal watches have equal ones, however their endings were given."""
    path, arguments = watch(statuses=("ENGINE_FAILED", "succeeded")).serialize()

    assert path == f"{CmlJobRunEventTrigger.__module__}.{CmlJobRunEventTrigger.__qualname__}"
    assert arguments["statuses"] == ["succeeded", "failed"]
    assert watch(statuses=["succeeded", "failed"]).serialize() == (path, arguments)
    assert watch(statuses="failed").statuses == ["failed"]
    assert watch().statuses == list(ENDINGS) == ["stopped", "succeeded", "failed", "timedout"]


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"statuses": ["running"]}, "must be endings of a run: stopped, succeeded"),
        ({"statuses": ["done"]}, "'done'"),
        ({"statuses": []}, "must be endings"),
        ({"poll_interval": 0}, "poll_interval: 0 is not a number of seconds above zero"),
    ],
)
def test_what_cannot_be_watched_fails_in_the_dag_file(wanted: dict[str, Any], text: str) -> None:
    """Nobody reads a triggerer's log after a typing error."""
    with pytest.raises(ValueError, match=text):
        watch(**wanted)


def test_dag_file_loads_nothing_heavy() -> None:
    """The trigger is made at parse time: no HTTP library, no hook, no client."""
    source = (
        "import sys, airflow.triggers.base; before = set(sys.modules);"
        "from airflow_provider_cml.triggers.event import CmlJobRunEventTrigger as T;"
        "T('p', 'j').serialize(); print(*(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.splitlines()[-1].split())
    ours = {name.removeprefix("airflow_provider_cml.") for name in loaded if name.startswith("airflow_provider_cml.")}

    assert not {"requests", "aiohttp", "airflow.triggers.shared_stream"} & loaded
    assert ours >= {"compat", "triggers.event"}
    assert not [name for name in ours if name.startswith(("hooks", "triggers.")) and name != "triggers.event"]
    assert not {"api.v2", "api.transports", "api.conversations"} & ours


# ------------------------------------------------------------------------------------------------ on every Airflow


def test_ending_becomes_an_event(
    connections: Emulator, workspace: Workspace, job: Job, log: pytest.LogCaptureFixture
) -> None:
    """Run, job, project, status, link and times; of what the run was given, nothing."""
    before = end(workspace, job)

    async def during(events: list[dict[str, Any]]) -> None:
        await looks(connections)
        run_id = end(workspace, job, "failed")
        await until(lambda: bool(events), "the event")
        await looks(connections)
        (event,) = events
        assert event.pop("run_id") == run_id != before
        assert {event.pop(f"{name}_at") for name in ("created", "scheduling", "starting", "running", "finished")}
        assert event == {
            "project": "alice/risk-analysis",
            "job": "nightly VaR",
            "project_id": job.project_id,
            "job_id": job.id,
            "status": "failed",
            "run_url": f"{connections.url}/alice/risk-analysis/jobs",
            "repeated": False,
        }

    asyncio.run(alone(watch(), during))
    assert "What is over by now is no news. Nothing is kept" in log.text
    assert PASSWORD not in log.text
    assert connections.api_key not in log.text


def test_chosen_endings_only(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """Others pass by; a refused start is told only to those who ask for it."""

    async def during(events: list[dict[str, Any]]) -> None:
        await looks(connections)
        end(workspace, job, "stopped")
        skipped = end(workspace, job, "skipped")
        end(workspace, job, "succeeded")
        failed = end(workspace, job, "failed")
        await until(lambda: len(events) == 2, "two events")
        assert {event["run_id"] for event in events} == {failed, skipped}

    asyncio.run(alone(watch(statuses=["failed", "skipped"]), during))


def test_run_of_somebody_is_told_when_it_ends(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """A run that was active when the watch began; its link is lost, its end is not."""
    run = workspace.start(job)
    workspace.set_status(run, "running")
    connections.fault("GetProject", "error_before", status=500)

    async def during(events: list[dict[str, Any]]) -> None:
        await looks(connections)
        assert events == []
        workspace.set_status(run, "succeeded")
        await until(lambda: bool(events), "the event")
        assert [("run_url" in event, event["run_id"]) for event in events] == [(False, run.id)]

    asyncio.run(alone(watch(project=job.project_id, job=job.id), during))


def test_watch_goes_on_when_cml_is_down(
    connections: Emulator, workspace: Workspace, job: Job, log: pytest.LogCaptureFixture
) -> None:
    """An outage is logged at its first failure and when a look gives up, not at every look; nothing is lost by it."""

    async def during(events: list[dict[str, Any]]) -> None:
        await looks(connections)
        connections.fault("ListJobRuns", "error_before", status=503)
        await looks(connections, 6)
        run_id = end(workspace, job)
        connections.faults.clear()
        await until(lambda: bool(events), "the event")
        assert [event["run_id"] for event in events] == [run_id]

    asyncio.run(alone(watch(), during))
    assert sum("503" in record.getMessage() for record in log.records if record.levelname == "WARNING") == 2
    assert "well again" in log.text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"job": "weekly VaR"}, "no job is called 'weekly VaR'"),
        ({"cml_conn_id": "cml_v1"}, "This needs API v2"),
        ({"cml_conn_id": "cml_nowhere"}, "cml_nowhere"),
    ],
)
def test_mistakes_are_said_and_end_nothing(
    connections: Emulator, job: Job, log: pytest.LogCaptureFixture, changes: dict[str, Any], text: str
) -> None:
    """A watcher has no task that could fail: it says what is wrong, and tries again."""

    async def during(events: list[dict[str, Any]]) -> None:
        await until(lambda: text in log.text, text)
        await asyncio.sleep(5 * GAP)
        assert events == []

    asyncio.run(alone(watch(**changes), during))
    assert sum(record.levelname == "WARNING" and text in record.getMessage() for record in log.records) == 1


def test_mistake_may_be_mended(
    connections: Emulator,
    workspace: Workspace,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    """A job that does not exist yet, and a key that is wrong for a while."""
    from airflow_provider_cml.triggers import sharing

    monkeypatch.setattr(sharing, "CONNECTION_AGE", 0.0)
    set_connection(monkeypatch, host=connections.url, password="the-key-of-yesterday")

    async def during(events: list[dict[str, Any]]) -> None:
        await until(lambda: "401" in log.text, "the wrong key")
        set_connection(monkeypatch, host=connections.url, password=connections.api_key)
        await until(lambda: "no job is called 'late'" in log.text, "the missing job")
        job = workspace.add_job(project, "late")
        await looks(connections)
        run_id = end(workspace, job)
        await until(lambda: bool(events), "the event")
        assert [event["run_id"] for event in events] == [run_id]

    asyncio.run(alone(watch(job="late"), during))


# ------------------------------------------------------------------------------------------------ over restarts (3.3+)


@confirming
def test_ending_while_no_triggerer_runs_is_told(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """Two endings around a kill: each is told once, and neither is doubted."""
    store = Store()

    async def story() -> None:
        async with Triggerer(watch(), store) as first:
            await looks(connections)
            told = end(workspace, job)
            await until(lambda: first.runs == [told] and is_settled(store), "the first event, confirmed")
        missed = end(workspace, job, "failed")
        async with Triggerer(watch(), store) as second:
            await until(lambda: bool(second.runs), "the second event")
            await until(lambda: is_settled(store), "its confirmation")
            await looks(connections)
            assert second.runs == [missed]
            assert [event["repeated"] for event in first.events + second.events] == [False, False]
        async with Triggerer(watch(), store) as third:
            await looks(connections)
            assert third.runs == []

    asyncio.run(story())


@confirming
def test_event_in_doubt_is_told_once_more_and_says_so(
    connections: Emulator, workspace: Workspace, job: Job, log: pytest.LogCaptureFixture
) -> None:
    """Killed between an event and its confirmation: nobody can know whether Airflow has stored it."""
    store = Store()

    async def story() -> None:
        async with Triggerer(watch(), store, confirms=False) as first:
            await looks(connections)
            run_id = end(workspace, job)
            await until(lambda: first.runs == [run_id], "the event")
            await looks(connections)
            assert first.runs == [run_id]
        async with Triggerer(watch(), store) as second:
            await until(lambda: bool(second.runs) and is_settled(store), "the event, confirmed")
            assert [(event["run_id"], event["repeated"]) for event in second.events] == [(run_id, True)]
            following = end(workspace, job)
            await until(lambda: len(second.runs) == 2, "the next event")
            assert second.events[1]["repeated"] is False
            assert second.runs[1] == following

    asyncio.run(story())
    assert "Told perhaps, and once more" in log.text


@confirming
def test_mark_waits_for_the_confirmation(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """However many looks and endings there are meanwhile; then it moves past all of them at once."""
    store = Store()

    async def story() -> None:
        async with Triggerer(watch(), store, confirms=False) as triggerer:
            await looks(connections)
            one, two = end(workspace, job), end(workspace, job)
            await until(lambda: len(triggerer.runs) == 2, "both events")
            await looks(connections)
            assert sorted(mark_of(store)["told"]) == sorted([one, two])
            await triggerer.confirm()
            await until(lambda: is_settled(store), "the confirmation")
            assert sorted(mark_of(store)["cursor"]["over"]) == sorted([one, two])

    asyncio.run(story())


@confirming
def test_first_ending_of_a_watch_that_died_young(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """The beginning of a watch is kept at its first look, not at its first event."""
    store = Store()

    async def story() -> None:
        end(workspace, job)
        async with Triggerer(watch(), store):
            await until(lambda: bool(store.kept), "the mark")
        run_id = end(workspace, job)
        async with Triggerer(watch(), store) as second:
            await until(lambda: bool(second.runs), "the event")
            assert second.runs == [run_id]

    asyncio.run(story())


@confirming
def test_what_is_kept_and_cannot_be_read(
    connections: Emulator, workspace: Workspace, job: Job, log: pytest.LogCaptureFixture
) -> None:
    """The watch begins anew, and says so."""
    store = Store()

    async def story() -> None:
        async with Triggerer(watch(), store):
            await until(lambda: bool(store.kept), "the mark")
        store.kept = dict.fromkeys(store.kept, '{"version": 0}')
        end(workspace, job)
        async with Triggerer(watch(), store) as second:
            await until(lambda: "begins anew" in log.text, "the complaint")
            await until(lambda: mark_of(store)["version"] == 1, "the new mark")
            run_id = end(workspace, job)
            await until(lambda: bool(second.runs), "the event")
            assert second.runs == [run_id]

    asyncio.run(story())


@confirming
def test_store_that_fails_holds_the_events_back(
    connections: Emulator, workspace: Workspace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event whose doubt cannot be written down does not leave; it leaves later."""
    store = Store()

    async def story() -> None:
        async with Triggerer(watch(), store) as triggerer:
            await until(lambda: bool(store.kept), "the mark")
            with monkeypatch.context() as broken:
                broken.setattr(Store, "aset", _fails)
                run_id = end(workspace, job)
                await looks(connections, 4)
                assert triggerer.runs == []
            await until(lambda: bool(triggerer.runs), "the event")
            assert triggerer.runs == [run_id]

    asyncio.run(story())


async def _fails(*_: object) -> None:
    message = "the database is away"
    raise RuntimeError(message)
