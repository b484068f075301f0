"""Two releases side by side, as while Airflow is upgraded: a worker of the one, a triggerer of the other."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import airflow_provider_cml
from airflow_provider_cml import events
from airflow_provider_cml.api.conversations.watching import Ending
from airflow_provider_cml.triggers.cml import CmlJobFreeTrigger, CmlJobRunTrigger
from tests.airflow_side import connections, quick

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job, Workspace

__all__ = ["connections", "quick"]

PACKAGE = Path(airflow_provider_cml.__file__).parent

FIELD = '    mood: str = "calm"\n\n'
MORE = (
    ("events.py", "    @property\n    def free_deadline", f"{FIELD}    @property\n    def free_deadline", 1),
    ("api/models.py", "    @property\n    def is_active", f"{FIELD}    @property\n    def is_active", 1),
    ("triggers/cml.py", "        **_unknown: Any,\n", '        tempo: str = "slow",\n        **_unknown: Any,\n', 2),
    ("triggers/cml.py", "**self._arguments(),", '**self._arguments(), "tempo": "brisk",', 2),
)
"""What the later release has more: module, text, what stands there instead, how often."""

WORKER = """
import json, sys
from airflow_provider_cml.events import Watched
from airflow_provider_cml.triggers.cml import CmlJobFreeTrigger, CmlJobRunTrigger

watched = Watched(**json.load(sys.stdin), mood="cheerful").to_json()
run = CmlJobRunTrigger("cml_default", watched, 0.05)
free = CmlJobFreeTrigger("cml_default", watched, 0.05, "2026-11-21", -1, "a")
print(json.dumps([run.serialize()[1], free.serialize()[1]]))
"""
WOKEN = """
import json, sys
from airflow_provider_cml import events

outcome, watched = events.read(json.load(sys.stdin))
print(json.dumps([outcome.ending, outcome.run.status, outcome.run.mood, watched.run_id, watched.mood]))
"""
TRIGGERER = """
import asyncio, json, sys
from airflow_provider_cml.api.conversations import line
from airflow_provider_cml.triggers.cml import CmlJobFreeTrigger, CmlJobRunTrigger

async def fire(trigger):
    return [event.payload async for event in trigger.run()]

async def both(run, free):
    return await asyncio.gather(fire(CmlJobRunTrigger(**run)), fire(CmlJobFreeTrigger(**free)))

line.QUIET = 0.02
print(json.dumps(asyncio.run(both(*json.load(sys.stdin)))))
"""


@pytest.fixture
def later(tmp_path: Path) -> Callable[[str, object], Any]:
    """Run a program in a later release, which knows more of everything that crosses a deferral."""
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text, instead, times in MORE:
        module = tmp_path / PACKAGE.name / name
        source = module.read_text()
        assert source.count(text) == times, f"{name}: {text!r}"
        module.write_text(source.replace(text, instead))

    def run(program: str, given: object) -> Any:
        ran = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.splitlines()[-1])

    return run


def fire(trigger: CmlJobRunTrigger | CmlJobFreeTrigger) -> dict[str, Any]:
    """The payload of its one event."""

    async def payloads() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    (payload,) = asyncio.run(payloads())
    return dict(payload)


def test_triggerer_is_upgraded_first(
    connections: Emulator, workspace: Workspace, job: Job, later: Callable[[str, object], Any]
) -> None:
    """The later triggerer runs what this worker stored, and this worker understands what it is told."""
    run = workspace.add_run(job, "succeeded")
    watched = events.Watched(job.project_id, job.id, run.id, excluded=("a",))
    stored = [
        CmlJobRunTrigger("cml_default", watched.to_json(), 0.05).serialize()[1],
        CmlJobFreeTrigger("cml_default", watched.to_json(), 0.05, "2026-11-21", -1, "a").serialize()[1],
    ]
    (told,), (told_free,) = later(TRIGGERER, stored)
    outcome, remembered = events.read(told)

    assert (told["version"], told["run"]["mood"], told["watched"]["mood"]) == (events.VERSION, "calm", "calm")
    assert outcome.run is not None
    assert outcome.run.status.is_success
    assert (remembered.ids, remembered.run_id, remembered.excluded) == (watched.ids, run.id, ("a",))
    assert events.read(told_free)[0].ending is Ending.FREE


def test_worker_is_upgraded_first(
    connections: Emulator, workspace: Workspace, job: Job, later: Callable[[str, object], Any]
) -> None:
    """This triggerer runs what a later worker stored, and that worker understands what it is told."""
    run = workspace.add_run(job, "succeeded")
    stored, stored_free = later(WORKER, {"project_id": job.project_id, "job_id": job.id, "run_id": run.id})

    assert (stored["tempo"], stored["watched"]["mood"]) == ("brisk", "cheerful")
    assert later(WOKEN, fire(CmlJobRunTrigger(**stored))) == ["over", "succeeded", "calm", run.id, "calm"]
    assert events.read(fire(CmlJobFreeTrigger(**stored_free)))[0].ending is Ending.FREE
