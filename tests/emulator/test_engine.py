"""The states of runs, in a workspace without a server whose clock is moved by hand."""

from __future__ import annotations

import pytest

from airflow_provider_cml.emulator import Life, Status, Workspace
from airflow_provider_cml.emulator.engine import RunIsOverError


@pytest.fixture
def workspace(clock):
    return Workspace(clock=clock, stopping=3)


@pytest.fixture
def project(workspace):
    return workspace.add_project("alice", "Risk Analysis")


def test_a_life_passes_its_states_at_their_times(workspace, project, clock):
    """Each state begins when it is due, also when nobody looks for a while."""
    job = workspace.add_job(project, "job", life=Life(scheduling=1, starting=2, running=4))
    run = workspace.start(job)
    assert run.status == Status.SCHEDULING

    seen = []
    for _ in range(8):
        workspace.advance()
        seen.append(run.status.removeprefix("ENGINE_"))
        clock.pass_by(1)

    assert seen == [
        "SCHEDULING",
        "STARTING",
        "STARTING",
        "RUNNING",
        "RUNNING",
        "RUNNING",
        "RUNNING",
        "SUCCEEDED",
    ]
    times = [run.starting_at, run.running_at, run.finished_at]
    assert [1, 3, 7] == [time - run.created_at for time in times]


def test_a_clock_that_jumps_gives_the_same_history(workspace, project, clock):
    """Times are due times, not the time of the look."""
    run = workspace.start(workspace.add_job(project, "job", life=Life(1, 2, 4)))
    clock.pass_by(1000)
    workspace.advance()

    assert run.finished_at - run.created_at == 7


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("succeeded", "ENGINE_SUCCEEDED"),
        ("failed", "ENGINE_FAILED"),
        ("timedout", "ENGINE_TIMEDOUT"),
        ("ENGINE_STOPPED", "ENGINE_STOPPED"),
        ("ENGINE_PONDERING", "ENGINE_PONDERING"),
    ],
)
def test_a_life_ends_as_it_is_told(workspace, project, ending, status):
    """Endings are words of CML, short or long, or made up."""
    run = workspace.start(workspace.add_job(project, "job", life=Life(ending=ending)))
    workspace.advance()

    assert status == run.status


def test_lives_are_given_out_in_turn_and_refused_starts_use_none(workspace, project):
    """The first run fails, the second goes on, and so does every later one."""
    job = workspace.add_job(project, "job", life=[Life(ending="failed"), Life(running=None)])
    first = workspace.start(job)
    workspace.advance()
    second = workspace.start(job)
    refused = workspace.start(job)

    workspace.advance()
    assert ["ENGINE_FAILED", "ENGINE_RUNNING", "ENGINE_SKIPPED"] == [first.status, second.status, refused.status]


def test_a_life_may_depend_on_the_run(workspace, project):
    """A function gives each run its life."""
    job = workspace.add_job(project, "job", life=lambda run: Life(ending=run.environment["END"]))
    runs = []
    for ending in ("failed", "succeeded"):
        runs.append(workspace.start(job, {"END": ending}))
        workspace.advance()

    assert ["ENGINE_FAILED", "ENGINE_SUCCEEDED"] == [run.status for run in runs]


def test_a_second_run_is_skipped_while_one_is_active(workspace, project):
    """UNKNOWN is active too: what is not known may still be running."""
    job = workspace.add_job(project, "job", life=Life(running=None))
    first = workspace.start(job)
    statuses = []
    for word in ("scheduling", "running", "stopping", "unknown", "ENGINE_PONDERING", "succeeded"):
        workspace.set_status(first, word)
        statuses.append(workspace.start(job).status)

    assert [*["ENGINE_SKIPPED"] * 5, "ENGINE_SCHEDULING"] == statuses


def test_a_stop_takes_its_time(workspace, project, clock):
    """STOPPING, then STOPPED."""
    run = workspace.start(workspace.add_job(project, "job", life=Life(running=60)))
    clock.pass_by(10)
    workspace.stop(run)
    assert run.status == Status.STOPPING
    clock.pass_by(2.9)
    workspace.advance()
    assert run.status == Status.STOPPING
    clock.pass_by(0.1)
    workspace.advance()

    assert run.status == Status.STOPPED
    assert run.finished_at - run.created_at == pytest.approx(13)


