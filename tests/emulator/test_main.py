"""The command line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

REPOSITORY = Path(__file__).parents[2]

WORKSPACE = """
[workspace]
scheduling = 0
starting = 0

[[projects]]
owner = "alice"
name = "Risk Analysis"

[[projects.jobs]]
number = 208
name = "nightly VaR"
script = "job.py"
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "alice" / "risk-analysis"
    folder.mkdir(parents=True)
    (folder / "job.py").write_text("print('ran')")
    (tmp_path / "workspace.toml").write_text(WORKSPACE)
    return tmp_path


def command(*arguments):
    return [sys.executable, "-m", "airflow_provider_cml.emulator", *map(str, arguments)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONFAULTHANDLER": "1"}
PATIENCE = 60
"""Seconds after which an emulator that hangs is aborted, and shows the stacks of its threads."""


@pytest.fixture
def serve():
    """Starts emulators that print into a pipe; what is left of them is ended."""
    with contextlib.ExitStack() as ends:

        def begin(*arguments):
            serving = subprocess.Popen(command(*arguments), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
            watchdog = threading.Timer(PATIENCE, serving.send_signal, [signal.SIGABRT])
            watchdog.start()
            for end in (serving.stdout.close, serving.wait, serving.kill, watchdog.cancel):
                ends.callback(end)
            return serving

        yield begin


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_connections_that_work_and_ends_when_told(folder, serve, number):
    """One for each API, as Airflow reads them from the environment."""
    serving = serve("--workspace", folder, "--port", 0, "--state", folder / "state")
    lines = []
    for line in serving.stdout:
        lines.append(line)
        if "AIRFLOW_CONN_CML_V1" in line:
            break
    found = dict(re.findall(r"(AIRFLOW_CONN_\w+)='(.*)'", "".join(lines)))
    v2, v1 = (json.loads(found[f"AIRFLOW_CONN_CML_{name}"]) for name in ("DEFAULT", "V1"))
    session = requests.Session()
    session.trust_env = False
    with session:
        bearer = {"Authorization": f"Bearer {v2['password']}"}
        listed = session.get(f"{v2['host']}/api/v2/projects", headers=bearer, timeout=PATIENCE).json()
        path = "/api/v1/projects/alice/risk-analysis/jobs/208/start"
        started = session.post(f"{v1['host']}{path}", auth=(v1["password"], ""), json={}, timeout=PATIENCE)
    assert ["Risk Analysis"] == [project["name"] for project in listed["projects"]]
    assert started.status_code == 200
    for line in serving.stdout:
        lines.append(line)
        if "printed to" in line:
            break
    serving.send_signal(number)
    assert serving.wait() == 0, "".join(lines)

    assert ("cml", "v2", "v1") == (v2["conn_type"], v2["extra"]["api_version"], v1["extra"]["api_version"])
    text = "".join(lines)
    assert "ENGINE_SUCCEEDED" in text
    assert Path(re.search(r"printed to (.*)", text)[1]).read_text() == "ran\n"


def test_mistakes_are_told_in_one_line(folder):
    """Without a traceback, with exit code 2."""
    (folder / "workspace.toml").write_text(WORKSPACE.replace("job.py", "jop.py"))
    wrong = subprocess.run(command("--workspace", folder), env=ENVIRONMENT, capture_output=True, text=True, check=False)

    assert (2, "") == (wrong.returncode, wrong.stdout)
    assert re.fullmatch(r"error: .*projects\[0\]\.jobs\[0\]\.script: 'jop\.py' is no file.*\n", wrong.stderr)


def test_a_port_that_is_taken_is_told(folder):
    """By its number."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wrong = subprocess.run(
            command("--workspace", folder, "--port", port),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )

    assert wrong.returncode == 2
    assert wrong.stderr.startswith(f"error: port {port}: ")


def test_a_port_that_cannot_be_is_told(folder):
    """Before anything is served."""
    wrong = subprocess.run(
        command("--workspace", folder, "--port", 70000), env=ENVIRONMENT, capture_output=True, text=True, check=False
    )

    assert wrong.returncode == 2
    assert wrong.stderr.endswith("argument --port: 70000 is no port: 0 to 65535\n")
