"""CmlHook against a workspace: every public method, what it keeps to itself, and where it refuses to go."""

from __future__ import annotations

import asyncio
import base64
import inspect
import logging
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.conversations.finding import JobIds
from airflow_provider_cml.api.errors import (
    CmlError,
    CmlInputError,
    CmlJobBusyError,
    CmlLookupError,
    CmlNotFoundError,
    CmlUnauthorizedError,
    CmlWaitTimeoutError,
)
from airflow_provider_cml.api.job_fields import JobFields
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.compat import tell_masker
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.hooks import cml as hooks
from airflow_provider_cml.hooks.cml import CmlHook
from tests.airflow_side import PASSWORD, set_connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.emulator import Emulator, Job, Project, Workspace


@pytest.fixture
def hook(connections: Emulator) -> Iterator[CmlHook]:
    hook = CmlHook()
    yield hook
    hook.close()


# ---------------------------------------------------------------- projects and jobs


def test_projects(hook: CmlHook, workspace: Workspace, project: Project) -> None:
    """Projects are listed to the last page, public ones of others included, and found by each of their names."""
    public = workspace.add_project("bob", "Open", member=False, visibility="public")
    for number in range(120):
        workspace.add_project("carol", f"Project {number}")

    assert {found.id for found in hook.list_projects()} >= {project.id, public.id}
    assert len(hook.list_projects()) == 122
    assert hook.get_project(project.id).name == "Risk Analysis"
    for name in (project.id, "alice/Risk Analysis", "alice/risk-analysis", "Risk Analysis", "risk-analysis"):
        assert hook.find_project(name).id == project.id


def test_jobs(hook: CmlHook, workspace: Workspace, project: Project, job: Job, tmp_path: Path) -> None:
    """A job is made, found by id or name, changed and removed."""
    workspace.root = tmp_path
    (tmp_path / "alice" / "risk-analysis").mkdir(parents=True)
    (tmp_path / "alice" / "risk-analysis" / "a.py").touch()
    made = hook.create_job("alice/risk-analysis", JobFields(name="weekly", script="a.py", runtime_identifier="image:1"))
    changed = hook.update_job(project.id, "weekly", JobFields(name="monthly"))

    assert [found.name for found in hook.list_jobs(project.id)] == ["nightly VaR", "monthly"]
    assert (changed.id, hook.get_job(project.id, made.id).name) == (made.id, "monthly")
    assert hook.find_job("Risk Analysis", "monthly").id == made.id
    assert hook.find_job_ids(project.id, "nightly VaR") == JobIds(project.id, job.id)

    hook.delete_job(project.id, "monthly")

    with pytest.raises(CmlLookupError, match=r"no job is called 'monthly'.*nightly VaR"):
        hook.find_job(project.id, "monthly")


def test_two_of_a_name_are_an_error(hook: CmlHook, workspace: Workspace, project: Project, job: Job) -> None:
    """A name that stands for two jobs is refused with both ids."""
    twin = workspace.add_job(project, job.name)
    with pytest.raises(CmlLookupError) as caught:
        hook.find_job(project.id, job.name)

    assert job.id in str(caught.value)
    assert twin.id in str(caught.value)


def test_ids_cost_no_request(hook: CmlHook, connections: Emulator, job: Job) -> None:
    """Ids are taken as they are."""
    hook.find_job_ids(job.project_id, job.id)

    assert connections.ledger.requests() == []


# ---------------------------------------------------------------- runs


