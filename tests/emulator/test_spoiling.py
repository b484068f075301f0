"""What clients see of each kind of fault, and what took effect."""

from __future__ import annotations

import email.utils
import json
import time

import pytest
import requests

from airflow_provider_cml.emulator import Kind, Life
from airflow_provider_cml.emulator.faults import BEHAVIOURS


def started(workspace, job):
    return len([run for run in workspace.runs_of(job) if run.status != "ENGINE_SKIPPED"])


@pytest.mark.parametrize(("kind", "effects"), [("drop_before", 0), ("drop_after", 1)])
def test_a_dropped_answer_closes_the_connection(client, cml, workspace, job, kind, effects):
    """Before or after it took effect; the ledger knows of no answer."""
    cml.fault("CreateJobRun", kind, count=1)
    with pytest.raises(requests.ConnectionError):
        client.start(job)

    assert started(workspace, job) == effects
    (record,) = cml.ledger.requests("CreateJobRun")
    assert (None, kind) == (record.status, record.fault)
    assert client.start(job).status_code == (400 if effects else 200)


@pytest.mark.parametrize("status", [None, 504])
def test_a_late_effect_comes_after_the_answer_was_lost(client, cml, workspace, job, until, status):
    """Or after an error was answered."""
    cml.fault("CreateJobRun", "late_effect", count=1, seconds=0.3, **({"status": status} if status else {}))
    if status:
        assert client.start(job).status_code == status
    else:
        with pytest.raises(requests.ConnectionError):
            client.start(job)

    assert started(workspace, job) == 0
    until(lambda: started(workspace, job) == 1)
    assert workspace.runs_of(job)[0].created_at - cml.ledger.requests()[0].time == pytest.approx(0.3, abs=0.1)


def test_a_late_stop_is_late(client, cml, workspace, job, until):
    """Any operation may take effect late."""
    run = workspace.start(job)
    cml.fault("StopJobRun", "late_effect", seconds=0.1)
    with pytest.raises(requests.ConnectionError):
        client.post(f"{client.runs(job)}/{run.id}:stop")
    assert run.stop_requests == []

    until(lambda: run.is_over)


def test_a_delayed_answer_is_the_right_one(client, cml, workspace, job):
    """It took effect at once."""
    cml.fault("CreateJobRun", "delay_answer", seconds=0.5)
    with pytest.raises(requests.ReadTimeout):
        client.call("POST", client.runs(job), json={}, timeout=0.1)
    assert started(workspace, job) == 1
    assert [200] == [record.status for record in cml.ledger.requests()]

    cml.faults.clear()
    cml.fault("GetProject", "delay_answer", seconds=0.2)
    began = time.monotonic()
    assert client.get(f"/api/v2/projects/{job.project_id}").json()["name"] == "Risk Analysis"
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(("given", "seen"), [(None, None), (7, "7"), ("0", "0"), ("soon", "soon")])
def test_too_many_requests_say_when_to_come_back(client, cml, workspace, job, given, seen):
    """In seconds, with junk, or not at all."""
    cml.fault("CreateJobRun", "too_many_requests", retry_after=given)
    response = client.start(job)

    assert (429, 8, seen) == (response.status_code, response.json()["code"], response.headers.get("Retry-After"))
    assert started(workspace, job) == 0


def test_too_many_requests_may_give_a_date(client, cml, job):
    """So many seconds ahead of now."""
    cml.fault("CreateJobRun", "too_many_requests", retry_after="date+60")
    date = email.utils.parsedate_to_datetime(client.start(job).headers["Retry-After"])

    assert 55 < date.timestamp() - time.time() <= 61


@pytest.mark.parametrize(
    ("kind", "settings", "status", "code", "effects"),
    [
        ("error_before", {}, 503, 14, 0),
        ("error_before", {"status": 500}, 500, 13, 0),
        ("error_after", {"status": 502}, 502, 14, 1),
        ("refused", {}, 401, 16, 0),
        ("refused", {"status": 403}, 403, 7, 0),
        ("out_of_quota", {}, 409, 10, 0),
    ],
)
def test_errors_look_like_the_api_s_own(client, cml, workspace, job, kind, settings, status, code, effects):
    """On v2 with a code, on v1 with a message; before or after it took effect."""
    cml.fault("*", kind, **settings)
    response = client.start(job)

    assert (status, code) == (response.status_code, response.json()["code"])
    assert started(workspace, job) == effects
    legacy = client.start_v1()
    assert (status, ["message"]) == (legacy.status_code, list(legacy.json()))


