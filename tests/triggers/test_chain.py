"""The trigger that waits for the child jobs below a run; as a sensor sees it: tests/sensors/test_chain.py."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.triggers.chain import CmlJobChainTrigger

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Project, Workspace


def watched(job: Job, run_id: str, **fields: Any) -> dict[str, Any]:
    return events.Watched(job.project_id, job.id, run_id=run_id, **fields).to_json()


async def event_of(trigger: CmlJobChainTrigger) -> tuple[str, str]:
    """The one event: how the wait ended, and the run it tells of."""
    (payload,) = [json.loads(json.dumps(event.payload)) async for event in trigger.run()]
    outcome, _ = events.read(payload)
    return str(outcome.ending), outcome.run.id if outcome.run else ""


def test_arguments_survive_the_database() -> None:
    """Airflow stores path and arguments; what comes of them is the same trigger."""
    trigger = CmlJobChainTrigger("cml_default", events.Watched("p", "j", run_id="r").to_json(), 5.0)
    path, arguments = trigger.serialize()

    assert path == f"{CmlJobChainTrigger.__module__}.{CmlJobChainTrigger.__qualname__}"
    assert CmlJobChainTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


def test_end_of_the_chain(connections: Emulator, workspace: Workspace, project: Project, job: Job) -> None:
    """It waits for the last run below; that one failed is for the worker to tell."""
    child = workspace.add_job(project, "child", parent=job, life=Life(running=0.3, ending="failed"))
    run = workspace.start(job)
    workspace.set_status(run, "succeeded")

    assert asyncio.run(event_of(CmlJobChainTrigger("cml_default", watched(job, run.id), 0.05))) == ("over", run.id)
    (below,) = connections.ledger.runs(child.id)
    assert below.status == "ENGINE_FAILED"


def test_many_share_their_looks(connections: Emulator, workspace: Workspace, project: Project, job: Job) -> None:
    """Fifty sensors that follow one run ask hardly more than one does."""
    child = workspace.add_job(project, "child", parent=job, life=Life(running=1.0))
    run = workspace.start(job)
    workspace.set_status(run, "succeeded")

    async def everyone() -> set[tuple[str, str]]:
        those = [CmlJobChainTrigger("cml_default", watched(job, run.id), 0.2) for _ in range(50)]
        return set(await asyncio.gather(*map(event_of, those)))

    assert asyncio.run(everyone()) == {("over", run.id)}
    (below,) = connections.ledger.runs(child.id)
    assert sum(below.id in request.path for request in connections.ledger.requests("GetJobRun")) < 50


def test_time_that_is_over(connections: Emulator, workspace: Workspace, project: Project, job: Job) -> None:
    """The deadline of the sensor is absolute: a trigger that is restarted does not begin anew."""
    child = workspace.add_job(project, "child", parent=job, life=Life(running=None))
    run = workspace.start(job)
    workspace.set_status(run, "succeeded")
    deadline = events.moment_after(0.3)

    ending, told = asyncio.run(
        event_of(CmlJobChainTrigger("cml_default", watched(job, run.id, deadline=deadline), 0.05))
    )
    assert (ending, told) == ("timed out", connections.ledger.runs(child.id)[0].id)


def test_run_that_is_gone(connections: Emulator, job: Job) -> None:
    """One event, not an exception."""
    assert asyncio.run(event_of(CmlJobChainTrigger("cml_default", watched(job, "gone"), 0.05))) == ("refused", "")
