"""The example DAGs, parsed as Airflow parses them, and their job, on figures to be checked by hand."""

import json
import os
import subprocess
import sys
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from statistics import NormalDist

import pytest

EXAMPLES = Path(__file__).parents[1] / "example_dags"
FILES = sorted(EXAMPLES.glob("*.py"))
SCRIPT = EXAMPLES / "workspace" / "alice" / "risk-analysis" / "value_at_risk.py"

airflow_3 = pytest.mark.skipif(find_spec("airflow.sdk") is None, reason="the examples are written for Airflow 3")

# Run in a process of its own, so that what other tests have imported does not count.
PARSE = """
import json, runpy, socket, sys
import airflow.sdk
from airflow.sdk import BaseHook, Connection
from airflow.sdk.definitions._internal.contextmanager import DagContext

def refuse(*arguments, **named):
    raise AssertionError(f"reached out while parsing: {arguments} {named}")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
BaseHook.get_connection = BaseHook.aget_connection = BaseHook.get_hook = Connection.get = refuse

before = set(sys.modules)
DagContext.current_autoregister_module_name = "__main__"
for path in sys.argv[1:]:
    runpy.run_path(path, run_name="parsed")
print(json.dumps({
    "dags": sorted(dag.dag_id for dag, _ in DagContext.autoregistered_dags),
    "loaded": sorted(set(sys.modules) - before),
}))
"""

# As the DAG processor does it: the whole folder, what .airflowignore leaves of it, and into JSON.
COLLECT = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction
from pendulum import datetime

bag = DagBag(sys.argv[1])
timetable = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags["example_cml_daily"])).timetable
restriction = TimeRestriction(datetime(2018, 7, 2), datetime(2018, 7, 9), catchup=True)
interval, intervals = None, []
while info := timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction):
    interval = info.data_interval
    intervals.append([interval.start.to_date_string(), interval.end.to_date_string()])
