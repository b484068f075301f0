"""What CML, Databricks and dbt Cloud answer to "how is this run?", in the shapes of their APIs.

A run carries its own fate: its number is the moment of its end in milliseconds since 1970, and a serial number behind
it. So whoever answers remembers nothing, and every client is told the same truth at the same cost.
"""

from __future__ import annotations

import json
from functools import cache
from http import HTTPStatus

SERIALS = 100_000
NEVER = 4_000_000_000
PROJECT_ID, JOB_ID = "aaaa-bbbb-cccc-dddd", "eeee-ffff-gggg-hhhh"
ACCOUNT_ID = 7

CML_PATH = f"/api/v2/projects/{PROJECT_ID}/jobs/{JOB_ID}/runs"
DATABRICKS_PATH = "/api/2.2/jobs/runs/get"
DBT_PATH = f"/api/v2/accounts/{ACCOUNT_ID}/runs/"

_ENVIRONMENT = {f"SETTING_{number}": f"value of setting {number}" for number in range(12)}


def run_number(end: float, serial: int) -> int:
    """The number of a run that ends at `end`, seconds since 1970."""
    return int(end * 1000) * SERIALS + serial


def end_of(number: int) -> float:
    """When a run ends, seconds since 1970."""
    return number // SERIALS / 1000


def answer(method: str, target: str, body: bytes, moment: float) -> bytes:
    """The whole HTTP answer to a request at `moment`, seconds since 1970."""
    path = target.partition("?")[0]
    if path.startswith(CML_PATH):
        rest = path[len(CML_PATH) + 1 :]
        if rest:
            return _http(_cml_run(rest, is_over=end_of(int(rest)) <= moment))
        return _http(_cml_run("1", is_over=False) if method == "POST" else b'{"job_runs": []}')
    if path == DATABRICKS_PATH:
        number = str(json.loads(body)["run_id"])  # the asynchronous hook sends a GET with a body
        return _http(_databricks_run(number, is_over=end_of(int(number)) <= moment))
    if path.startswith(DBT_PATH):
        number = path[len(DBT_PATH) :].strip("/")
        return _http(_dbt_run(number, is_over=end_of(int(number)) <= moment))
    return _http(_cml_project() if path.startswith("/api/v2/projects/") else b"{}")


def _http(body: bytes, status: HTTPStatus = HTTPStatus.OK) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\nServer: bench\r\n"
        f"Strict-Transport-Security: max-age=31536000; includeSubDomains\r\nX-Content-Type-Options: nosniff\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body


def _cml_run(number: str, *, is_over: bool) -> bytes:
    return _cml_runs()[is_over].replace(b"NUMBER", number.encode())


@cache
def _cml_runs() -> tuple[bytes, bytes]:
    fields = {
        "id": "NUMBER",
        "job_id": JOB_ID,
        "project_id": PROJECT_ID,
        "creator": {"username": "alice", "name": "Alice", "email": "alice@example.com"},
        "kernel": "python3",
        "cpu": 1.0,
        "memory": 2.0,
        "nvidia_gpu": 0,
        "script": "score.py",
        "arguments": "--portfolio 12",
        "runtime_identifier": "docker.example.com/ml-runtime-workbench-python3.11-standard:2026.06.1-b8",
        "environment": json.dumps(_ENVIRONMENT),
        "created_at": "2026-11-21T06:00:00.123456Z",
        "scheduling_at": "2026-11-21T06:00:01.123456Z",
        "starting_at": "2026-11-21T06:00:02.123456Z",
        "running_at": "2026-11-21T06:00:09.123456Z",
    }
    running = {**fields, "status": "ENGINE_RUNNING"}
    over = {**fields, "status": "ENGINE_SUCCEEDED", "finished_at": "2026-11-21T06:01:00.123456Z"}
    return json.dumps(running).encode(), json.dumps(over).encode()


@cache
def _cml_project() -> bytes:
    owner = {"username": "alice", "name": "Alice"}
    return json.dumps({"id": PROJECT_ID, "name": "Risk", "slug": "risk", "owner": owner}).encode()


def _databricks_run(number: str, *, is_over: bool) -> bytes:
    return _databricks_runs()[is_over].replace(b'"NUMBER"', number.encode())


@cache
def _databricks_runs() -> tuple[bytes, bytes]:
    fields = {
        "job_id": 11223344,
        "run_id": "NUMBER",
        "creator_user_name": "alice@example.com",
        "number_in_job": 455644833,
        "original_attempt_run_id": 455644833,
        "job_parameters": [{"name": name, "value": value} for name, value in _ENVIRONMENT.items()],
        "start_time": 1795240800123,
        "setup_duration": 0,
        "execution_duration": 0,
        "cleanup_duration": 0,
        "trigger": "ONE_TIME",
        "run_name": "score",
        "run_page_url": "https://example.cloud.databricks.com/?o=3901135158661429#job/11223344/run/455644833",
        "run_type": "JOB_RUN",
        "tasks": [],
        "format": "MULTI_TASK",
    }
    running = {"life_cycle_state": "RUNNING", "state_message": "In run", "user_cancelled_or_timedout": False}
    over = {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS", "state_message": ""}
    return json.dumps({**fields, "state": running}).encode(), json.dumps({**fields, "state": over}).encode()


def _dbt_run(number: str, *, is_over: bool) -> bytes:
    return _dbt_runs()[is_over].replace(b'"NUMBER"', number.encode())


@cache
def _dbt_runs() -> tuple[bytes, bytes]:
    fields = {
        "id": "NUMBER",
        "trigger_id": 1,
        "account_id": ACCOUNT_ID,
        "environment_id": 1,
        "project_id": 12,
        "job_definition_id": 31,
        "dbt_version": "1.9.0-latest",
        "git_branch": "main",
        "git_sha": "f7c9e4a1b0d2e3f4a5b6c7d8e9f0a1b2c3d4e5f6",
        "status_message": None,
        "created_at": "2026-11-21 06:00:00.123456+00:00",
        "updated_at": "2026-11-21 06:00:09.123456+00:00",
        "dequeued_at": "2026-11-21 06:00:01.123456+00:00",
        "started_at": "2026-11-21 06:00:02.123456+00:00",
        "href": "https://cloud.getdbt.com/deploy/7/projects/12/runs/455644833/",
        "duration": "00:00:09",
        "is_cancelled": False,
        "job": {"id": 31, "settings": _ENVIRONMENT},
        "trigger": {"id": 1, "cause": "Triggered via Apache Airflow"},
    }
    status = {"code": 200, "is_success": True, "user_message": "Success!", "developer_message": ""}
    running = {"status": {**status}, "data": {**fields, "status": 3, "is_complete": False}}
    over = {"status": {**status}, "data": {**fields, "status": 10, "is_complete": True}}
    return json.dumps(running).encode(), json.dumps(over).encode()
