"""What triggers of one event loop share: connections, pools, and the line before a busy job."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations import line
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.triggers.cml import CmlJobFreeTrigger, CmlJobRunTrigger
from tests.airflow_side import set_connection

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Workspace


def watched(job: Job, **fields: Any) -> dict[str, Any]:
    return events.Watched(job.project_id, job.id, **fields).to_json()


async def ending_of(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload["ending"]
    return None


def test_connection_is_read_once_for_many(
    connections: Emulator, workspace: Workspace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred triggers of one connection look it up once."""
    read: list[str] = []
    original = CmlHook.aread_endpoint

    async def counted(hook: CmlHook, **how: Any) -> Any:
        read.append(hook.cml_conn_id)
        return await original(hook, **how)

    monkeypatch.setattr(CmlHook, "aread_endpoint", counted)
    run = workspace.start(job)
    those = [CmlJobRunTrigger("cml_default", watched(job, run_id=run.id), 0.05) for _ in range(100)]

    async def everyone() -> list[Any]:
        return await asyncio.gather(*map(ending_of, those))

    assert asyncio.run(everyone()) == ["over"] * 100
    assert read == ["cml_default"]


def test_key_that_was_changed_is_read_again(
    connections: Emulator, workspace: Workspace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 401 makes the trigger read its connection anew, once, and go on with the new key."""
    run = workspace.start(job)
    set_connection(monkeypatch, host=connections.url, password="the-key-of-yesterday")
    original = CmlHook.aread_endpoint

    async def then_changed(hook: CmlHook, **how: Any) -> Any:
        endpoint = await original(hook, **how)
        set_connection(monkeypatch, host=connections.url, password=connections.api_key)
        return endpoint

    monkeypatch.setattr(CmlHook, "aread_endpoint", then_changed)

    assert asyncio.run(ending_of(CmlJobRunTrigger("cml_default", watched(job, run_id=run.id), 0.05))) == "over"
    assert [entry.status for entry in connections.ledger.requests("GetJobRun")].count(401) == 1


def test_one_is_let_go_per_free_slot(
    connections: Emulator, workspace: Workspace, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many that wait for a job the earliest date goes first, and the next only when its run has been seen."""
    monkeypatch.setattr(line, "SHOW_UP", 60.0)
    job.life = Life(running=0.2)
    gone: list[str] = []

    async def wait(date: str) -> None:
        assert await ending_of(CmlJobFreeTrigger("cml_default", watched(job), 0.05, date, -1, date)) == "free"
        gone.append(date)
        assert workspace.active_run(job) is None, "two were let go for one slot"
        workspace.start(job)

    async def everyone() -> None:
        await asyncio.gather(*(wait(f"2026-11-{day}") for day in (23, 21, 24, 22)))

    began = time.monotonic()
    asyncio.run(everyone())

    assert gone == [f"2026-11-{day}" for day in (21, 22, 23, 24)]
    assert time.monotonic() - began >= 3 * 0.2
    assert connections.ledger.count("ListJobRuns") < 60