def test_a_run_that_is_over_cannot_be_stopped(workspace, project):
    """The request is remembered all the same."""
    run = workspace.start(workspace.add_job(project, "job"))
    workspace.advance()
    with pytest.raises(RunIsOverError):
        workspace.stop(run)

    assert len(run.stop_requests) == 1
    assert run.status == Status.SUCCEEDED


def test_stopping_twice_is_stopping_once(workspace, project, clock):
    """The second stop changes nothing, and does not put off the end."""
    run = workspace.start(workspace.add_job(project, "job", life=Life(running=60)))
    workspace.stop(run)
    clock.pass_by(2)
    workspace.stop(run)
    clock.pass_by(1)
    workspace.advance()

    assert run.status == Status.STOPPED
    assert len(run.stop_requests) == 2


def test_a_run_past_the_timeout_of_its_job_is_timed_out(workspace, project, clock):
    """The timeout counts from RUNNING."""
    run = workspace.start(workspace.add_job(project, "job", timeout=5, life=Life(scheduling=100, running=60)))
    clock.pass_by(104.9)
    workspace.advance()
    assert run.status == Status.RUNNING
    clock.pass_by(0.2)
    workspace.advance()

    assert run.status == Status.TIMEDOUT


def test_children_start_after_the_parent_succeeded(workspace, project, clock):
    """Each as its own run of its own job, without the parent run's overrides; one that is paused does not."""
    parent = workspace.add_job(project, "parent", life=[Life(ending="failed"), Life(running=2)])
    child = workspace.add_job(project, "child", parent=parent, environment={"A": "child"})
    grandchild = workspace.add_job(project, "grandchild", parent=child)
    resting = workspace.add_job(project, "resting", parent=parent, paused=True)

    workspace.start(parent, {"A": "parent"})
    workspace.advance()
    assert workspace.runs_of(child) == []
    workspace.start(parent, {"A": "parent"})
    clock.pass_by(3)
    workspace.advance()

    (run,) = workspace.runs_of(child)
    assert (run.status, run.api, run.merged) == (Status.SUCCEEDED, "child", {"A": "child"})
    assert len(workspace.runs_of(grandchild)) == 1
    assert workspace.runs_of(resting) == []


@pytest.mark.parametrize(
    ("setting", "life"),
    [
        ("retry_for_script_failure", Life(ending="failed")),
        ("retry_for_system_failure", Life(ending="failed", failure="system")),
        ("retry_for_timedout_runs", Life(ending="timedout")),
    ],
)
def test_jobs_with_job_retry_are_run_again(workspace, project, clock, setting, life):
    """A new run with the same environment, after the delay, max_retry times."""
    settings = {"retry_enabled": True, "max_retry": 2, "retry_delay": 10, setting: True}
    job = workspace.add_job(project, "job", life=life, **settings)
    first = workspace.start(job, {"A": "1"}, "x")
    workspace.advance()
    assert [first] == workspace.runs_of(job)
    clock.pass_by(100)
    workspace.advance()

    runs = workspace.runs_of(job)
    assert ["hand", "retry", "retry"] == [run.api for run in runs]
    assert [({"A": "1"}, "x")] * 3 == [(run.environment, run.arguments) for run in runs]
    assert [0, 10, 20] == [run.created_at - first.created_at for run in runs]
    assert ["", runs[0].id, runs[1].id] == [run.retry_of for run in runs]


def test_job_retry_passes_over_failures_it_is_not_set_for(workspace, project, clock):
    """A script failure is not a system failure."""
    settings = {"retry_enabled": True, "max_retry": 2, "retry_for_system_failure": True}
    job = workspace.add_job(project, "job", life=Life(ending="failed"), **settings)
    workspace.start(job)
    clock.pass_by(100)
    workspace.advance()

    assert len(workspace.runs_of(job)) == 1


def test_a_refused_start_may_be_run_again_beside_the_active_run(workspace, project, clock):
    """Retry runs may go on beside normal ones (DOC)."""
    settings = {"retry_enabled": True, "max_retry": 1, "retry_delay": 1, "retry_for_skipped_runs": True}
    job = workspace.add_job(project, "job", life=Life(running=None), **settings)
    first, refused = workspace.start(job), workspace.start(job, {"A": "2"})
    clock.pass_by(1)
    workspace.advance()

    again = workspace.runs_of(job)[-1]
    assert [Status.RUNNING, Status.SKIPPED, Status.RUNNING] == [first.status, refused.status, again.status]
    assert (refused.id, {"A": "2"}) == (again.retry_of, again.environment)
