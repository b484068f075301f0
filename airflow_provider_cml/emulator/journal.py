"""The state of a workspace in a file, so that it survives the emulator.

Law: one JSON array a line, appended as things happen; the last line on each thing counts, and a crash loses
at most the line being written. The file holds keys and environments: only its owner may read it.

Jobs that a workspace.toml declares are in it only once the API has changed or deleted them.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.emulator.ledger import Ledger, RequestRecord
from airflow_provider_cml.emulator.objects import Job, Life, Project, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_cml.emulator.workspace import Workspace


class JournalError(ValueError):
    """The file is no journal of this emulator."""


class Journal:
    """Reads what an earlier emulator left in a file, and goes on writing there."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._jobs: dict[str, dict[str, Any] | None] = {}
        self._runs: dict[str, Run] = {}
        self._requests: list[RequestRecord] = []
        #: The keys of the earlier emulator, so that connections made for it stay good.
        self.keys: dict[str, str] = {}
        for kind, name, value in self._lines():
            match kind:
                case "keys":
                    self.keys = value
                case "job":
                    self._jobs[name] = value
                case "run":
                    self._runs[name] = _run(value)
                case _:
                    self._requests.append(RequestRecord(**value))

    def _lines(self) -> Iterator[tuple[str, str, Any]]:
        if not self._path.exists():
            return
        lines = self._path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                kind, name, value = json.loads(line)
            except (ValueError, TypeError):
                if number == len(lines):
                    return  # a crash cut it off
                message = f"{self._path}, line {number}: not written by this emulator"
                raise JournalError(message) from None
            yield kind, name, value

    def restore(self, workspace: Workspace, ledger: Ledger) -> None:
        """Give the workspace its jobs and runs back, and the ledger all it held."""
        with workspace.lock:
            for job_id, value in self._jobs.items():
                _restore_job(workspace, job_id, value)
            for run in self._runs.values():
                if run.job_id in workspace.jobs:
                    workspace.restore_run(run)
            ledger.restore(self._runs.values(), self._requests)

    def follow(self, workspace: Workspace, ledger: Ledger, keys: dict[str, str]) -> None:
        """Write down what there is, then what happens."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(self._path.name + ".new")
        with workspace.lock:
            lines = [_line("keys", "", keys)]
            for job_id, value in self._jobs.items():
                job = workspace.jobs.get(job_id)
                lines.append(_line("job", job_id, value if job is None else _job_document(job)))
            lines += [_line("run", run.id, asdict(run)) for run in ledger.all_runs()]
            lines += [_line("request", "", asdict(record)) for record in ledger.requests()]
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.writelines(lines)
            fresh.replace(self._path)
            workspace.listeners.append(self._heard)
            ledger.listeners.append(lambda record: self._append(_line("request", "", asdict(record))))

    def _heard(self, thing: Project | Job | Run, event: str) -> None:
        if isinstance(thing, Run):
            self._append(_line("run", thing.id, asdict(thing)))
        elif isinstance(thing, Job):
            self._append(_line("job", thing.id, None if event == "removed" else _job_document(thing)))

    def _append(self, line: str) -> None:
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(line)


def _line(kind: str, name: str, value: object) -> str:
    return json.dumps([kind, name, value]) + "\n"


def _job_document(job: Job) -> dict[str, Any]:
    # The life may be a function; it belongs to the declaration.
    return {field.name: getattr(job, field.name) for field in fields(job) if field.name != "life"}


def _run(value: dict[str, Any]) -> Run:
    life = value.pop("life")
    return Run(**value, life=None if life is None else Life(**life))


def _restore_job(workspace: Workspace, job_id: str, value: dict[str, Any] | None) -> None:
    declared = workspace.jobs.get(job_id)
    if value is None:
        if declared is not None:
            workspace.remove_job(declared)
    elif declared is not None:
        for name in value:
            setattr(declared, name, value[name])
    else:
        # A job that was made through the API; its number may have been given to another one since.
        taken = {job.number for job in workspace.jobs.values()}
        if value["project_id"] in workspace.projects and value["number"] not in taken:
            workspace.jobs[job_id] = Job(**value)