@pytest.mark.parametrize("status", [None, 200, 302, 502])
def test_pages_come_instead_of_json(client, cml, workspace, job, status):
    """With a redirect to a login page, if told so."""
    cml.fault("CreateJobRun", "html", **({"status": status} if status else {}))
    response = client.start(job)

    assert (status or 200, "text/html; charset=utf-8") == (response.status_code, response.headers["Content-Type"])
    assert response.text.startswith("<!DOCTYPE html>")
    assert (status == 302) == ("Location" in response.headers)
    assert started(workspace, job) == 0


def test_broken_json_ends_in_the_middle(client, cml, workspace, job):
    """And the effect is there."""
    cml.fault("CreateJobRun", "broken_json")
    response = client.start(job)

    assert (200, "application/json") == (response.status_code, response.headers["Content-Type"].partition(";")[0])
    with pytest.raises(ValueError, match=r"."):
        response.json()
    assert started(workspace, job) == 1


def test_a_wrong_content_type_hides_a_right_answer(client, cml, job):
    """The body is as it would be."""
    cml.fault("CreateJobRun", "wrong_content_type")
    response = client.start(job)

    assert ("text/plain; charset=utf-8", "ENGINE_SCHEDULING") == (
        response.headers["Content-Type"],
        response.json()["status"],
    )


@pytest.mark.parametrize(("status", "code"), [(400, 9), (409, 9), (412, 9), (200, None)])
@pytest.mark.parametrize("forced", [True, False])
def test_a_busy_job_has_four_faces(client, cml, job, status, code, forced):
    """Also when it is not busy, if forced."""
    cml.fault("CreateJobRun", "busy", status=status, forced=forced)
    if not forced:
        assert client.start(job).status_code == 200
    response = client.start(job)

    assert (status, code) == (response.status_code, response.json().get("code"))
    assert client.get(client.runs(job), sort="-created_at").json()["job_runs"][0]["status"] == "ENGINE_SKIPPED"


def test_slow_stopping_takes_its_seconds(client, cml, workspace, job, until):
    """From STOPPING to STOPPED."""
    cml.fault("StopJobRun", "slow_stopping", seconds=0.4)
    run = workspace.start(job)
    client.post(f"{client.runs(job)}/{run.id}:stop")
    until(lambda: run.is_over)

    assert run.finished_at - run.stop_requests[0] == pytest.approx(0.4, abs=0.01)


def test_the_echo_may_be_missing_in_lists_or_everywhere(client, cml, job):
    """By the operation."""

    def echoes(*operations):
        cml.faults.clear()
        for operation in operations:
            cml.fault(operation, "no_echo")
        listed = client.get(client.runs(job)).json()["job_runs"][0]
        return [bool(listed["environment"]), bool(client.run(job, listed["id"]).json()["environment"])]

    assert client.start(job).json()["environment"]
    assert [[True, True], [False, True], [False, False]] == [echoes(), echoes("ListJobRuns"), echoes("*")]


def test_environments_may_be_objects_in_lists(client, cml, job):
    """What nobody has seen, and a reader should stand."""
    cml.fault("ListJobRuns", "environment_object")
    run = client.start(job).json()
    (listed,) = client.get(client.runs(job)).json()["job_runs"]

    assert json.loads(run["environment"]) == listed["environment"]


def test_a_lagging_list_misses_young_runs(client, cml, workspace, job, until):
    """GetJobRun does not."""
    cml.fault("ListJobRuns", "list_lag", seconds=0.3)
    run_id = client.start(job).json()["id"]

    assert [] == client.get(client.runs(job)).json()["job_runs"]
    assert client.run(job, run_id).status_code == 200
    until(lambda: client.get(client.runs(job)).json()["job_runs"])


def test_arguments_may_be_ignored(client, cml, workspace, project):
    """As on two workspaces; the job's own are used."""
    cml.fault("CreateJobRun", "arguments_ignored")
    job = workspace.add_job(project, "job", arguments="--job", life=Life())

    assert client.start(job, {"arguments": "--run"}).json()["arguments"] == "--job"


@pytest.mark.parametrize("kind", sorted(set(Kind) - BEHAVIOURS))
def test_nothing_is_served_to_strangers_whatever_the_fault(client, cml, workspace, job, kind):
    """Without the key nothing takes effect and no document is seen."""
    cml.fault("*", kind, seconds=0.01)
    try:
        response = client.call("POST", client.runs(job), json={}, headers={"Authorization": "Bearer x"})
    except requests.ConnectionError:
        pass
    else:
        assert "project_id" not in response.text
    time.sleep(0.05)

    assert started(workspace, job) == 0
