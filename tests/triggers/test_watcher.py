"""One watcher of one job, beside another one that has taken its place."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.triggers import watcher
from airflow_provider_cml.triggers.beats import Beat
from airflow_provider_cml.triggers.watcher import Watch, Watcher
from tests.triggers.test_watermark import Accessors, Store

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Workspace

WATCH = Watch("cml_default", "alice/risk-analysis", "nightly VaR", ("succeeded", "failed"), 0.01)


async def step(one: Watcher) -> tuple[Beat, list[dict[str, Any]]]:
    """One look."""
    beat = Beat()
    return beat, await one.look(beat)


@pytest.mark.parametrize("settled", [True, False])
def test_thawed_watcher_tells_nothing_again(
    connections: Emulator,
    workspace: Workspace,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
    settled: bool,
) -> None:
    """It was frozen while another took its place and told of an ending, confirmed or just being stored."""
    monkeypatch.setattr(watcher, "MOVED_GAP", 0.2)
    store = Store()

    async def story() -> None:
        frozen, other = (Watcher(WATCH, Accessors(asset=store), logging.getLogger("test")) for _ in range(2))
        assert (await step(frozen))[1] == []
        assert (await step(other))[1] == []
        run = workspace.start(job)
        workspace.set_status(run, "failed")
        beat, told = await step(other)
        assert [event["run_id"] for event in told] == [run.id]
        if settled:
            beat.stored = True
            assert (await step(other))[1] == []
        assert (await step(frozen))[1] == []
        assert "Another triggerer has told" in log.text
        beat.stored = True
        assert (await step(other))[1] == []
        await asyncio.sleep(0.2)
        assert (await step(frozen))[1] == []
        following = workspace.start(job)
        workspace.set_status(following, "succeeded")
        assert [event["run_id"] for event in (await step(frozen))[1]] == [following.id]
        for one in (frozen, other):
            await one.leave()

    asyncio.run(story())


def test_beat_is_told_of_its_events(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """Only a beat that made events is followed by another as soon as these are stored."""

    async def story() -> None:
        one = Watcher(WATCH, None, logging.getLogger("test"))
        first, _ = await step(one)
        workspace.set_status(workspace.start(job), "failed")
        second, _ = await step(one)
        third, _ = await step(one)
        assert [False, True, False] == [first.told, second.told, third.told]
        await one.leave()

    asyncio.run(story())


def test_mark_is_that_of_the_watch() -> None:
    """Another gap is the same watch; other endings, another job or another connection are not."""
    keys = {
        Watch("cml_default", "p", "j", ("failed", "succeeded"), 30.0).key,
        Watch("cml_default", "p", "j", ("succeeded", "failed"), 5.0).key,
    }
    others = {
        Watch("cml_default", "p", "j", ("failed",), 30.0).key,
        Watch("cml_default", "p", "k", ("failed", "succeeded"), 30.0).key,
        Watch("cml_other", "p", "j", ("failed", "succeeded"), 30.0).key,
    }

    assert (1, 3) == (len(keys), len(others - keys))


def test_failures_without_end(
    connections: Emulator, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """A job that is gone for weeks is looked for a thousand times and more; the watcher still never raises."""
    monkeypatch.setattr(watcher, "LONGEST_GAP", 0.0)

    async def story() -> None:
        one = Watcher(Watch("cml_default", "", "nightly VaR", ("failed",), 0.0), None, logging.getLogger("test"))
        for _ in range(1100):
            assert await one.look(Beat()) == []
        await one.leave()

    asyncio.run(story())
    (warning,) = [record.message for record in log.records if record.levelno >= logging.WARNING]
    assert warning.startswith("Watching job 'nightly VaR' of project '': project: '' names no project")