print(json.dumps({
    "errors": bag.import_errors,
    "dags": {name: DagSerialization.to_dict(dag) for name, dag in bag.dags.items()},
    "intervals": intervals,
}))
"""


@pytest.fixture(scope="module")
def in_new_process(tmp_path_factory):
    """Runs Python source in a fresh interpreter with a home of its own, reads the JSON it prints last."""

    def run(source, *arguments):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        process = subprocess.run(
            [sys.executable, "-c", source, *map(str, arguments)],
            env=environment
            | {"AIRFLOW_HOME": str(tmp_path_factory.mktemp("home")), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1])

    return run


@airflow_3
def test_parsing_reaches_out_to_nothing(in_new_process):
    """A DAG file opens no socket, looks up no connection and loads no HTTP library when it is parsed."""
    parsed = in_new_process(PARSE, *FILES)
    heavy = {"requests", "aiohttp", "urllib3", "numpy", "pandas"}

    assert parsed["dags"] == [path.stem for path in FILES]
    assert not heavy & {name.partition(".")[0] for name in parsed["loaded"]}
    assert not [name for name in parsed["loaded"] if "emulator" in name]


@pytest.fixture(scope="module")
def collected(in_new_process):
    return in_new_process(COLLECT, EXAMPLES)


@airflow_3
def test_folder_is_collected_and_serialized(collected):
    """The DAG processor finds the example DAGs, nothing else, and no errors."""
    assert collected["errors"] == {}
    assert sorted(collected["dags"]) == [path.stem for path in FILES]


@airflow_3
def test_daily_intervals_hold_one_trading_day_each(collected):
    """START_DATE and END_DATE of a daily run differ; the last interval of a week reaches over the weekend."""
    assert collected["intervals"] == [
        ["2018-07-02", "2018-07-03"],
        ["2018-07-03", "2018-07-04"],
        ["2018-07-04", "2018-07-05"],
        ["2018-07-05", "2018-07-06"],
        ["2018-07-06", "2018-07-09"],
        ["2018-07-09", "2018-07-10"],
    ]


@pytest.fixture
def job(tmp_path):
    """Runs the job's script on a table of prices with a hundred returns: -50 to 49 in a thousand."""
    day, close = date(2018, 1, 1), 1000.0
    rows = ["Date,Close", f"{day:%m/%d/%Y},{close}"]
    for thousandth in range(-50, 50):
        day += timedelta(days=1)
        close *= 1 + thousandth / 1000
        rows.append(f"{day:%m/%d/%Y},{close!r}")
    rows.pop(1 + 95)  # a holiday: 2018-04-06
    (tmp_path / "data").mkdir()
    (tmp_path / "prices.csv").write_text("\n".join(rows))

    def run(**environment):
        return subprocess.run(
            [sys.executable, SCRIPT],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PRICES": "prices.csv", "WINDOW": "40"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    run.results = tmp_path / "results"
    return run


def test_job_tells_the_risk_at_the_end_of_the_interval(job):
    """The window is the last forty returns before END_DATE: -10 to 29 in a thousand on 2018-03-22."""
    process = job(START_DATE="2018-03-21", END_DATE="2018-03-22", CONFIDENCE="0.95")
    result = json.loads((job.results / "2018-03-21_2018-03-22.json").read_text())
    losses = [-thousandth / 1000 for thousandth in range(-11, 29)]

    assert process.returncode == 0, process.stderr
    assert (result["as_of"], result["trading_days"], result["window"]) == ("2018-03-21", 1, 40)
    assert result["levels"]["0.95"] == {
        "historical": 0.009,
        "parametric": round(NormalDist.from_samples(losses).inv_cdf(0.95), 6),
        "expected_shortfall": 0.01,
        "exceeded": 0,
    }
    assert "0.90%" in process.stdout


def test_job_carries_its_figures_over_a_holiday(job):
    """An interval without a trading day, inside the table, is answered with the figures of the day before."""
    process = job(START_DATE="2018-04-06", END_DATE="2018-04-07")
    result = json.loads((job.results / "2018-04-06_2018-04-07.json").read_text())

    assert process.returncode == 0, process.stderr
    assert (result["as_of"], result["trading_days"]) == ("2018-04-05", 0)


def test_job_arguments_set_window_and_position(job):
    """JOB_ARGUMENTS has its say over WINDOW, and a position turns per cent into an amount."""
    process = job(
        START_DATE="2018-03-21",
        END_DATE="2018-03-22",
        CONFIDENCE="0.95",
        JOB_ARGUMENTS="--window 60 --position 1000000",
    )

    assert "from 60 returns" in process.stdout
    assert "of 1,000,000" in process.stdout


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"START_DATE": "", "END_DATE": "2018-03-22"}, "START_DATE must be a date"),
        ({"START_DATE": "2018-03-21", "END_DATE": "soon"}, "END_DATE must be a date"),
        ({"START_DATE": "2018-03-22", "END_DATE": "2018-03-22"}, "must be before END_DATE"),
        ({"START_DATE": "2026-03-21", "END_DATE": "2026-03-22"}, "no trading days known"),
        ({"START_DATE": "2018-02-01", "END_DATE": "2018-02-02"}, "fewer than 40 trading days before"),
        ({"START_DATE": "2018-03-21", "END_DATE": "2018-03-22", "CONFIDENCE": "95"}, "CONFIDENCE must be"),
        ({"START_DATE": "2018-03-21", "END_DATE": "2018-03-22", "WINDOW": "-5"}, "WINDOW must be"),
        ({"START_DATE": "2018-03-21", "END_DATE": "2018-03-22", "PRICES": "none.csv"}, "there is no file"),
        ({"START_DATE": "2018-03-21", "END_DATE": "2018-03-22", "JOB_ARGUMENTS": "--no"}, "JOB_ARGUMENTS"),
    ],
)
def test_job_refuses_what_it_cannot_answer(job, environment, message):
    """Bad input ends with 2 and one line saying which, and leaves no result."""
    process = job(**environment)

    assert process.returncode == 2
    assert process.stderr.startswith("value at risk: ")
    assert message in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert not job.results.exists()