def test_run_from_start_to_end(hook: CmlHook, job: Job) -> None:
    """A run is started with variables, seen, waited for and listed."""
    at = (job.project_id, job.id)
    run = hook.create_job_run(*at, environment={"A": 1}, arguments="--x")

    assert hook.get_job_run(*at, run.id).arguments == "--x"
    assert hook.wait_for_job_run(*at, run.id, poll_interval=0.05).status is JobRunStatus.SUCCEEDED
    (listed,) = hook.list_job_runs(*at)

    assert listed.id == run.id
    assert listed.created_at is not None
    assert abs(listed.created_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_second_start_is_busy(hook: CmlHook, connections: Emulator, job: Job) -> None:
    """The bare start says that the job is busy; it is one POST, not repeated."""
    job.life = Life(running=None)
    hook.create_job_run(job.project_id, job.id)
    with pytest.raises(CmlJobBusyError):
        hook.create_job_run(job.project_id, job.id)

    assert connections.ledger.count("CreateJobRun") == 2


@pytest.mark.parametrize("fault", ["drop_after", "error_before", "html"])
def test_bare_start_is_never_repeated(hook: CmlHook, connections: Emulator, job: Job, fault: str) -> None:
    """Whatever becomes of the answer, the hook's own start sends one POST."""
    connections.fault("CreateJobRun", fault)
    with pytest.raises(CmlError):
        hook.create_job_run(job.project_id, job.id)

    assert connections.ledger.count("CreateJobRun") == 1


def test_stop_is_confirmed_and_harmless_twice(hook: CmlHook, connections: Emulator, job: Job) -> None:
    """A stop is watched until the run is over; a run that is over gets no request."""
    job.life = Life(running=None)
    at = (job.project_id, job.id)
    run = hook.create_job_run(*at)

    assert hook.stop_job_run(*at, run.id).status is JobRunStatus.STOPPED
    assert hook.stop_job_run(*at, run.id).status is JobRunStatus.STOPPED
    assert connections.ledger.count("StopJobRun") == 1


def test_wait_has_a_limit(hook: CmlHook, connections: Emulator, job: Job) -> None:
    """A wait that is given up raises, and leaves the run alone."""
    job.life = Life(running=None)
    run = hook.create_job_run(job.project_id, job.id)
    with pytest.raises(CmlWaitTimeoutError):
        hook.wait_for_job_run(job.project_id, job.id, run.id, poll_interval=0.05, timeout=0.2)

    assert connections.ledger.count("StopJobRun") == 0


def test_run_in_an_event_loop(hook: CmlHook, connections: Emulator, job: Job) -> None:
    """The awaited method sees what the other sees."""
    run = hook.create_job_run(job.project_id, job.id)

    async def see() -> JobRun:
        mine = CmlHook()
        try:
            return await mine.aget_job_run("alice/risk-analysis", "nightly VaR", run.id)
        finally:
            await mine.aclose()

    assert run.id == asyncio.run(see()).id


def test_values_hold_no_environment(hook: CmlHook, project: Project, job: Job) -> None:
    """CML echoes the project's passwords in projects, jobs and runs; the hook's values do not."""
    hook.create_job_run(project.id, job.id, environment={"TOKEN": "s3cret-of-the-run"})
    values = [hook.list_projects(), hook.list_jobs(project.id), hook.list_job_runs(project.id, job.id)]

    assert PASSWORD not in repr(values)
    assert "s3cret-of-the-run" not in repr(values)


# ---------------------------------------------------------------- any other call


def test_any_call(hook: CmlHook, connections: Emulator, job: Job) -> None:
    """What has no method of its own is asked for by its path."""
    found = hook.request("get", "/api/v2/usage", query={"page_size": "1"})

    assert found["total_count"] == "0"
    assert hook.request("DELETE", f"/api/v2/projects/{job.project_id}/jobs/{job.id}") == {}


@pytest.mark.parametrize(
    "path",
    [
        "https://elsewhere.example/api/v2/projects",
        "//elsewhere.example/api/v2",
        "/api//elsewhere.example",
        "/login",
        "api/v2/projects",
        "/api/v2/../../admin",
        "/api/v2/%2e%2e/admin",
        "/api/v2/projects?x=1",
        "/api/v2/projects#x",
        "/api/v2/pro jects",
        "/api\\v2",
        "",
    ],
)
def test_other_addresses_are_refused(
    hook: CmlHook, connections: Emulator, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that could leave the workspace's API is refused before a connection opens."""
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was opened"))
    with pytest.raises(CmlInputError, match="path: "):
        hook.request("GET", path)

    assert connections.ledger.requests() == []


@pytest.mark.parametrize("name", ["..", "a/../b", "x/..", "\n"])
def test_ids_cannot_leave_their_place(hook: CmlHook, connections: Emulator, job: Job, name: str) -> None:
    """Whatever a template renders as a run's id is one segment of a path."""
    with pytest.raises(CmlInputError, match="run_id: "):
        hook.get_job_run(job.project_id, job.id, name)
    with pytest.raises(CmlNotFoundError):
        hook.get_job_run(job.project_id, job.id, "a/b?c=d#e")

    assert connections.ledger.count("GetJobRun") == len(connections.ledger.requests()) == 1


# ---------------------------------------------------------------- v1


def test_v1_starts_and_can_do_no_more(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """v1 starts a job by its number; anything else on its connection says which API is needed, and asks nothing."""
    hook = CmlHook("cml_v1")
    engine_id = hook.start_job("alice/risk-analysis", "208", {"A": "1"})
    (run,) = workspace.runs_of(job)

    assert hook.is_v1
    assert run.engine_id == engine_id
    assert run.environment == {"A": "1"}
    with pytest.raises(CmlInputError, match=r"needs API v2.*api_version"):
        hook.list_projects()
    with pytest.raises(CmlInputError, match=r"needs API v1.*api_version"):
        CmlHook().start_job("alice/risk-analysis", "208", {})
    assert len(connections.ledger.requests()) == 1


# ---------------------------------------------------------------- the connection


def test_nothing_is_looked_up_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook is made without a look at the connection."""
    monkeypatch.setattr(CmlHook, "get_connection", lambda *_: pytest.fail("a connection was looked up"))

    assert CmlHook("some_conn").cml_conn_id == "some_conn"


def test_transports_are_made_once(connections: Emulator) -> None:
    """The worker's transport is kept, and so is the one of an event loop until it is closed."""
    hook = CmlHook()

    async def twice() -> bool:
        first = await hook.aget_conn()
        same = first is await hook.aget_conn()
        await hook.aclose()
        return same and first is not await hook.aget_conn()

    assert hook.get_conn() is hook.get_conn()
    assert asyncio.run(twice())


def test_a_hook_outlives_its_event_loops(connections: Emulator, project: Project) -> None:
    """Each loop has a transport of its own, whether the one before it was left in order or not."""
    hook = CmlHook()

    async def look(*, in_order: bool) -> list[str]:
        found = await hook.alist_projects()
        if in_order:
            await hook.aclose()
        return [each.id for each in found]

    assert [[project.id]] * 3 == [asyncio.run(look(in_order=in_order)) for in_order in (False, False, True)]


def test_calls_at_the_same_time_share_a_transport(connections: Emulator) -> None:
    """Whoever reads the connection first, there is one pool for all of a loop."""
    hook = CmlHook()

    async def both() -> list[object]:
        found = await asyncio.gather(hook.aget_conn(), hook.aget_conn())
        await hook.aclose()
        return list(found)

    first, second = asyncio.run(both())

    assert first is second


def test_secrets_are_masked(connections: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's masker is told the key, its Basic form and the proxy's password, before anything is sent."""
    masked: set[object] = set()
    monkeypatch.setattr(hooks, "mask_secret", masked.add)
    extra = {"api_version": "v1", "proxy": "http://proxy:3128", "proxy_user": "u", "proxy_password": "proxy-pass-77"}
    set_connection(monkeypatch, "masked", host=connections.url, password=connections.legacy_key, extra=extra)
    endpoint = CmlHook("masked").endpoint
    basic = base64.b64encode(f"{connections.legacy_key}:".encode()).decode()

    assert masked == {connections.legacy_key, basic, "proxy-pass-77"}
    assert endpoint.credential == basic


def test_secrets_reach_airflows_masker(connections: Emulator) -> None:
    """What is masked is masked in Airflow: its own redaction blots the key out."""
    assert CmlHook().endpoint.key == connections.api_key
    masker: Any = import_module(tell_masker.__module__)
    redact = getattr(masker, "redact", None) or import_module("airflow.sdk._shared.secrets_masker").redact

    assert connections.api_key not in str(redact(f"Bearer {connections.api_key}"))


def test_warnings_are_said_once(
    connections: Emulator, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """What the connection's owner should know is logged, without the key, and not at every request."""
    extra = {"verify": "false"}
    set_connection(monkeypatch, host=connections.url, password=connections.api_key, extra=extra)
    hook = CmlHook()
    hook.list_projects()
    hook.list_projects()
    warnings = [record.getMessage() for record in log.records if record.levelno == logging.WARNING]

    assert warnings == ["Connection cml_default: Extra: verify is not known to this provider and ignored."]
    assert connections.api_key not in log.text


def test_an_endpoint_is_read_with_or_without_warnings(
    connections: Emulator, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """Whoever reads the connection again and again can do so in silence."""
    set_connection(monkeypatch, host=connections.url, password=connections.api_key, extra={"verify": "false"})
    hook = CmlHook()
    endpoints = [asyncio.run(hook.aread_endpoint(warn=False))]
    silent = list(log.records)
    endpoints.append(asyncio.run(hook.aread_endpoint()))

    assert endpoints[0] == endpoints[1]
    assert [] == [record for record in silent if record.levelno == logging.WARNING]
    assert "Extra: verify is not known" in log.text


def test_key_that_was_changed_is_read_again(
    connections: Emulator, monkeypatch: pytest.MonkeyPatch, project: Project
) -> None:
    """After a 401 the connection is read once more: a key that was changed meanwhile is used, without a failure."""
    set_connection(monkeypatch, host=connections.url, password="the-key-of-yesterday")
    hook = CmlHook()
    with pytest.raises(CmlUnauthorizedError):
        hook.list_projects()
    set_connection(monkeypatch, host=connections.url, password=connections.api_key)

    assert [found.id for found in hook.list_projects()] == [project.id]


def test_every_public_method_is_tested() -> None:
    """A public method that no test here names has been forgotten."""
    tests = inspect.getsource(inspect.getmodule(test_every_public_method_is_tested))  # type: ignore[arg-type]
    of_others = {
        "get_connection_form_widgets": "hooks/test_form.py",
        "get_ui_field_behaviour": "hooks/test_form.py",
        "test_connection": "hooks/test_connection_test.py",
        "aread_endpoint": "triggers/test_sharing.py",
    }
    names = [name for name in vars(CmlHook) if not name.startswith("_") and callable(getattr(CmlHook, name))]
    mine = [name for name in names if name[1:] not in names]  # an awaited one: hooks/test_cml_async.py

    assert [name for name in mine if f".{name}(" not in tests and name not in of_others] == []
