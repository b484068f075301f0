"""The example DAGs on a real Airflow, against the emulator: `make demo` and `make demo-ui`.

Everything is made below one temporary folder and ends with this process: a copy of the example workspace with
its table of prices, an emulator that serves it, and an `airflow standalone` with scheduler, triggerer and API
server on free ports. It exits with 0 only if every task of every example is green, and every run that the
emulator executed belongs to one of them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from processes import DemoError, Process, free_ports, running, wait_until
from results import Outcome, name_of
from standalone import Airflow, airflow_environment, call

EXAMPLES = Path(__file__).parents[2] / "example_dags"
DAGS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
BACKFILLED = "example_cml_daily"
THROUGH_V1 = "example_cml_v1"
BACKFILL = {
    "dag_id": BACKFILLED,
    "from_date": "2018-07-03T00:00:00Z",
    "to_date": "2018-07-06T00:00:00Z",  # four weekdays; the 4th is a holiday
    "max_active_runs": 4,
    "reprocess_behavior": "none",
    "run_backwards": False,
    "dag_run_conf": {},
}
DAG_RUNS = len(DAGS) - 1 + 4
BUDGET = 480
OVER = {"success", "failed"}


def say(text: str) -> None:
    print(text, flush=True)


def make_workspace(folder: Path) -> Path:
    """A copy of the example workspace, with the prices that the wheel of `arch` carries (never imported)."""
    workspace = folder / "workspace"
    shutil.copytree(EXAMPLES / "workspace", workspace, ignore=shutil.ignore_patterns("__pycache__"))
    arch = find_spec("arch")
    if arch is None or not arch.submodule_search_locations:
        raise DemoError("the table of prices is missing: `make demo` installs it")
    data = workspace / "alice" / "risk-analysis" / "data"
    data.mkdir()
    shutil.copy(Path(arch.submodule_search_locations[0]) / "data" / "sp500" / "sp500.csv.gz", data)
    return workspace


def connections_in(text: str) -> dict[str, dict[str, Any]]:
    """What the emulator printed: AIRFLOW_CONN_CML_DEFAULT='{...}' and so on."""
    found = re.findall(r"AIRFLOW_CONN_(\w+)='(.*)'$", text, re.MULTILINE)
    return {name.lower(): json.loads(value) for name, value in found}


def connect(airflow: Airflow, connections: dict[str, dict[str, Any]]) -> None:
    """With the port in its own field: Airflow 3.3 does not test a saved connection without one."""
    for name, fields in connections.items():
        host, _, port = fields["host"].rpartition(":")
        shaped = {"host": host, "port": int(port), "extra": json.dumps(fields["extra"])}
        airflow.post("connections", {"connection_id": name} | fields | shaped)


def start_all(airflow: Airflow) -> None:
    """Start every example at once, but the one through v1 first: v1 has no way of waiting for a busy job."""
    for dag in sorted(DAGS, key=lambda name: name != THROUGH_V1):
        if dag == BACKFILLED:
            airflow.backfill(BACKFILL)
        else:
            airflow.post(f"dags/{dag}/dagRuns", {"logical_date": None, "dag_run_id": "demo"})
        if dag == THROUGH_V1:
            wait_until(lambda: is_started(airflow), f"the start of {dag}", 60)


def is_started(airflow: Airflow) -> bool:
    started = OVER | {"up_for_retry"}
    return any(ti["task_id"] == "start" and ti["state"] in started for ti in airflow.task_instances())


def watch(airflow: Airflow, *processes: Process) -> None:
    """Say every change of a task's state until all DAG runs are over."""
    begin = time.monotonic()
    seen: dict[str, str] = {}
    while time.monotonic() < begin + BUDGET:
        for process in processes:
            process.check()
        runs = airflow.dag_runs()
        for ti in airflow.task_instances():
            name, state = name_of(ti), ti["state"]
            if state and seen.get(name) != state:
                seen[name] = state
                say(f"{time.monotonic() - begin:5.0f} s  {name:<46} {state}")
        if len(runs) == DAG_RUNS and all(run["state"] in OVER for run in runs):
            return
        time.sleep(1)
    say(f"not over within {BUDGET} s")


def demonstrate(folder: Path, *, ui: bool) -> bool:
    """Run it all; true if all is as it should be."""
    begin = time.monotonic()
    workspace, ports = make_workspace(folder), free_ports(3)
    environment = airflow_environment(folder / "airflow", EXAMPLES, ports)
    python = [sys.executable, "-m"]
    serve = [*python, "airflow_provider_cml.emulator", "--workspace", str(workspace), "--port", "0"]
    standalone = [*python, "airflow", "standalone"]
    with running(serve, environment, folder / "emulator.log") as emulator:
        wait_until(lambda: "AIRFLOW_CONN_CML_V1=" in emulator.output(), "the emulator", 30, emulator)
        connections = connections_in(emulator.output())
        cml = connections["cml_default"]
        say(f"emulator  {cml['host']}, with job 208 'value at risk' of alice/risk-analysis")
        with running(standalone, environment, folder / "airflow.log") as process:
            airflow = Airflow(ports[0])
            say(f"Airflow   {airflow.address}, starting ...")
            wait_until(airflow.is_healthy, "Airflow", 300, process, emulator)
            wait_until(lambda: airflow.has_dags(set(DAGS)), "the example DAGs", 120, process, emulator)
            connect(airflow, connections)
            say(f"Airflow   ready after {time.monotonic() - begin:.0f} s")
            if ui:
                say(f"\nOpen {airflow.address}. No login is asked for: who is on this machine is admin.")
                say("The example DAGs are there, and under Admin > Connections cml_default and cml_v1.")
                say("Ctrl-C ends all of it.")
                while True:
                    process.check()
                    emulator.check()
                    time.sleep(1)
            start_all(airflow)
            watch(airflow, process, emulator)
            tasks = [(ti, airflow.returned(ti)) for ti in airflow.task_instances()]
            ledger = call("GET", f"{cml['host']}/emulator/ledger", cml["password"])
            outcome = Outcome(tasks, ledger["runs"])
            say(f"\n{outcome.table()}\n")
            faults = outcome.faults()
            if faults:
                say("\n".join([*faults, outcome.logs(folder / "airflow")]))
            say(
                f"{len(tasks)} tasks, {len(outcome.executed)} runs executed one at a time, "
                f"refused starts: {outcome.refused}, faults: {len(faults)}, {time.monotonic() - begin:.0f} s"
            )
            return not faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ui", action="store_true", help="leave Airflow running for a browser")
    ui = parser.parse_args().ui
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, _: object) -> None:
        # Once is enough: a second signal must not cut the way out short.
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        say("\nending ...")
        raise SystemExit(128 + number)

    for number in signals:
        signal.signal(number, interrupt)
    with tempfile.TemporaryDirectory(prefix="cml-demo-", ignore_cleanup_errors=True) as folder:
        try:
            return 0 if demonstrate(Path(folder), ui=ui) else 1
        except DemoError as error:
            say(f"\n{error}")
            return 1


if __name__ == "__main__":
    sys.exit(main())
