"""What survives a restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_cml.emulator import Emulator, Life, Workspace
from airflow_provider_cml.emulator.journal import JournalError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def fresh(tmp_path):
    """The same workspace, declared anew, as a restarted emulator does it."""
    folder = tmp_path / "alice" / "risk-analysis"
    folder.mkdir(parents=True)
    (folder / "job.py").write_text("import time; print('began'); time.sleep(60)")

    def make(**settings):
        workspace = Workspace(tmp_path, stopping=0.05)
        project = workspace.add_project("alice", "Risk Analysis")
        workspace.add_job(project, "lived", number=1, life=[Life(), Life(running=1.5), Life(running=None)])
        workspace.add_job(project, "script", number=2, script="job.py")
        return workspace, Emulator(workspace, state=tmp_path / "state" / "journal", **settings)

    return make


def job_of(workspace, number):
    return next(job for job in workspace.jobs.values() if job.number == number)


def test_keys_runs_and_ledger_are_as_they_were(fresh, client_of, until):
    """A connection made for the first emulator is good for the second."""
    workspace, cml = fresh()
    with cml:
        client = client_of(cml)
        first = client.start(job_of(workspace, 1), {"environment": {"A": "1"}}).json()["id"]
        until(lambda: workspace.runs[first].is_over)
        ledger = cml.ledger.document()
    again, other = fresh()
    with other:
        run = client_of(other).run(job_of(again, 1), first).json()

    assert (cml.api_key, cml.legacy_key) == (other.api_key, other.legacy_key)
    assert ("ENGINE_SUCCEEDED", '{"A": "1"}') == (run["status"], run["environment"])
    assert ledger["runs"] == other.ledger.document()["runs"]
    assert ["CreateJobRun", "GetJobRun"] == [record.operation for record in other.ledger.requests()]
    assert [1, 2] == [record.number for record in other.ledger.requests()]


def test_lives_go_on_and_later_runs_come_later(fresh, until):
    """A run that lives by the clock ends when it would have; lives used up stay used up."""
    workspace, cml = fresh()
    with cml:
        until(lambda: workspace.start(job_of(workspace, 1)).status != "ENGINE_SKIPPED")
        until(lambda: workspace.active_run(job_of(workspace, 1)) is None)
        run = workspace.start(job_of(workspace, 1))
        until(lambda: run.status == "ENGINE_RUNNING")
    again, other = fresh()
    with other:
        restored = again.runs[run.id]
        assert restored.status == "ENGINE_RUNNING"
        until(lambda: restored.is_over)
        third = again.start(job_of(again, 1))
        until(lambda: third.status == "ENGINE_RUNNING")

    assert restored.finished_at - restored.running_at == pytest.approx(1.5, abs=0.01)
    assert third.sequence > restored.sequence
    assert third.life == Life(running=None)


def test_jobs_changed_through_the_api_stay_changed(fresh, client_of):
    """Made, updated, deleted."""
    workspace, cml = fresh()
    lived, script = job_of(workspace, 1), job_of(workspace, 2)
    jobs = f"/api/v2/projects/{lived.project_id}/jobs"
    with cml:
        client = client_of(cml)
        run_id = client.start(script).json()["id"]
        new = {"name": "new", "script": "job.py", "runtime_identifier": "r"}
        made = client.post(jobs, new).json()["id"]
        client.call("PATCH", f"{jobs}/{lived.id}", json={"name": "renamed"})
        client.call("DELETE", f"{jobs}/{script.id}")
    for _ in range(2):
        again, other = fresh()
        with other:
            assert {lived.id: "renamed", made: "new"} == {job.id: job.name for job in again.jobs.values()}
            assert run_id in [run.id for run in other.ledger.runs()]
            assert again.jobs[lived.id].life is not None


def test_a_line_cut_off_by_a_crash_is_passed_over(fresh, tmp_path):
    """Any other line that makes no sense is an error."""
    fresh()
    journal = tmp_path / "state" / "journal"
    with journal.open("a") as file:
        file.write('["run", "x", {"id"')
    fresh()
    journal.write_text('{"not": "ours"}\n' + journal.read_text())

    with pytest.raises(JournalError, match="line 1"):
        fresh()


def test_nobody_else_may_read_the_file(fresh, tmp_path):
    """It holds keys and environments."""
    fresh()

    assert (tmp_path / "state" / "journal").stat().st_mode & 0o777 == 0o600


def test_a_script_that_was_running_at_a_crash_has_failed(fresh, until, tmp_path):
    """And its process is ended, not left running beside the next one."""
    program = tmp_path / "crash.py"
    program.write_text(
        "import sys, time\n"
        "from airflow_provider_cml.emulator import *\n"
        "w = Workspace(sys.argv[1])\n"
        "p = w.add_project('alice', 'Risk Analysis')\n"
        "j = w.add_job(p, 'script', number=2, script='job.py')\n"
        "with Emulator(w, state=sys.argv[2]):\n"
        "    r = w.start(j)\n"
        "    while not r.process: time.sleep(0.01)\n"
        "    with w.lock: print(r.id, r.process, flush=True)\n"
        "    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    state = tmp_path / "state" / "journal"
    command = [sys.executable, str(program), str(tmp_path), str(state)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as crashing:
        run_id, pid = crashing.stdout.readline().split()
        crashing.send_signal(signal.SIGKILL)
        crashing.wait()
    process = Path(f"/proc/{pid}")
    was_left = process.exists()
    workspace, _ = fresh()
    run = workspace.runs[run_id]

    assert ("ENGINE_FAILED", "the emulator went away while the script was running") == (run.status, run.message)
    if was_left:
        until(lambda: not process.exists() or " Z " in (process / "stat").read_text())


def test_the_file_is_lines_of_json(fresh, tmp_path):
    """So that a person can look into it."""
    workspace, _ = fresh()
    workspace.add_run(job_of(workspace, 1))
    kinds = [json.loads(line)[0] for line in (tmp_path / "state" / "journal").read_text().splitlines()]

    assert ["keys", "run", "run"] == kinds
