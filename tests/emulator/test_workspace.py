"""Workspaces built in code, and runs moved by hand."""

from __future__ import annotations

import pytest

from airflow_provider_cml.emulator import Life, Status, Workspace


def test_ids_are_derived_from_what_is_declared():
    """Two workspaces that declare the same have the same ids, of CML's shape."""
    ids = []
    for _ in range(2):
        workspace = Workspace()
        project = workspace.add_project("alice", "Risk Analysis")
        ids.append((project.id, workspace.add_job(project, "nightly VaR", number=208).id))

    assert ids[0] == ids[1]
    assert all(len(public_id) == 19 for public_id in ids[0])


def test_the_environment_of_a_run_is_merged_and_the_overrides_are_kept(workspace, project, job):
    """Project < job < run; what was given is kept apart."""
    run = workspace.start(job, {"DAY": "1"})

    assert run.merged == {"DB_PASSWORD": "hunter2", "LEVEL": "job", "DAY": "1"}
    assert run.environment == {"DAY": "1"}


def test_a_run_keeps_what_its_job_was(workspace, job):
    """Changes of a job are for later runs (SPEC)."""
    run = workspace.start(job)
    job.environment, job.cpu = {"LEVEL": "changed"}, 8

    assert (run.merged["LEVEL"], run.cpu) == ("job", 1)


def test_v1_numbers_are_unique_in_the_workspace(workspace, project, job):
    """A number given twice is refused, one not given is the next."""
    other = workspace.add_project("bob", "Other")
    with pytest.raises(ValueError, match="208"):
        workspace.add_job(other, "x", number=208)

    assert workspace.add_job(other, "y").number == 209


def test_a_project_is_declared_once(workspace, project):
    """The owner and the slug name it."""
    with pytest.raises(ValueError, match="alice/risk-analysis"):
        workspace.add_project("alice", "risk analysis")


def test_a_run_moved_by_hand_stays_where_it_is(workspace, project, clock):
    """A life that was going on has no say any more."""
    run = workspace.start(workspace.add_job(project, "job", life=Life(running=0.01)))
    workspace.set_status(run, "ENGINE_PONDERING")
    workspace.advance()
    assert run.status == "ENGINE_PONDERING"

    assert workspace.set_status(run.id, "unknown").status == Status.UNKNOWN


def test_an_end_by_hand_has_its_consequences(workspace, project, job):
    """Children start, and the job is free."""
    child = workspace.add_job(project, "child", parent=job)
    run = workspace.start(job)
    workspace.set_status(run, "succeeded")

    assert run.executed
    assert run.finished_at is not None
    assert len(workspace.runs_of(child)) == 1
    assert workspace.start(job).status == Status.SCHEDULING


def test_foreign_runs_can_stand_beside_others(workspace, job):
    """They are put into the history as they are, with a time of their own if wanted."""
    own = workspace.start(job)
    foreign = workspace.add_run(job, "running", environment={"A": "x"}, created_at=own.created_at - 60)

    assert [Status.SCHEDULING, Status.RUNNING] == [own.status, foreign.status]
    assert foreign.created_at == own.created_at - 60
    assert foreign.api == "hand"


def test_a_deleted_job_takes_its_runs_along(workspace, job):
    """Nothing of it is found any more."""
    run = workspace.start(job)
    workspace.delete_job(job)

    assert (job.id in workspace.jobs, run.id in workspace.runs) == (False, False)
    assert run.is_over
