"""The sensor that follows the child jobs below its run, in every mode."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.conversations import chain
from airflow_provider_cml.compat import AirflowSkipException
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.failures import (
    CmlRunFailedError,
    CmlRunSkippedError,
    CmlRunStoppedError,
    CmlRunUnclearError,
    CmlSensorTimeout,
    CmlTimeoutError,
    CmlUnansweredError,
)
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from tests.airflow_side import PASSWORD, TaskInstance, context_of
from tests.sensors.test_cml import MODES, sense

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job, Project, Workspace


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    return MODES[request.param]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "CHILD_WITHIN", 1.0)
    monkeypatch.setattr(chain, "POLL_PATIENCE", 0.4)


@pytest.fixture
def family(workspace: Workspace, project: Project, job: Job) -> dict[str, Job]:
    """Below the job of tests/airflow_side.py two children, and below one of them a third."""
    clean = workspace.add_job(project, "clean", parent=job, life=Life(running=0.2))
    copy = workspace.add_job(project, "copy", parent=job, life=Life(running=0.1))
    train = workspace.add_job(project, "train", parent=clean, life=Life(running=0.2))
    return {"clean": clean, "copy": copy, "train": train}


@pytest.fixture
def ti() -> TaskInstance:
    """The task instance of the sensor, whose XComs are looked at."""
    return TaskInstance()


@pytest.fixture
def follow(job: Job, connections: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What a sensor that follows the children comes to in the end."""

    def sensed(**arguments: Any) -> Any:
        given = {"project": "alice/risk-analysis", "job": job.name, "poke_interval": 0.05, "timeout": 10}
        make = partial(CmlJobRunSensor, task_id="watch", follow_children=True, **{**given, **arguments})
        return sense(make, monkeypatch, ti=ti)

    return sensed


def test_all_of_the_chain(
    follow: Callable[..., Any],
    workspace: Workspace,
    connections: Emulator,
    job: Job,
    family: dict[str, Job],
    ti: TaskInstance,
    mode: dict[str, Any],
    log: pytest.LogCaptureFixture,
) -> None:
    """Each run is waited for, and told in log and XCom with its link; the sensor returns the run at the top."""
    run = workspace.start(job)

    assert follow(run_id=run.id, **mode) == run.id
    runs = {name: connections.ledger.runs(member.id) for name, member in family.items()}
    assert [len(each) for each in runs.values()] == [1, 1, 1]
    clean, copy, train = (each[0] for each in runs.values())
    told = ti.pushed["children"]
    assert [(link["job"], link["run_id"], link["parent_run_id"], link["status"]) for link in told] == [
        ("clean", clean.id, run.id, "succeeded"),
        ("copy", copy.id, run.id, "succeeded"),
        ("train", train.id, clean.id, "succeeded"),
    ]
    assert {link["run_url"] for link in told} == {f"{connections.url}/alice/risk-analysis/jobs"}
    assert all(link["created_at"] < link["finished_at"] for link in told)
    for link in told:
        text = f"Run {link['run_id']} of job {link['job']!r}, which follows run {link['parent_run_id']}, is succeeded."
        assert text in log.text
    assert PASSWORD not in log.text + str(told)


@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize(
    ("ending", "error"),
    [("failed", CmlRunFailedError), ("stopped", CmlRunStoppedError), ("timedout", CmlRunFailedError)],
)
def test_child_that_ends_badly(
    follow: Callable[..., Any],
    workspace: Workspace,
    job: Job,
    family: dict[str, Job],
    ti: TaskInstance,
    mode: dict[str, Any],
    ending: str,
    error: type[Exception],
    soft_fail: bool,
) -> None:
    """The sensor ends as if that run were its own, in every mode; what follows the others was waited for."""
    family["clean"].life = Life(running=0.1, ending=ending)
    run = workspace.start(job)

    with pytest.raises(AirflowSkipException if soft_fail else error, match=family["clean"].id):
        follow(run_id=run.id, soft_fail=soft_fail, **mode)
    assert [(link["job"], link["status"]) for link in ti.pushed["children"]] == [
        ("clean", ending),
        ("copy", "succeeded"),
    ]


def test_child_that_is_never_started(
    follow: Callable[..., Any],
    workspace: Workspace,
    job: Job,
    family: dict[str, Job],
    ti: TaskInstance,
    mode: dict[str, Any],
) -> None:
    """A chain that CML does not carry on is no success, and the reason is told."""
    for child in ("clean", "copy"):
        family[child].parent_id = ""
    run = workspace.add_run(job, "succeeded", created_at=datetime.now(UTC).timestamp() - 0.5)
    for child in ("clean", "copy"):
        family[child].parent_id = job.id
    family["clean"].paused = True

    with pytest.raises(CmlRunSkippedError, match=r"has started no run of job 'clean' .* the job is paused\."):
        follow(run_id=run.id, **mode)
    assert [link["status"] for link in ti.pushed["children"]] == ["", ""]
    assert "the job is paused" in ti.pushed["children"][0]["message"]


def test_nothing_follows_a_run_that_failed(
    follow: Callable[..., Any],
    workspace: Workspace,
    connections: Emulator,
    job: Job,
    family: dict[str, Job],
    ti: TaskInstance,
    mode: dict[str, Any],
) -> None:
    """CML starts no children then: the sensor ends as without them, and does not look for any."""
    job.life = Life(running=0.1, ending="failed")
    run = workspace.start(job)

    with pytest.raises(CmlRunFailedError, match=run.id):
        follow(run_id=run.id, **mode)
    assert "children" not in ti.pushed
    assert connections.ledger.runs(family["clean"].id) == []


