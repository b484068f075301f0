"""Job scripts as processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from airflow_provider_cml.emulator import Emulator, Status, Workspace
from airflow_provider_cml.emulator.scripts import OUTPUT_LIMIT


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "alice" / "risk-analysis"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def workspace(tmp_path, folder):
    return Workspace(tmp_path, stopping=0.2)


@pytest.fixture
def script(workspace, project, folder, cml):
    """A job with this script, in a workspace that is served."""

    def job_of(text, **fields):
        (folder / "job.py").write_text(text)
        return workspace.add_job(project, "job", script="job.py", **fields)

    return job_of


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("print('fine')", Status.SUCCEEDED, 0),
        ("raise SystemExit(3)", Status.FAILED, 3),
        ("import os; os.abort()", Status.FAILED, -6),
        ("1/0", Status.FAILED, 1),
    ],
)
def test_the_exit_code_decides(workspace, script, until, text, status, code):
    """0 is SUCCEEDED, all else FAILED."""
    run = workspace.start(script(text))
    until(lambda: run.is_over)

    assert (status, code, True) == (run.status, run.exit_code, run.executed)


def test_output_is_kept(workspace, script, until):
    """Both streams, in one file per run, under the workspace's folder."""
    run = workspace.start(script("import sys; print('to out'); print('to err', file=sys.stderr); 1/0"))
    until(lambda: run.is_over)
    output = Path(run.output)

    assert output == workspace.root / ".runs" / f"{run.id}.log"
    assert output.read_text().startswith("to out\nto err\n")
    assert "ZeroDivisionError" in output.read_text()


def test_output_is_bounded(workspace, script, until):
    """A script that prints without end fills no disk; it runs to its end all the same."""
    run = workspace.start(script(f"print('x' * {3 * OUTPUT_LIMIT}); print('end')"))
    until(lambda: run.is_over)
    size = Path(run.output).stat().st_size

    assert (Status.SUCCEEDED, True) == (run.status, size < OUTPUT_LIMIT + 100)
    assert Path(run.output).read_text().endswith("[output cut here]\n")


def test_the_environment_is_built_from_nothing(workspace, script, until, monkeypatch, folder, cml):
    """Project < job < run, CML's own values, and nothing of the emulator's environment."""
    monkeypatch.setenv("AIRFLOW_CONN_SECRET", "leak")
    monkeypatch.setenv("LEVEL", "emulator")
    text = "import json, os; print(json.dumps(dict(os.environ, CWD=os.getcwd())))"
    job = script(text, environment={"LEVEL": "job", "B": "job"}, number=208)
    run = workspace.start(job, {"B": "run", "PATH": "/evil", "CDSW_PROJECT_ID": "forged"}, "--fast 1")
    until(lambda: run.is_over)
    seen = json.loads(Path(run.output).read_text())
    seen.pop("LC_CTYPE", None)

    assert seen.pop("PATH").startswith(str(Path(sys.executable).parent))
    assert seen == {
        "B": "run",
        "CDSW_API_URL": f"{cml.url}/api/v1",
        "CDSW_DOMAIN": f"127.0.0.1:{cml.port}",
        "CDSW_ENGINE_ID": run.engine_id,
        "CDSW_JOB_ID": "208",
        "CDSW_PROJECT": "risk-analysis",
        "CDSW_PROJECT_ID": job.project_id,
        "CDSW_PROJECT_URL": f"{cml.url}/api/v1/projects/alice/risk-analysis",
        "CDSW_USERNAME": "alice",
        "CWD": str(folder),
        "DB_PASSWORD": "hunter2",
        "HOME": str(folder),
        "JOB_ARGUMENTS": "--fast 1",
        "LANG": "C.UTF-8",
        "LEVEL": "job",
        "PYTHONUNBUFFERED": "1",
    }


FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open("pids.new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename("pids.new", "pids")
"""


CHATTER = FAMILY.replace("time.sleep(60)", "exec('while True: print(1, flush=True)')")


@pytest.mark.parametrize("how", ["stop", "timeout", "by hand", "delete", "shutdown", "end", "chatter"])
def test_the_whole_family_of_a_script_ends_with_its_run(workspace, script, until, folder, cml, how):
    """However the run ends, no process is left."""
    text = {"end": FAMILY, "chatter": CHATTER}.get(how, FAMILY + "time.sleep(60)")
    job = script(text, timeout=1 if how == "timeout" else 0)
    run = workspace.start(job)
    until((folder / "pids").exists)
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    ending = {
        "stop": lambda: workspace.stop(run),
        "by hand": lambda: workspace.set_status(run, "failed"),
        "delete": lambda: workspace.delete_job(job),
        "shutdown": cml.stop,
    }.get(how, lambda: None)
    ending()
    until(lambda: run.is_over)
    until(lambda: not any(map(alive, pids)))

    expected = {"stop": "STOPPED", "delete": "STOPPED", "timeout": "TIMEDOUT"}
    expected |= {"end": "SUCCEEDED", "chatter": "SUCCEEDED"}
    assert f"ENGINE_{expected.get(how, 'FAILED')}" == run.status


def test_a_stopped_script_may_clean_up(workspace, script, until, folder):
    """SIGTERM first; SIGKILL when STOPPING is over."""
    text = """
import pathlib, signal, time
def end(*_):
    pathlib.Path("cleaned").touch()
    raise SystemExit
signal.signal(signal.SIGTERM, end)
pathlib.Path("ready").touch()
time.sleep(60)
"""
    run = workspace.start(script(text))
    until((folder / "ready").exists)
    workspace.engine.stopping = 3.0  # as long as a busy machine may take to let the script have a turn
    workspace.stop(run)
    until(lambda: run.is_over)

    assert (folder / "cleaned").exists()
    assert run.status == Status.STOPPED


@pytest.mark.parametrize("name", ["../../../outside.py", "link.py", "folder", "gone.py"])
def test_scripts_outside_of_the_project_are_not_run(workspace, project, folder, cml, until, tmp_path, name):
    """Neither by dots nor by links; the run FAILED and says why."""
    (tmp_path / "outside.py").write_text("print('ran')")
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    (folder / "folder").mkdir()
    run = workspace.start(workspace.add_job(project, "job", script=name))
    until(lambda: run.is_over)

    assert (Status.FAILED, "", f"script '{name}' not found in project directory") == (
        run.status,
        run.output,
        run.message,
    )


def test_a_project_folder_may_not_lead_out_of_the_workspace(tmp_path, until):
    """A link in place of the folder is no way out either."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / "alice").mkdir(parents=True)
    (outside / "job.py").write_text("")
    (root / "alice" / "risk-analysis").symlink_to(outside)
    workspace = Workspace(root)
    job = workspace.add_job(workspace.add_project("alice", "Risk Analysis"), "job", script="job.py")
    with Emulator(workspace):
        run = workspace.start(job)
        until(lambda: run.is_over)

    assert (Status.FAILED, "") == (run.status, run.output)


def test_an_environment_no_process_can_have_fails_the_run(workspace, script, until):
    """And not the emulator."""
    run = workspace.start(script("print()"), {"A": "\ud800"})
    until(lambda: run.is_over)

    assert run.status == Status.FAILED
    assert os.getpid()
