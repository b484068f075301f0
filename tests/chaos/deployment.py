"""A distributed Airflow on PostgreSQL: its environment, its parts, and what its database and its logs tell."""

from __future__ import annotations

import contextlib
import json
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg2
from processes import DemoError, free_ports, running, wait_until
from standalone import Airflow, airflow_environment

from tests.chaos.parts import SETTINGS, Part, airflow, parts_of, task_processes

if TYPE_CHECKING:
    import psutil

DAGS = Path(__file__).parent / "dags"
DAG = "chaos"


@dataclass(frozen=True, slots=True)
class Try:
    """One try of one task instance."""

    run_id: str
    task_id: str
    number: int

    def __str__(self) -> str:
        return f"{self.task_id} of {self.run_id.removeprefix('backfill__')[:10]}, try {self.number}"


class Deployment:
    """An Airflow whose parts die. A context manager: leaving it ends all of them."""

    def __init__(self, folder: Path, database: str, executor: str, jobs: int, broker: str | None = None) -> None:
        self.folder = folder
        self.home = folder / "airflow"
        ports = free_ports(3)
        environment = airflow_environment(self.home, DAGS, ports) | {
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CML__DEPLOYMENT": "chaos",
            "AIRFLOW__CORE__EXECUTOR": {"local": "LocalExecutor", "celery": "CeleryExecutor"}[executor],
            "AIRFLOW__CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
            "AIRFLOW__CORE__PARALLELISM": "16",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
            "CHAOS_JOBS": str(jobs),
            **{f"AIRFLOW__{name}": value for name, value in SETTINGS.items()},
        }
        if broker is not None:
            environment["AIRFLOW__CELERY__BROKER_URL"] = broker
            environment["AIRFLOW__CELERY__RESULT_BACKEND"] = f"db+postgresql+psycopg2://{database}"
        self.environment = environment
        self.parts: dict[str, Part] = parts_of(executor, environment, folder)
        self.rest = Airflow(ports[0])
        self._database = f"postgresql://{database}"
        self._connection: Any = None

    def __enter__(self) -> Self:
        with running(airflow("db", "migrate"), self.environment, self.folder / "migrate.log") as migrating:
            if migrating.popen.wait(300):
                raise DemoError(migrating.output()[-3000:])
        self._connection = psycopg2.connect(self._database)
        self._connection.autocommit = True
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as ends:
            for part in self.parts.values():
                ends.callback(part.close)
            if self._connection is not None:
                ends.callback(self._connection.close)

    def start(self) -> None:
        """Start all parts, and wait until they have reported and know the DAG."""
        for part in self.parts.values():
            part.start()
        up = [part.process for part in self.parts.values() if part.process is not None]
        wait_until(self.rest.is_healthy, "Airflow", 300, *up)
        wait_until(lambda: self.rest.has_dags({DAG}), "the DAG", 120, *up)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What Airflow's database says."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

    def states(self) -> dict[tuple[str, str], tuple[str, int]]:
        """State and number of tries of every task instance."""
        statement = "SELECT run_id, task_id, COALESCE(state, 'none'), try_number FROM task_instance WHERE dag_id = %s"
        return {(run, task): (state, tries) for run, task, state, tries in self.rows(statement, DAG)}

    def returned(self) -> dict[tuple[str, str], Any]:
        """What each task returned."""
        statement = "SELECT run_id, task_id, value FROM xcom WHERE dag_id = %s AND key = 'return_value'"
        return {
            (run, task): json.loads(value) if isinstance(value, str) and value[:1] == '"' else value
            for run, task, value in self.rows(statement, DAG)
        }

    def tasks_running(self) -> list[tuple[psutil.Process, Try]]:
        """The processes that run a try, of those the database knows as running."""
        known = {
            str(row[0]): Try(*row[1:])
            for row in self.rows(
                "SELECT id, run_id, task_id, try_number FROM task_instance WHERE dag_id = %s AND state = 'running'", DAG
            )
        }
        found = task_processes(self.parts.values())
        return [(process, known[ti]) for process, ti in found if ti in known]

    def log(self, run_id: str, task_id: str, number: int) -> list[str]:
        """The events of one try, as worker and triggerers wrote them, in order of time."""
        folder = self.home / "logs" / f"dag_id={DAG}" / f"run_id={run_id}" / f"task_id={task_id}"
        entries = []
        for file in folder.glob(f"attempt={number}.log*"):
            for line in file.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    entries.append((str(entry.get("timestamp", "")), str(entry.get("event", ""))))
        return [event for _, event in sorted(entries)]


def redis_server(folder: Path) -> tuple[contextlib.AbstractContextManager[Any], str]:
    """A Redis of one's own, and its address for Celery."""
    (port,) = free_ports(1)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    return running(command, {"PATH": "/usr/bin:/bin"}, folder / "redis.log"), f"redis://127.0.0.1:{port}/0"