def test_job_without_children(
    follow: Callable[..., Any], workspace: Workspace, job: Job, ti: TaskInstance, mode: dict[str, Any]
) -> None:
    """A chain of one."""
    run = workspace.start(job)

    assert follow(run_id=run.id, **mode) == run.id
    assert ti.pushed["children"] == []


@pytest.mark.parametrize(
    ("name", "limits", "words"),
    [
        *((name, {"timeout": 1}, "The sensor's timeout of 1 s was over") for name in MODES),
        ("deferred", {"timeout": 60, "execution_timeout": timedelta(seconds=1)}, "Execution_timeout struck"),
    ],
)
def test_time_is_over_in_the_chain(
    follow: Callable[..., Any],
    workspace: Workspace,
    connections: Emulator,
    job: Job,
    family: dict[str, Job],
    name: str,
    limits: dict[str, Any],
    words: str,
) -> None:
    """The sensor's time is of the run and its chain together; in every mode the same words and facts tell of a link."""
    family["clean"].life = Life(running=None)
    run = workspace.start(job)
    workspace.set_status(run, "succeeded")
    with pytest.raises((CmlSensorTimeout, CmlTimeoutError)) as caught:
        follow(run_id=run.id, **limits, **MODES[name])
    (below,) = connections.ledger.runs(family["clean"].id)
    url = f"{connections.url}/alice/risk-analysis/jobs"

    assert str(caught.value) == (
        f"The chain below run {run.id} was not over when the time given to wait was over. Run {below.id} of job "
        f"'clean', which follows run {run.id}, is running. {words}. Look at it in CML: {url}"
    )
    assert (caught.value.run_id, caught.value.job_id) == (below.id, below.job_id)
    assert (caught.value.status, caught.value.run_url) == ("ENGINE_RUNNING", url)


def test_time_is_over_before_a_child_was_started(
    follow: Callable[..., Any],
    workspace: Workspace,
    job: Job,
    family: dict[str, Job],
    mode: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then the facts are those of the run at the top."""
    monkeypatch.setattr(chain, "CHILD_WITHIN", 60.0)
    family["clean"].parent_id = ""
    run = workspace.start(job)
    workspace.set_status(run, "succeeded")
    family["clean"].parent_id = job.id
    with pytest.raises(CmlSensorTimeout) as caught:
        follow(run_id=run.id, timeout=1, **mode)

    assert f"Job 'clean' follows run {run.id} and has not been started yet. The sensor's" in str(caught.value)
    assert (caught.value.run_id, caught.value.job_id, caught.value.status) == (run.id, job.id, "")


@pytest.mark.parametrize("name", ["poke", "deferred"])
def test_child_of_which_nobody_knows(
    follow: Callable[..., Any],
    workspace: Workspace,
    connections: Emulator,
    job: Job,
    family: dict[str, Job],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A status without a meaning ends the sensor with the same words and facts, of that run."""
    monkeypatch.setattr(chain, "UNKNOWN_BOUND", 0.0)
    family["clean"].life = Life(running=None)
    run = workspace.start(job)
    workspace.set_status(run, "succeeded")
    (below,) = connections.ledger.runs(family["clean"].id)
    workspace.set_status(below.id, "unknown")
    with pytest.raises(CmlRunUnclearError) as caught:
        follow(run_id=run.id, **MODES[name])
    url = f"{connections.url}/alice/risk-analysis/jobs"

    assert f"called run {below.id} of job 'clean' 'ENGINE_UNKNOWN' for" in str(caught.value)
    assert str(caught.value).endswith(f"that it is over. Look at it in CML: {url}")
    assert (caught.value.run_id, caught.value.job_id, caught.value.run_url) == (below.id, below.job_id, url)


def test_workspace_that_cannot_be_asked(
    follow: Callable[..., Any],
    workspace: Workspace,
    connections: Emulator,
    job: Job,
    family: dict[str, Job],
    mode: dict[str, Any],
) -> None:
    """In the middle of the chain: that is no bad ending of any run."""
    run = workspace.start(job)
    connections.fault("ListJobRuns", "error_before", status=503)

    with pytest.raises(CmlUnansweredError):
        follow(run_id=run.id, soft_fail=True, **mode)


def test_newest_run_since_a_moment_and_its_chain(
    follow: Callable[..., Any],
    workspace: Workspace,
    connections: Emulator,
    job: Job,
    family: dict[str, Job],
    ti: TaskInstance,
    mode: dict[str, Any],
) -> None:
    """CML's own schedule started it; whoever runs after it sees to the whole pipeline."""
    since = datetime.now(UTC) - timedelta(seconds=1)
    run = workspace.start(job)

    assert follow(since=since, **mode) == run.id
    assert len(ti.pushed["children"]) == 3


def test_chain_that_is_over_never_defers(
    follow: Callable[..., Any], workspace: Workspace, connections: Emulator, job: Job, ti: TaskInstance
) -> None:
    """One look each, no trigger: it would raise here, where no event loop may run."""
    run = workspace.add_run(job, "succeeded", created_at=datetime.now(UTC).timestamp())
    task = CmlJobRunSensor(
        task_id="watch", project=job.project_id, job=job.id, run_id=run.id, deferrable=True, follow_children=True
    )

    assert task.execute(context_of(task)) == run.id
