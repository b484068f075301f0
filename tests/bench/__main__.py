"""The bench: everybody waits for the same runs on the same kind of server, each in a process of its own, in turn.

    python -m tests.bench [FOLDER]     SHORT=1 for one round of shorter measurements

Prints a table of what was measured and one of the targets, and leaves both with a chart and the numbers in FOLDER. Its
exit status tells whether all targets hold. Clients alternate within a round, so that what else the machine does falls
on all of them; of three rounds of the ratios the median counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.chart import draw
from tests.bench.delays import virtual_delays
from tests.bench.processes import ROOT, Certificates, measure
from tests.bench.verdicts import (
    BARE,
    DATABRICKS,
    DBT,
    NAMES,
    OURS,
    Found,
    busiest,
    comparison,
    per_thousand,
    verdict_table,
    verdicts,
)

SHORT = os.environ.get("SHORT", "") not in {"", "0"}
ROUNDS = 1 if SHORT else 3
CROWD = 1_000 if SHORT else 10_000
CROWD_INTERVAL = 10.0 if SHORT else 30.0
OPERATORS = {
    OURS: "airflow_provider_cml.operators.cml",
    DATABRICKS: "airflow.providers.databricks.operators.databricks",
    DBT: "airflow.providers.dbt.cloud.operators.dbt",
}


class Bench:
    """One run of all measurements."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self.found: Found = {}

    def keep(self, measurement: str, client: str, numbers: dict[str, Any]) -> None:
        """Note what one run of a measurement found, and say so."""
        self.found.setdefault(measurement, {}).setdefault(client, []).append(numbers)
        shown = {name: round(value, 4) for name, value in numbers.items() if isinstance(value, int | float)}
        load = os.getloadavg()[0]
        print(f"{time.strftime('%H:%M:%S')} load {load:4.1f}  {measurement}, {NAMES[client]}: {shown}", flush=True)

    def polling(self) -> None:
        """300 runs that never end, looked at each second."""
        for client in NAMES:
            warm, seconds = (7, 3) if SHORT else (8, 10)  # after the five quiet seconds
            account = measure(
                self._certificates, "subject", "polling", client, count=300, interval=1, warm=warm, seconds=seconds
            )
            found, served = account.found, account.served
            found |= {
                "cpu_per_thousand": per_thousand(found["cpu"], served["requests"]),
                "rate": served["requests"] / found["seconds"],
                **{name: served[name] for name in ("requests", "opened", "most_open")},
            }
            self.keep("polling", client, found)

    def crowd(self) -> None:
        """A triggerer that was restarted with 10,000 waiting tasks, all of which end in the next half minute."""
        for client in (OURS, BARE):
            account = measure(self._certificates, "subject", "crowd", client, count=CROWD, interval=CROWD_INTERVAL)
            found, served = account.found, account.served
            # Seconds count from the first request. Until the first runs end, and their waits no longer look: ours are
            # quiet for five seconds first.
            begin, end = int(found["created"]) + 1, int(CROWD_INTERVAL)
            found |= {
                "busiest": busiest(served["by_second"], begin, end),
                **{name: served[name] for name in ("requests", "most_open", "by_second")},
            }
            self.keep("crowd", client, found)

    def memory(self) -> None:
        """What each of another thousand waiting triggers takes."""
        count = 300 if SHORT else 1000
        for client in (OURS, DATABRICKS) if SHORT else (OURS, BARE, DATABRICKS):
            # The peers look at once, and open a connection each; we stay quiet first, and then share.
            account = measure(
                self._certificates, "subject", "memory", client, count=count, interval=30, settle=8 if SHORT else 30
            )
            self.keep("memory", client, account.found)

    def bursts(self) -> None:
        """Whether anything keeps the loop."""
        for client in (OURS, BARE):
            account = measure(
                self._certificates, "subject", "bursts", client, count=1000, interval=10, seconds=7 if SHORT else 20
            )
            self.keep("bursts", client, account.found)

    def delays(self) -> None:
        """How late an end is told: in virtual time, and a smaller set in real time, everybody at once."""
        for client, numbers in virtual_delays().items():
            self.keep("delays in virtual time", client, numbers)
        longest = 5 if SHORT else 60

        def one(client: str) -> dict[str, Any]:
            return measure(self._certificates, "subject", "delays", client, count=40, longest=longest).found

        clients = (OURS,) if SHORT else (OURS, DATABRICKS, DBT)
        with ThreadPoolExecutor() as pool:
            for client, numbers in zip(clients, pool.map(one, clients), strict=True):
                self.keep("delays in real time", client, numbers)

    def start(self) -> None:
        """From `execute()` to the POST on the wire."""
        for client in (OURS, BARE):
            account = measure(self._certificates, "starting", client, count=10 if SHORT else 30)
            # The first start is not measured: it loads the libraries.
            posts = account.served["posts"][1:]
            waits = [post - began for post, began in zip(posts, account.found["began"], strict=True)]
            self.keep("start", client, {"seconds": median(waits), "cpu": account.found["cpu"]})

    def imports(self) -> None:
        """What it costs to import an operator where Airflow's SDK is there already."""
        for client, module in OPERATORS.items():
            command = [sys.executable, "-m", "tests.bench.starting", "import", module]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            self.keep("import", client, json.loads(done.stdout.strip().splitlines()[-1]))


def main(folder: Path) -> int:
    """All of it."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Certificates.make(Path(temporary)))
        for _ in range(ROUNDS):
            bench.polling()
        for _ in range(ROUNDS):
            bench.crowd()
        bench.memory()
        bench.bursts()
        bench.imports()
        bench.start()
        bench.delays()
    judged = verdicts(bench.found, 30.0, CROWD)
    text = f"{comparison(bench.found)}\n\n{verdict_table(judged)}\n"
    (folder / "bench.md").write_text(text)
    (folder / "bench.json").write_text(json.dumps(bench.found))
    draw(bench.found, folder / "bench.png")
    print(f"\n{text}\n{time.monotonic() - began:.0f} s; chart and numbers in {folder}")
    return 0 if all(verdict.holds for verdict in judged) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "bench"))
