"""Each question can be asked in a worker and in an event loop, by the same words, and is answered the same."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.errors import CmlLookupError
from airflow_provider_cml.api.job_fields import JobFields
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.hooks.cml import CmlHook

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_cml.emulator import Emulator, Job, Workspace

NAMES = ("alice/risk-analysis", "nightly VaR")
NEW = JobFields(name="weekly", script="a.py", runtime_identifier="image:1", environment={"DAYS": 7})


def ask(awaited: bool, name: str, *arguments: Any, **named: Any) -> Any:
    """One question to a new hook, either way."""

    async def wait() -> Any:
        async with CmlHook() as hook:
            return await getattr(hook, f"a{name}")(*arguments, **named)

    if awaited:
        return asyncio.run(wait())
    hook = CmlHook()
    try:
        return getattr(hook, name)(*arguments, **named)
    finally:
        hook.close()


@pytest.fixture(params=[False, True], ids=["in a worker", "awaited"])
def asked(request: pytest.FixtureRequest, connections: Emulator, job: Job) -> Callable[..., Any]:
    """Asks, either way."""
    return lambda *arguments, **named: ask(request.param, *arguments, **named)


def test_awaited_methods_are_called_as_the_others() -> None:
    """Each has the parameters and the result of the method without the `a`."""
    methods = vars(CmlHook)
    awaited = [name for name, method in methods.items() if inspect.iscoroutinefunction(method) and name[1:] in methods]

    for name in set(awaited) - {"aget_conn"}:  # which has a transport of its own
        assert inspect.signature(methods[name]) == inspect.signature(methods[name[1:]])
        assert methods[name].__doc__


def test_jobs(asked: Callable[..., Any], connections: Emulator, workspace: Workspace, job: Job, tmp_path: Path) -> None:
    """A job is made, found, changed and removed; its environment arrives either way."""
    workspace.root = tmp_path
    (tmp_path / "alice" / "risk-analysis").mkdir(parents=True)
    (tmp_path / "alice" / "risk-analysis" / "a.py").touch()
    made = asked("create_job", NAMES[0], NEW)

    assert workspace.jobs[made.id].environment == {"DAYS": "7"}
    assert [found.name for found in asked("list_jobs", NAMES[0])] == ["nightly VaR", "weekly"]
    assert asked("find_job", NAMES[0], "weekly") == asked("get_job", NAMES[0], made.id)
    assert asked("find_job_ids", NAMES[0], "weekly").job_id == made.id

    changed = asked("update_job", NAMES[0], "weekly", JobFields(name="monthly", timeout=60, environment={"DAYS": 30}))
    assert (changed.id, changed.name, changed.timeout) == (made.id, "monthly", 60)
    assert workspace.jobs[made.id].environment == {"DAYS": "30"}

    asked("delete_job", NAMES[0], "monthly")
    with pytest.raises(CmlLookupError):
        asked("get_job", NAMES[0], "monthly")
    counts = {name: connections.ledger.count(name) for name in ("CreateJob", "UpdateJob", "DeleteJob")}
    assert counts == {"CreateJob": 1, "UpdateJob": 1, "DeleteJob": 1}


def test_runs(asked: Callable[..., Any], connections: Emulator, job: Job) -> None:
    """A run is started, seen, waited for and stopped."""
    run = asked("create_job_run", *NAMES, environment={"A": 1}, arguments="--x")
    assert asked("wait_for_job_run", *NAMES, run.id, poll_interval=0.05).status == "succeeded"
    assert asked("get_job_run", *NAMES, run.id).arguments == "--x"
    job.life = Life(running=None)
    other = asked("create_job_run", *NAMES)
    assert asked("stop_job_run", *NAMES, other.id).status == "stopped"
    assert [found.id for found in asked("list_job_runs", *NAMES)] == [other.id, run.id]


def test_projects_and_all_else(asked: Callable[..., Any], job: Job) -> None:
    """Projects, by list, id and name; and any other call."""
    (project,) = asked("list_projects")
    assert project == asked("get_project", project.id) == asked("find_project", "Risk Analysis")
    assert asked("request", "GET", "/api/v2/usage", query={"page_size": "1"})["total_count"] == "0"


def test_start_through_v1(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """The one call of v1, too."""

    async def start() -> str:
        async with CmlHook("cml_v1") as hook:
            return await hook.astart_job("alice/risk-analysis", "208", {"A": "1"})

    engine_id = asyncio.run(start())

    assert [run.engine_id for run in workspace.runs_of(job)] == [engine_id]


def test_one_pool_is_closed(connections: Emulator, job: Job) -> None:
    """`async with` keeps one transport for all its questions and closes it."""

    async def two() -> bool:
        async with CmlHook() as hook:
            await hook.alist_projects()
            transport = await hook.aget_conn()
            await hook.alist_jobs(NAMES[0])
            assert await hook.aget_conn() is transport
        return not hook._async_transports

    assert asyncio.run(two())
