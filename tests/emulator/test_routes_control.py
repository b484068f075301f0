"""The emulator's own paths."""

from __future__ import annotations

import pytest

FAULTS, RUNS, LEDGER = "/emulator/faults", "/emulator/runs", "/emulator/ledger"


def test_faults_are_set_listed_and_removed(client, cml):
    """What was set over HTTP is what is set in process."""
    fault = client.post(FAULTS, {"operation": "GetProject", "kind": "html", "count": 3}).json()
    client.post(FAULTS, {"operation": "*", "kind": "no_echo"})
    assert client.get(FAULTS).json() == {"faults": cml.faults.listing()}

    assert client.call("DELETE", f"{FAULTS}/{fault['id']}").status_code == 200
    assert client.call("DELETE", f"{FAULTS}/{fault['id']}").status_code == 404
    assert ["no_echo"] == [each["kind"] for each in client.get(FAULTS).json()["faults"]]
    client.call("DELETE", FAULTS)
    assert [] == cml.faults.listing()


@pytest.mark.parametrize("document", [{}, {"operation": "*"}, {"operation": "*", "kind": "html", "count": "1"}])
def test_faults_that_make_no_sense_are_refused(client, document):
    """With the name of the field."""
    response = client.post(FAULTS, document)

    assert response.status_code == 400
    assert ":" in response.json()["message"]


def test_the_ledger_can_be_read(client, cml, job):
    """Control paths are not in it."""
    client.start(job)
    client.get(LEDGER)

    assert client.get(LEDGER).json() == cml.ledger.document()
    assert {"CreateJobRun": 1} == cml.ledger.counts()


def test_runs_are_added_and_moved(client, workspace, job):
    """By hand, to any word."""
    run_id = client.post(RUNS, {"job_id": job.id, "environment": {"A": "b"}}).json()["id"]
    assert workspace.runs[run_id].status == "ENGINE_RUNNING"
    client.post(f"{RUNS}/{run_id}/status", {"status": "ENGINE_PONDERING"})
    assert client.run(job, run_id).json()["status"] == "ENGINE_PONDERING"

    assert client.post(RUNS, {"job_id": "x"}).status_code == 404
    assert client.post(f"{RUNS}/x/status", {"status": "failed"}).status_code == 404
    assert client.post(f"{RUNS}/{run_id}/status", {}).status_code == 400


@pytest.mark.parametrize(("method", "path"), [("POST", FAULTS), ("GET", FAULTS), ("GET", LEDGER), ("POST", RUNS)])
def test_control_needs_the_v2_key(client, cml, method, path):
    """The legacy key is not enough."""
    response = client.call(method, path, json={}, headers={"Authorization": f"Bearer {cml.legacy_key}"})

    assert response.status_code == 401


def test_no_fault_befalls_control(client, cml):
    """Else nobody could take it back."""
    cml.fault("*", "drop_before")

    assert client.get(FAULTS).status_code == 200


def test_the_reason_of_an_end_is_set_by_hand(client, workspace, job):
    """What /api/v2/usage tells of a run: a message, and that its memory ran out."""
    run_id = workspace.start(job).id
    told = {"status": "failed", "message": "Engine killed", "oom_killed": True}
    assert client.post(f"{RUNS}/{run_id}/status", told).status_code == 200
    (row,) = client.get("/api/v2/usage").json()["usage_response"]

    assert (row["id"], row["message"], row["oom_killed"]) == (run_id, "Engine killed", True)
    assert client.post(f"{RUNS}/{run_id}/status", {"status": "failed", "oom_killed": "yes"}).status_code == 400
