"""An `airflow standalone` of one's own: its environment, and its REST API."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processes import DemoError

if TYPE_CHECKING:
    from collections.abc import Iterator


def airflow_environment(home: Path, dags: Path, ports: list[int]) -> dict[str, str]:
    """The environment of this process without any Airflow in it, and with one of its own."""
    api, worker_logs, triggerer_logs = ports
    foreign = ("AIRFLOW", "PYTHONPATH", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_PROXY": "localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": f"http://localhost:{api}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CML__DEPLOYMENT": "demo",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{api}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(triggerer_logs),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def call(method: str, url: str, token: str, body: object = None) -> Any:
    """One JSON request to a server on this machine."""
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        raise HttpError(error.code, f"{method} {url}: {error.code} {error.read().decode()[:500]}") from None


class HttpError(DemoError):
    """A server on this machine refused."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Airflow:
    """The REST API of one `airflow standalone`, whose every visitor is admin."""

    api = "api/v2"

    def __init__(self, port: int) -> None:
        self.address = f"http://localhost:{port}"
        self._token = ""

    def get(self, path: str) -> Any:
        return call("GET", f"{self.address}/{self.api}/{path}", self._token)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._change("POST", path, body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._change("PATCH", path, body)

    def delete(self, path: str) -> None:
        self._change("DELETE", path)

    @contextlib.contextmanager
    def paused(self, dag_id: str) -> Iterator[None]:
        """Nobody schedules the DAG meanwhile.

        Where SQLite is locked, Airflow 3.3 takes back a backfill that is half made, and a scheduler that works on one
        of its dag runs just then ends.
        """
        self.patch(f"dags/{dag_id}", {"is_paused": True})
        try:
            yield
        finally:
            self.patch(f"dags/{dag_id}", {"is_paused": False})

    def backfill(self, body: dict[str, Any]) -> None:
        with self.paused(body["dag_id"]):
            self.post("backfills", body)

    def _change(self, method: str, path: str, body: dict[str, Any] | None = None, seconds: float = 60) -> Any:
        """Send a change; 503 says that SQLite was locked just then, and nothing was done."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return call(method, f"{self.address}/{self.api}/{path}", self._token, body)
            except HttpError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def is_healthy(self) -> bool:
        try:
            health = self.get("monitor/health")
            self._token = call("GET", f"{self.address}/auth/token", "")["access_token"]
        except (OSError, DemoError, ValueError):
            return False
        parts = ("scheduler", "triggerer", "dag_processor")
        return all(health[part]["status"] == "healthy" for part in parts)

    def has_dags(self, names: set[str]) -> bool:
        errors = self.get("importErrors")["import_errors"]
        if errors:
            raise DemoError("\n".join(error["stack_trace"] for error in errors))
        return {dag["dag_id"] for dag in self.get("dags")["dags"]} >= names

    def dag_runs(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.get("dags/~/dagRuns?limit=100")["dag_runs"]
        return listed

    def task_instances(self) -> list[dict[str, Any]]:
        """All of them: by DAG, day, task and map index."""
        listed = self.get("dags/~/dagRuns/~/taskInstances?limit=100")["task_instances"]
        return sorted(
            listed,
            key=lambda ti: (
                ti["dag_id"],
                ti["logical_date"] or "",
                ti["task_id"],
                ti["map_index"],
            ),
        )

    def returned(self, ti: dict[str, Any]) -> Any:
        """What a task returned, if anything."""
        path = f"dags/{ti['dag_id']}/dagRuns/{ti['dag_run_id']}/taskInstances/{ti['task_id']}"
        try:
            return self.get(f"{path}/xcomEntries/return_value?map_index={ti['map_index']}")["value"]
        except DemoError:
            return None
