"""What is asked of the one process of a row, and the workspace that its example DAGs run against."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from standalone import airflow_environment

from airflow_provider_cml.emulator import Emulator, Life, Workspace
from tests.matrix.environments import MatrixError
from tests.matrix.rows import rows

if TYPE_CHECKING:
    from tests.matrix.rows import Row

FACING_AIRFLOW = tuple(f"tests/{name}" for name in ("hooks", "operators", "sensors", "triggers", "links"))
OF_THE_REPOSITORY = {f"test_{name}.py" for name in ("example_dags", "layout", "packaging", "readme")}
"""Tests of files that are not in the wheel, or that other steps try."""
NOT_OURS = (
    "ignore:Timer and timing metrics publish in seconds",
    "ignore:SelectableGroups dict interface is deprecated",
)
"""What Airflow 2.11, and what the OpenTelemetry of 3.2 and newer on Python 3.11, warn of before ours is imported."""
LONG = {"test_endings.py", "test_secrets.py"}
"""Every ending and every trouble in every mode: in short, left to the lowest and the newest Airflow."""
EXAMPLE_RUNS = 6
"""One of the daily, three mapped, one plain, one through v1."""
BUDGET = 1800.0
"""Seconds a row's process may take: a bound, not an expectation."""


def facing(stage: Path) -> list[str]:
    """The tests of what knows Airflow."""
    modules = {path.name for path in (stage / "tests").glob("test_*.py")} - OF_THE_REPOSITORY
    return [
        *(name for name in FACING_AIRFLOW if (stage / name).exists()),
        *(f"tests/{name}" for name in sorted(modules)),
    ]


def below(stage: Path) -> list[str]:
    """The tests of what knows no Airflow but may know Python's version; without the schedules by chance."""
    apart = {"exactly_once"}
    found = [each for each in (stage / "tests" / "api").iterdir() if each.name.startswith("test_") or each.is_dir()]
    return sorted(str(each.relative_to(stage)) for each in found if each.name not in apart)


def environment_of(row: Row, home: Path, dags: Path, ports: list[int]) -> dict[str, str]:
    """The environment of an Airflow of this row."""
    found = airflow_environment(home, dags, ports)
    path = found["PATH"].split(":")
    return found | {
        "PATH": ":".join([str(row.executable.parent), *path[1:]]),
        "AIRFLOW__CML__DEPLOYMENT": "matrix",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def connections(cml: Emulator) -> dict[str, str]:
    """The emulator's two connections, as environment variables."""
    v1 = {"conn_type": "cml", "host": cml.url, "password": cml.legacy_key, "extra": {"api_version": "v1"}}
    v2 = {"conn_type": "cml", "host": cml.url, "password": cml.api_key}
    return {"AIRFLOW_CONN_CML_V1": json.dumps(v1), "AIRFLOW_CONN_CML_DEFAULT": json.dumps(v2)}


def tests_of(row: Row, stage: Path, *, is_short: bool) -> list[str]:
    """What a row tests. In short: what `make test` has not tested with this Airflow, or with this Python."""
    if not is_short:
        return facing(stage) if row.is_first else [*facing(stage), *below(stage)]
    if not row.is_first:
        return below(stage)
    lowest, *_, newest = [each for each in rows() if each.is_first]
    return [] if row in (lowest, newest) else [name for name in facing(stage) if Path(name).name not in LONG]


def probe(row: Row, stage: Path, *, is_short: bool) -> dict[str, str]:
    """The answers of the row's one process."""
    home, answer, log = row.folder / "home", row.folder / "answer.json", row.folder / "probe.log"
    answer.unlink(missing_ok=True)
    home.mkdir(exist_ok=True)
    wanted = {"run_examples": row.is_first, "tests": tests_of(row, stage, is_short=is_short)}
    with Emulator(Workspace(stopping=1.0)) as cml, log.open("wb") as file:
        project = cml.workspace.add_project("alice", "Risk Analysis")
        job = cml.workspace.add_job(project, "value at risk", number=208, life=Life(running=1.0))
        strict = [part for each in ("error::DeprecationWarning", *NOT_OURS) for part in ("-W", each)]
        script = (stage / "tests" / "matrix" / "probe.py", stage, answer, json.dumps(wanted))
        environment = environment_of(row, home, stage / "example_dags", [0, 0, 0]) | connections(cml)
        command = [str(each) for each in (row.executable, *strict, *script)]
        try:
            subprocess.run(command, env=environment, stdout=file, stderr=file, cwd=stage, timeout=BUDGET, check=False)
        except subprocess.TimeoutExpired:
            raise MatrixError(f"{row.name} was not over within {BUDGET:.0f} s, see {log}") from None
        runs = [run.status for run in cml.ledger.executed(job.id)]
    told: dict[str, str] = json.loads(answer.read_text()) if answer.exists() else {"imports": "FAILED: no answer"}
    were_run = row.is_first and not told.get("examples", "").startswith("FAILED")
    if were_run and runs != ["ENGINE_SUCCEEDED"] * EXAMPLE_RUNS:
        told["examples"] = f"FAILED: the examples left the runs {runs}"
    return told
