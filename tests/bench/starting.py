"""From `execute()` to the POST on the wire, beside a bare call of requests; and what importing an operator costs.

    python -m tests.bench.starting CLIENT PORT AUTHORITY count=NUMBER
    python -m tests.bench.starting import MODULE

The operator is given ids and looks at the job's runs before it starts one: two requests over one connection. The bare
call is one. Connecting and the handshake are part of both; importing the libraries is not.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from statistics import median
from typing import Any

from tests.bench.answers import CML_PATH, JOB_ID, PROJECT_ID
from tests.bench.clients import KEY, connect
from tests.bench.verdicts import OURS

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass
class DagRun:
    """As much of a dag run as the operator reads."""

    run_id: str = "manual"
    logical_date: datetime = NOW
    run_after: datetime = NOW
    start_date: datetime = NOW


@dataclass
class TaskInstance:
    """As much of a task instance as the operator reads."""

    task_id: str = "start"
    dag_id: str = "bench"
    run_id: str = "manual"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def start() -> None:
    """What a worker does with the task."""
    from airflow_provider_cml.operators.cml import CmlRunJobOperator

    task = CmlRunJobOperator(task_id="start", project=PROJECT_ID, job=JOB_ID, wait_for_completion=False)
    ti = TaskInstance()
    context: Any = {"ti": ti, "task_instance": ti, "task": task, "dag_run": DagRun(), "params": {}}
    task.execute(context)


def call() -> None:
    """What one would write without a provider."""
    import requests

    with requests.Session() as session:
        answer = session.post(
            f"{os.environ['BENCH_URL']}{CML_PATH}",
            json={"project_id": PROJECT_ID, "job_id": JOB_ID, "environment": {"A": "b"}},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=60,
        )
        answer.raise_for_status()
        answer.json()


def measure(count: int, act: Any) -> dict[str, Any]:
    """CPU of one start, and the moments at which each began: the server knows when its POST came."""
    act()
    began, cpu = [], []
    for _ in range(count):
        began.append(time.monotonic())
        before = time.process_time()
        act()
        cpu.append(time.process_time() - before)
    return {"began": began, "cpu": median(cpu)}


def main() -> None:
    """One measurement."""
    if sys.argv[1] == "import":
        before = time.process_time()
        import_module("airflow.sdk")
        between = time.process_time()
        import_module(sys.argv[2])
        after = time.process_time()
        print(json.dumps({"cpu": after - between, "sdk": between - before}))
        return
    name, port, authority, *rest = sys.argv[1:]
    connect(int(port), authority)
    count = int(dict(text.split("=") for text in rest)["count"].partition(".")[0])
    found = measure(count, start if name == OURS else call)
    print(json.dumps({"mark": "end"}), flush=True)
    print(json.dumps({"found": found}), flush=True)


if __name__ == "__main__":
    main()
