"""What Airflow itself keeps and tells of mapped tasks that failed: XComs, the button, and callbacks.

The law: a real dag run, in a process of its own with a database of its own; what is looked at is what Airflow stored.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

AIRFLOW = version("apache-airflow-core" if find_spec("airflow.sdk") else "apache-airflow")
DAG_FILE = """
import json
import os
from datetime import datetime

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow.models import DAG

from airflow_provider_cml.operators.cml import CmlRunJobOperator


def tell(context):
    error, ti = context["exception"], context["ti"]
    told = {"class": type(error).__name__, "text": str(error), "map_index": ti.map_index}
    told |= {name: getattr(error, name, None) for name in ("run_id", "project_id", "job_id", "status", "run_url")}
    with open(os.environ["TOLD"], "a") as file:
        file.write(json.dumps(told) + "\\n")


with DAG("failing", start_date=datetime(2026, 1, 1), schedule=None) as dag:
    CmlRunJobOperator.partial(
        task_id="mapped",
        project="alice/risk-analysis",
        job="value at risk",
        poll_interval=0.1,
        on_failure_callback=tell,
    ).expand(environment=[{"YEAR": "2007"}, {"YEAR": "2008"}])
"""

PROGRAM = '''
import json
import os
import sys
from datetime import datetime, timezone
from importlib import import_module

from airflow.utils.db import initdb
from airflow.utils.session import create_session

from airflow_provider_cml.emulator import Emulator, Life, Workspace
from airflow_provider_cml.links.cml import CmlJobRunLink

initdb()
workspace = Workspace()
job = workspace.add_job(workspace.add_project("alice", "Risk Analysis"), "value at risk")
job.life = Life(running=0.2, ending="failed")


def seen_by_the_web_server(dag, ti):
    """The address behind the button, from the DAG as Airflow has stored it."""
    module = import_module("airflow.serialization.serialized_objects")
    serializer = getattr(module, "DagSerialization", None) or module.SerializedDAG
    stored = serializer.from_dict(json.loads(json.dumps(serializer.to_dict(dag))))
    return stored.get_task("mapped").get_extra_links(ti, CmlJobRunLink.name)


with Emulator(workspace) as cml:
    os.environ["AIRFLOW_CONN_CML_DEFAULT"] = cml.connection()
    from failing import dag

    model = import_module("airflow.models.xcom")
    with create_session() as session:
        dag_run = dag.test()
        table = getattr(model, "XComModel", None) or model.XCom
        tis = {ti.map_index: ti for ti in dag_run.get_task_instances(session=session)}
        pushed = {index: {} for index in tis}
        for row in session.query(table).filter(table.run_id == dag_run.run_id):
            pushed[row.map_index][row.key] = row.value if isinstance(row.value, str) else table.deserialize_value(row)
        found = {
            "state": str(getattr(dag_run.state, "value", dag_run.state)),
            "tasks": {
                index: {
                    "state": str(getattr(ti.state, "value", ti.state)),
                    "xcoms": pushed[index],
                    "link": seen_by_the_web_server(dag, ti),
                }
                for index, ti in tis.items()
            },
            "url": cml.url,
            "ids": [job.project_id, job.id],
            "runs": {run.environment["YEAR"]: run.id for run in cml.ledger.executed()},
        }
with open(sys.argv[1], "w") as file:
    json.dump(found, file, default=str)
'''


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is left of a dag run with two mapped tasks, whose runs both failed."""
    home = tmp_path_factory.mktemp("failed")
    dags = home / "dags"
    dags.mkdir()
    (home / "airflow").mkdir()  # 3.0 does not make it
    (dags / "failing.py").write_text(DAG_FILE)
    (home / "program.py").write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST"))}
    environment |= {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(dags)]),
        "TOLD": str(home / "told.jsonl"),
    }
    done = subprocess.run(
        [sys.executable, str(home / "program.py"), str(home / "found.json")],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((home / "found.json").read_text())
    told = home / "told.jsonl"
    found["told"] = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
    return found


@pytest.mark.parametrize(("index", "year"), [("0", "2007"), ("1", "2008")])
def test_xcoms_and_the_button_outlast_a_failure(failed: dict[str, Any], index: str, year: str) -> None:
    """Each mapped task has its own run in XCom, with status, times and link, and the button leads there."""
    task = failed["tasks"][index]
    xcoms = {name: json.loads(value) if value.startswith('"') else value for name, value in task["xcoms"].items()}
    url = f"{failed['url']}/alice/risk-analysis/jobs"

    assert (failed["state"], task["state"]) == ("failed", "failed")
    assert xcoms["return_value"] == failed["runs"][year]
    assert [xcoms["project_id"], xcoms["job_id"]] == failed["ids"]
    assert xcoms["status"] == "failed"
    assert {"run_key", "created_at", "finished_at"} <= xcoms.keys()
    assert f";task=mapped;map={index};" in xcoms["run_key"]
    assert xcoms["run_url"] == task["link"] == url


@pytest.mark.skipif(
    AIRFLOW.startswith(("3.0.", "3.1.", "3.2.")), reason="its dag.test() gives callbacks no exception; its workers do"
)
@pytest.mark.parametrize(("index", "year"), [(0, "2007"), (1, "2008")])
def test_callback_is_given_the_error(failed: dict[str, Any], index: int, year: str) -> None:
    """on_failure_callback gets the error itself: its text names run, status and link, and it carries them."""
    (told,) = [each for each in failed["told"] if each["map_index"] == index]
    run_id, url = failed["runs"][year], f"{failed['url']}/alice/risk-analysis/jobs"

    assert told["class"] == "CmlRunFailedError"
    assert [words for words in (run_id, "ENGINE_FAILED", url) if words not in told["text"]] == []
    assert (told["run_id"], told["status"], told["run_url"]) == (run_id, "ENGINE_FAILED", url)
    assert [told["project_id"], told["job_id"]] == failed["ids"]
