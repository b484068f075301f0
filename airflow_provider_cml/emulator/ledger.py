"""What really happened: every request, every run.

Law: written by the server, never by clients; a request's record holds its path and query, never its headers
or body.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from airflow_provider_cml.emulator.objects import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_cml.emulator.workspace import Workspace

REQUESTS_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request. `status` is None when no answer was given; `fault` says what was done to it on purpose."""

    number: int
    operation: str
    method: str
    path: str
    query: str
    status: int | None
    fault: str | None
    time: float
    monotonic: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as it stands: the environment overrides as they were given, and what came of it."""

    id: str
    engine_id: str
    job_id: str
    job: str
    number: int
    api: str
    environment: dict[str, str]
    arguments: str
    created_at: float
    started_at: float | None
    finished_at: float | None
    status: str
    executed: bool
    stop_requests: int
    exit_code: int | None
    retry_of: str
    output: str


class Ledger:
    """Requests and runs of one emulator. Runs of deleted jobs stay in it."""

    def __init__(self, workspace: Workspace, secrets: tuple[str, ...] = ()) -> None:
        self._workspace = workspace
        self.listeners: list[Callable[[RequestRecord], None]] = []
        self._secrets = secrets
        self._lock = threading.Lock()
        self._requests: deque[RequestRecord] = deque(maxlen=REQUESTS_KEPT)
        self._counts: Counter[str] = Counter()
        self._runs: dict[str, Run] = {}
        self._number = 0
        with workspace.lock:
            for run in workspace.runs.values():
                self._heard(run, "changed")
            workspace.listeners.append(self._heard)

    def record(
        self,
        operation: str,
        method: str,
        path: str,
        query: str,
        *,
        status: int | None,
        fault: str | None,
        began: float,
    ) -> RequestRecord:
        """Enter a request that began at this reading of the monotonic clock."""
        for secret in self._secrets:
            path, query = path.replace(secret, "***"), query.replace(secret, "***")
        now = time.monotonic()
        with self._lock:
            self._number += 1
            self._counts[operation] += 1
            entry = RequestRecord(
                self._number,
                operation,
                method,
                path,
                query,
                status,
                fault,
                time.time() - (now - began),
                began,
                now - began,
            )
            self._requests.append(entry)
        for listener in self.listeners:
            listener(entry)
        return entry

    def restore(self, runs: Iterable[Run], requests: Iterable[RequestRecord]) -> None:
        """Take over what an earlier emulator on the same state entered."""
        for run in runs:
            self._runs.setdefault(run.id, run)
        for entry in requests:
            self._number = max(self._number, entry.number)
            self._counts[entry.operation] += 1
            self._requests.append(entry)

    def all_runs(self) -> list[Run]:
        """The runs themselves, those of deleted jobs included."""
        return list(self._runs.values())

    def requests(self, operation: str | None = None) -> list[RequestRecord]:
        """The requests in order of their end, of one operation or all."""
        with self._lock:
            return [entry for entry in self._requests if operation in (None, entry.operation)]

    def counts(self) -> dict[str, int]:
        """How often each operation was asked for."""
        with self._lock:
            return dict(self._counts)

    def count(self, operation: str) -> int:
        """How often this operation was asked for."""
        return self.counts().get(operation, 0)

    def runs(self, job_id: str | None = None) -> list[RunRecord]:
        """All runs in order of their creation, of one job or all."""
        with self._workspace.lock:
            self._workspace.advance()
            records = [self._record_of(run) for run in self._runs.values()]
        records.sort(key=lambda record: record.created_at)
        return [record for record in records if job_id in (None, record.job_id)]

    def executed(self, job_id: str | None = None) -> list[RunRecord]:
        """The runs that really ran."""
        return [record for record in self.runs(job_id) if record.executed]

    def clear(self) -> None:
        """Forget the requests; runs stay."""
        with self._lock:
            self._requests.clear()
            self._counts.clear()

    def document(self) -> dict[str, object]:
        """All of it as JSON."""
        return {
            "runs": [asdict(record) for record in self.runs()],
            "requests": [asdict(entry) for entry in self.requests()],
            "counts": self.counts(),
        }

    def _heard(self, thing: object, _event: str) -> None:
        if isinstance(thing, Run):
            self._runs[thing.id] = thing

    @staticmethod
    def _record_of(run: Run) -> RunRecord:
        return RunRecord(
            id=run.id,
            engine_id=run.engine_id,
            job_id=run.job_id,
            job=run.job,
            number=run.number,
            api=run.api,
            environment=dict(run.environment),
            arguments=run.arguments,
            created_at=run.created_at,
            started_at=run.running_at,
            finished_at=run.finished_at,
            status=str(run.status),
            executed=run.executed,
            stop_requests=len(run.stop_requests),
            exit_code=run.exit_code,
            retry_of=run.retry_of,
            output=run.output,
        )
