"""What came of it: a table of tasks and the runs they started, and whether all of it is as it should be."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def name_of(ti: Record) -> str:
    """`example_cml_daily 2018-07-03 value_at_risk`, `example_cml_mapped value_at_risk[2]`."""
    day = f"{ti['logical_date'][:10]} " if ti["logical_date"] else ""
    index = f"[{ti['map_index']}]" if ti["map_index"] >= 0 else ""
    return f"{ti['dag_id']} {day}{ti['task_id']}{index}"


def result_of(run: Record) -> str:
    """The 99 % figure, from what the job's script printed."""
    text = Path(run["output"]).read_text(errors="replace") if run["output"] else ""
    figure = re.search(r"^\s+99\.0%\s+(\S+%).*?(\d+)$", text, re.MULTILINE)
    days = re.search(r"trading days: (\d+)", text)
    if not figure or not days:
        return (text.strip().splitlines() or ["no output"])[-1][:60]
    return f"99 % VaR {figure[1]}, exceeded on {figure[2]} of {days[1]} days"


def readable(line: str) -> str:
    """Level, message and exceptions of a line of Airflow's log."""
    try:
        entry = json.loads(line)
        told = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ()]
        return "\n    ".join([f"{entry['level']:<8} {entry['event']}", *told])
    except (ValueError, KeyError, TypeError):
        return line


def table(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    head, *lines = ["  ".join(row).rstrip() for row in padded]
    return "\n".join([head, "-" * max(map(len, [head, *lines])), *lines])


class Outcome:
    """The tasks as Airflow tells them, with what each returned, and the runs as the emulator tells them."""

    def __init__(self, tasks: list[tuple[Record, str | None]], runs: list[Record]) -> None:
        self.tasks = tasks
        self.executed = [run for run in runs if run["executed"]]
        self.refused = len(runs) - len(self.executed)
        # A start through v1 returns the engine id, all others the run id.
        self._by_id = {run[key]: run for run in reversed(runs) for key in ("id", "engine_id")}

    def run_of(self, returned: str | None) -> Record | None:
        return self._by_id.get(returned or "")

    def table(self) -> str:
        rows = [["task", "state", "seconds", "run", "status", "result"]]
        for ti, returned in self.tasks:
            run = self.run_of(returned)
            shown = [run["status"], result_of(run)] if run else ["", ""]
            rows.append([name_of(ti), ti["state"], f"{ti['duration'] or 0:.0f}", returned or "", *shown])
        return table(rows)

    def faults(self) -> list[str]:
        """What is not as it should be."""
        claimed = {run["id"] for _, returned in self.tasks if (run := self.run_of(returned))}
        return [
            *(f"{name_of(ti)} is {ti['state']}" for ti, _ in self.tasks if ti["state"] != "success"),
            *(
                f"{name_of(ti)} has no run"
                for ti, returned in self.tasks
                if ti["operator"] == "CmlRunJobOperator" and not self.run_of(returned)
            ),
            *(
                f"run {run['id']} ended as {run['status']}"
                for run in self.executed
                if run["status"] != "ENGINE_SUCCEEDED"
            ),
            *(f"run {run['id']} belongs to no task" for run in self.executed if run["id"] not in claimed),
            *(
                f"runs {one['id']} and {other['id']} were active at once"
                for one, other in itertools.pairwise(self.executed)
                if (one["finished_at"] or other["created_at"] + 1) > other["created_at"]
            ),
        ]

    def logs(self, airflow_home: Path) -> str:
        """The last lines of each log of each task that is not green."""
        lines = []
        for ti, _ in self.tasks:
            if ti["state"] != "success":
                folder = airflow_home / "logs" / f"dag_id={ti['dag_id']}" / f"run_id={ti['dag_run_id']}"
                for log in sorted(folder.glob(f"task_id={ti['task_id']}/**/attempt=*.log*")):
                    lines += [f"--- {log.relative_to(folder.parent)}"]
                    lines += map(readable, log.read_text(errors="replace").splitlines()[-25:])
        return "\n".join(lines)
