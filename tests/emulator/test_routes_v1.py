"""The legacy Jobs API, over HTTP."""

from __future__ import annotations

import re

import pytest

from airflow_provider_cml.emulator import Status


def test_a_start_answers_as_documented(client, job):
    """200, an engine id of 16 characters, chunked, with charset."""
    response = client.start_v1()

    assert response.status_code == 200
    assert re.fullmatch(r"[0-9a-z]{16}", response.json()["engine_id"])
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.headers["Transfer-Encoding"] == "chunked"


def test_a_run_started_by_v1_is_a_run_in_v2(client, job):
    """With its environment, under an id of its own unless the workspace says otherwise."""
    engine_id = client.start_v1(json={"environment": {"DAY": "1"}}).json()["engine_id"]
    (listed,) = client.get(client.runs(job)).json()["job_runs"]

    assert '"DAY": "1"' in listed["environment"]
    assert engine_id != listed["id"]


def test_engine_ids_may_be_run_ids(client, workspace, job):
    """What CML probably does, on request."""
    workspace.engine.engine_ids_are_run_ids = True
    engine_id = client.start_v1().json()["engine_id"]

    assert client.run(job, engine_id).json()["id"] == engine_id


@pytest.mark.parametrize("body", [b"", b"{}", b'{"environment":null}', b'{"arguments":1,"x":[]}'])
def test_the_body_is_optional_and_unknown_fields_are_passed_over(client, workspace, job, body):
    """But the content type is not."""
    response = client.start_v1(json=None, data=body, headers={"Content-Type": "application/json"})

    assert response.status_code == 200
    assert workspace.runs_of(job)[0].environment == {}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"json": None}, 400),
        ({"json": None, "data": b"{}", "headers": {"Content-Type": "text/plain"}}, 400),
        ({"json": None, "data": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"json": {"environment": {"A": 1}}}, 400),
        ({"json": {"environment": "A=1"}}, 400),
        ({"json": {"environment": {"A=B": "1"}}}, 400),
        ({"path": "alice/risk-analysis/jobs/209"}, 404),
        ({"path": "alice/Risk%20Analysis/jobs/208"}, 404),
        ({"path": "bob/risk-analysis/jobs/208"}, 404),
        ({"path": "alice/risk-analysis/jobs/x"}, 404),
        ({"auth": ("wrong", "")}, 401),
        ({"auth": ("alice", "")}, 401),
    ],
)
def test_refusals_have_a_message(client, workspace, job, arguments, status):
    """And start nothing."""
    response = client.start_v1(**arguments)

    assert (status, ["message"]) == (response.status_code, list(response.json()))
    assert workspace.runs_of(job) == []


def test_the_public_id_of_a_job_is_not_its_number(client, job):
    """v1 knows numbers only."""
    assert client.start_v1(f"alice/risk-analysis/jobs/{job.id}").status_code == 404


def test_a_user_name_with_its_password_is_taken_too(client, workspace, job):
    """If the workspace declares one."""
    workspace.add_user("carol", password="secret")

    assert client.start_v1(auth=("carol", "secret")).status_code == 200
    assert client.start_v1(auth=("carol", "wrong")).status_code == 401


def test_keys_open_their_own_api_only(client, cml, job):
    """A v2 key is no legacy key, and the reverse."""
    bearer = {"Authorization": f"Bearer {cml.legacy_key}"}

    assert client.start_v1(auth=(cml.api_key, "")).status_code == 401
    assert client.start_v1(auth=(cml.legacy_key, "x")).status_code == 401
    assert client.call("GET", "/api/v2/projects", headers=bearer).status_code == 401


@pytest.mark.parametrize(("face", "status"), [(400, 400), (409, 409), (200, 200)])
def test_a_busy_job_is_refused_as_on_v2(client, workspace, job, face, status):
    """What live v1 does is not known."""
    workspace.busy = face
    client.start_v1()

    assert status == client.start_v1().status_code
    assert workspace.runs_of(job)[-1].status == Status.SKIPPED


def test_the_listing_joins_numbers_and_public_ids(client, cml, workspace, project, job):
    """As Cloudera's own code reads it: an array, status in short lower case."""
    child = workspace.add_job(project, "child", number=300, parent=job)
    workspace.set_status(workspace.start(job), "running")
    response = client.call("GET", "/api/v1/projects/alice/risk-analysis/jobs", auth=(cml.legacy_key, ""))
    first, second = response.json()

    assert (208, job.id, "nightly VaR") == (first["id"], first["public_identifier"], first["name"])
    assert f"{cml.url}/alice/risk-analysis/jobs/208" == first["html_url"]
    assert "running" == first["latest"]["status"]
    assert (child.id, 208, None) == (second["public_identifier"], second["parent"]["id"], second["latest"])
