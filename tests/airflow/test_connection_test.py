"""Airflow's other ways to test a connection: REST, a worker (3.3), the command line; the browser has its own test."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.airflow.leaks import files_with

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator
    from tests.airflow.deployment import Deployment
    from tests.airflow.leaks import Secrets

pytestmark = pytest.mark.airflow

WRONG = "a-key-that-is-tried-nowhere-else"


def fields(cml: Emulator, key: str, **extra: str) -> dict[str, Any]:
    """Of a connection that Airflow does not have yet."""
    given = {"connection_id": "tried", "conn_type": "cml", "host": cml.url, "password": key}
    return {**given, "extra": json.dumps(extra)} if extra else given


def by_rest(airflow: Deployment, body: dict[str, Any]) -> tuple[bool, str]:
    """What the button asks: the test runs in the API server."""
    said = airflow.post("connections/test", body)
    return said["status"], said["message"]


def by_worker(airflow: Deployment, body: dict[str, Any]) -> tuple[bool, str]:
    """The test of Airflow 3.3 that runs where tasks run."""
    token = airflow.post("connections/enqueue-test", body)["token"]
    said: dict[str, Any] = {}

    def is_over() -> bool:
        headers = {"Authorization": f"Bearer {airflow._token}", "Airflow-Connection-Test-Token": token}
        request = urllib.request.Request(f"{airflow.address}/api/v2/connections/enqueue-test", headers=headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            said.update(json.loads(answer.read()))
        return said["state"] in {"success", "failed"}

    airflow.wait("a worker's verdict on the connection", is_over)
    return said["state"] == "success", said["result_message"]


@pytest.mark.parametrize("way", [by_rest, by_worker], ids=["rest", "worker"])
def test_verdict(airflow: Deployment, cml: Emulator, secrets: Secrets, way: Any) -> None:
    """Good and bad, v2 and v1: the same words everywhere; nothing is started, and no key is kept in clear."""
    before = len(cml.ledger.runs())
    user = cml.workspace.user.username
    v1 = {"api_version": "v1"}

    assert way(airflow, fields(cml, secrets.api_key)) == (True, f"Connected to API v2 as {user}.")
    good, said = way(airflow, fields(cml, secrets.legacy_key, **v1))
    assert (good, said[:16]) == (True, "API v1 answers, ")
    good, said = way(airflow, fields(cml, WRONG))
    assert (good, said[:26]) == (False, "CML does not take the key.")
    good, said = way(airflow, {**fields(cml, WRONG), "host": "https://workspace.invalid"})
    assert (good, "is not a known host" in said) == (False, True)
    assert len(cml.ledger.runs()) == before
    for key in (secrets.api_key, secrets.legacy_key, WRONG):
        assert files_with(key.encode(), airflow.home.parent) == []


def test_command_line(airflow: Deployment, cml: Emulator) -> None:
    """`airflow connections test` of the README says whether it is good, and its exit status, too."""
    command = [sys.executable, "-m", "airflow", "connections", "test", "cml_default"]
    done = subprocess.run(command, env=airflow.environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "Connection success!" in done.stdout
    assert cml.api_key not in done.stdout + done.stderr
