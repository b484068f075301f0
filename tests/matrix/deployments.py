"""An `airflow standalone` of a row: what each version needs to be asked from outside."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from processes import DemoError, free_ports, running, wait_until

from tests.airflow.deployment import DagRun, Deployment
from tests.matrix.trying import environment_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.matrix.rows import Row


LOCKED_AT_MOST = 5
"""Times a command is given to SQLite, which refuses while the scheduler writes; nothing is done then."""


class OldDeployment(Deployment):
    """Airflow 2: the same questions at another address, two of them in other words."""

    api = "api/v1"

    def is_healthy(self) -> bool:
        try:
            health = self.get("health")
        except (OSError, DemoError, ValueError):
            return False
        return all(health[part]["status"] == "healthy" for part in ("scheduler", "triggerer"))

    def trigger(self, dag_id: str, run_id: str, logical_date: str | None = None) -> DagRun:
        body = {"dag_run_id": run_id} | ({"logical_date": logical_date} if logical_date else {})
        self.post(f"dags/{dag_id}/dagRuns", body)
        return OldDagRun(self, dag_id, run_id)

    def delete(self, path: str) -> None:
        self._change("DELETE", path, {})  # which says JSON, so some has to come


class OldDagRun(DagRun):
    """Airflow 2 clears running tasks from its pages and its command line; its REST API leaves them running."""

    def clear(self, *task_ids: str) -> None:
        command = ["airflow", "tasks", "clear", self.dag_id, "-t", f"^({'|'.join(task_ids)})$", "-y"]
        for _ in range(LOCKED_AT_MOST):
            done = subprocess.run(command, env=self.airflow.environment, capture_output=True, text=True, check=False)
            if "database is locked" not in done.stderr:
                break
        assert done.returncode == 0, done.stderr[-2000:]


def _as_airflow_2(home: Path, port: int) -> dict[str, str]:
    """What Airflow 2 calls otherwise; its LocalExecutor asks for leave to use SQLite, and every visitor is admin."""
    (home / "webserver_config.py").write_text('AUTH_ROLE_PUBLIC = "Admin"\n')
    return {
        "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
        "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__WEBSERVER__BASE_URL": f"http://localhost:{port}",
        "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
        "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(port),
        "AIRFLOW__WEBSERVER__WORKERS": "1",
    }


@contextlib.contextmanager
def deployed(row: Row, home: Path, dags: Path, variables: dict[str, str]) -> Iterator[Deployment]:
    """An Airflow of this row, as long as the block lasts."""
    home.mkdir(parents=True)
    ports = free_ports(3)
    environment = environment_of(row, home, dags, ports) | variables | {"AIRFLOW__CORE__PARALLELISM": "8"}
    if row.is_old:
        environment |= _as_airflow_2(home, ports[0])
    command = [str(row.executable), "-m", "airflow", "standalone"]
    with running(command, environment, row.folder / "standalone.log") as process:
        kind = OldDeployment if row.is_old else Deployment
        deployment = kind(ports[0], home, environment, process)
        wait_until(deployment.is_healthy, f"Airflow {row.version}", 300, process)
        wait_until(lambda: deployment.has_dags({"cleared", "again"}), "the DAGs", 120, process)
        yield deployment
