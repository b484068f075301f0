"""The fixture for DAG authors, as an author has it: the README's own files, run by a pytest of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
EXAMPLE = Path(__file__).parents[1] / "example_dags" / "example_cml_run_job.py"
IS_3 = find_spec("airflow.sdk") is not None

MORE = '''
import os
import threading

import pytest

from airflow_provider_cml.emulator import Life, Workspace
from airflow_provider_cml.hooks.cml import CmlHook

seen = []


@pytest.fixture
def cml_workspace():
    workspace = Workspace()
    project = workspace.add_project("alice", "Risk Analysis")
    workspace.add_job(project, "value at risk", life=Life(running=1.0))
    return workspace


@pytest.mark.skipif(not {is_3}, reason="the example is written for Airflow 3")
def test_example(cml):
    """A DAG of example_dags, against a workspace of the author's own, which loses the answer to a start."""
    from example_cml_run_job import dag

    cml.fault("CreateJobRun", "drop_after", count=1)
    dag_run = dag.test(run_conf={{"start_date": "2018-07-02"}})
    (run,) = cml.ledger.executed()

    assert dag_run.state == "success"
    assert (run.environment["START_DATE"], run.arguments) == ("2018-07-02", "--window 250 --position 1000000")


@pytest.mark.parametrize("number", [1, 2])
def test_connections(cml, monkeypatch, number):
    """Both connections lead to this test's workspace, past a proxy; so does one of any name."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("AIRFLOW_CONN_CML_PROD", cml.connection())
    seen.append(cml.url)

    assert CmlHook().test_connection() == (True, "Connected to API v2 as alice.")
    assert CmlHook("cml_v1").test_connection()[0]
    assert CmlHook("cml_prod").endpoint == CmlHook().endpoint
    assert CmlHook().list_projects()[0].name == "Risk Analysis"


def test_nothing_is_left():
    """After each test its connections and threads are gone."""
    assert len(set(seen)) == 2
    assert not [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cml-emulator")]
'''


def block(name: str) -> str:
    """The README's file of this name, for the Airflow that is installed."""
    (found,) = [text for text in BLOCKS if text.startswith(f"# {name}\n")]
    return found if IS_3 else found.replace("logical_date=", "execution_date=")


@pytest.fixture
def author(tmp_path: Path) -> Path:
    """A folder with what the README says, an Airflow of its own, and an example whose DAG has a name."""
    dags = tmp_path / "dags"
    dags.mkdir()
    first = BLOCKS[0] if IS_3 else BLOCKS[0].replace("airflow.sdk", "airflow.models")
    (dags / "nightly_risk.py").write_text(first)
    if IS_3:
        (dags / EXAMPLE.name).write_text(re.sub(r"^\):$", ") as dag:", EXAMPLE.read_text(), flags=re.MULTILINE))
    for name in ("conftest.py", "test_nightly_risk.py"):
        (tmp_path / name).write_text(block(name))
    (tmp_path / "test_more.py").write_text(MORE.format(is_3=IS_3))
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = dags\n")
    return tmp_path


def test_readme_and_more(author: Path) -> None:
    """The README's test is green as it stands, so is one of an example DAG, and no test leaves anything behind."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST"))}
    environment |= {
        "AIRFLOW_HOME": str(author / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(author / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    for command in (["airflow", "db", "migrate"], ["pytest", "-q", "-p", "no:cacheprovider", "-rA"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=author, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    passed = set(re.findall(r"^PASSED \S+::(\w+)", done.stdout, re.MULTILINE))
    assert passed == {"test_nightly_risk", "test_connections", "test_nothing_is_left"} | (
        {"test_example"} if IS_3 else set()
    )


def test_import_starts_nothing() -> None:
    """Whoever names the plugin starts no thread, and does not load Airflow before its settings are made."""
    source = (
        "import sys, threading, os; before = dict(os.environ); import airflow_provider_cml.testing;"
        "assert threading.active_count() == 1 and before == dict(os.environ); assert 'airflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
