"""API v2, over HTTP: what the published document does not say."""

from __future__ import annotations

import json

import pytest

from airflow_provider_cml.emulator import Life, Status

GONE = "aaaa-bbbb-cccc-dddd"


def outcome(response):
    return response.status_code, response.json()["code"]


def test_a_start_answers_with_the_run_being_scheduled(client, job):
    """The answer holds the run, with times not reached being null."""
    run = client.start(job, {"environment": {"DAY": "1"}, "arguments": "--fast"}).json()

    assert ("ENGINE_SCHEDULING", "--fast", 16) == (run["status"], run["arguments"], len(run["id"]))
    assert [run["starting_at"], run["running_at"], run["finished_at"]] == [None] * 3
    assert run["created_at"].endswith("Z")


@pytest.mark.parametrize("how", ["create", "get", "list"])
def test_the_echo_is_a_string_that_merges_all_three_environments(client, job, how):
    """LIVE: passwords included."""
    created = client.start(job, {"environment": {"DAY": "1"}}).json()
    seen = {
        "create": lambda: created,
        "get": lambda: client.run(job, created["id"]).json(),
        "list": lambda: client.get(client.runs(job)).json()["job_runs"][0],
    }[how]()

    assert json.loads(seen["environment"]) == {"DB_PASSWORD": "hunter2", "LEVEL": "job", "DAY": "1"}


@pytest.mark.parametrize("data", [b"", b"{}", b'{"environment":null,"runtime_identifier":"x","override_config":{}}'])
def test_a_start_needs_no_body_and_ignores_what_it_does_not_know(client, job, data):
    """Old clients send none, and newer ones fields that do not exist."""
    assert client.call("POST", client.runs(job), data=data).status_code == 200


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "invalid JSON"),
        (b"[]", "json: cannot unmarshal array into Go value of type object"),
        (b'{"environment":{"A":1}}', "json: cannot unmarshal number into Go value of type string"),
        (b'{"environment":{"A":null}}', "json: cannot unmarshal null into Go value of type string"),
        (b'{"environment":{"A":true}}', "json: cannot unmarshal bool into Go value of type string"),
        (b'{"environment":"{}"}', "json: cannot unmarshal string into Go value of type map"),
        (b'{"arguments":["a"]}', "json: cannot unmarshal array into Go value of type string"),
        (b'{"arguments":{}}', "json: cannot unmarshal object into Go value of type string"),
    ],
)
def test_values_of_the_wrong_type_are_refused(client, workspace, job, data, message):
    """400, code 3, in the words of Go; nothing is started."""
    response = client.call("POST", client.runs(job), data=data)

    assert outcome(response) == (400, 3)
    assert response.json()["message"].startswith(message)
    assert response.json()["error"] == response.json()["message"]
    assert workspace.runs_of(job) == []


def test_the_number_of_a_job_is_no_id(client, project):
    """LIVE: the very words."""
    response = client.get(f"/api/v2/projects/{project.id}/jobs/208")

    assert outcome(response) == (400, 3)
    assert response.json()["message"] == "Problem with field JobId: value length must be 19 runes"


def test_what_is_not_there_is_not_found(client, project, job):
    """404, code 5, wherever in the path it is; also a job of another project."""
    paths = [
        f"/api/v2/projects/{GONE}",
        f"/api/v2/projects/{GONE}/jobs/{job.id}",
        f"/api/v2/projects/{project.id}/jobs/{GONE}",
        f"{client.runs(job)}/aaaaaaaaaaaaaaaa",
    ]

    assert [outcome(client.get(path)) for path in paths] == [(404, 5)] * 4


def test_projects_of_others_are_forbidden_or_read_only(client, workspace):
    """Private: 403. Public: can be looked at, its environment not, and nothing be started."""
    closed = workspace.add_project("bob", "Closed", member=False)
    opened = workspace.add_project("bob", "Open", member=False, visibility="public", environment={"A": "b"})
    job = workspace.add_job(opened, "job")

    assert outcome(client.get(f"/api/v2/projects/{closed.id}")) == (403, 7)
    assert client.get(f"/api/v2/projects/{opened.id}").json()["environment"] == ""
    assert outcome(client.start(job)) == (403, 7)


@pytest.mark.parametrize("path", ["/api/v2/nothing", "/api/v3/projects", "/", "/login"])
def test_unknown_paths_are_plain_text(client, path):
    """As grpc-gateway answers where it has no handler."""
    response = client.get(path)

    assert (404, "Not Found") == (response.status_code, response.text)


def test_stop_is_a_suffix_and_no_segment(client, workspace, job):
    """`/stop` was a bug of Cloudera's own client; a colon may be percent-encoded."""
    run_id = client.start(job).json()["id"]
    run = f"{client.runs(job)}/{run_id}"

    assert client.post(f"{run}/stop").status_code == 404
    assert client.get(f"{run}:stop").status_code == 405
    assert client.post(f"{run}%3Astop").json()["status"] == "ENGINE_STOPPING"


def test_a_stop_is_asynchronous_and_no_use_for_a_run_that_is_over(client, job, until):
    """STOPPING, STOPPED, and then an error."""
    run_id = client.start(job).json()["id"]
    assert client.post(f"{client.runs(job)}/{run_id}:stop").json()["status"] == "ENGINE_STOPPING"
    until(lambda: client.run(job, run_id).json()["status"] == "ENGINE_STOPPED")

    assert outcome(client.post(f"{client.runs(job)}/{run_id}:stop")) == (400, 9)


def test_a_second_start_is_refused_and_leaves_a_skipped_entry(client, workspace, job):
    """The first face of a busy job: 400 and code 9 (LIVE)."""
    client.start(job)
    response = client.start(job, {"environment": {"DAY": "2"}})

    assert outcome(response) == (400, 9)
    assert response.json()["message"] == f"job run for job {job.id} already active"
    skipped = workspace.runs_of(job)[1]
    assert (Status.SKIPPED, False, {"DAY": "2"}) == (skipped.status, skipped.executed, skipped.environment)


def test_a_second_start_may_be_answered_with_a_skipped_run(client, workspace, job):
    """The second face of a busy job: 200 and ENGINE_SKIPPED (LIVE)."""
    workspace.busy = 200
    client.start(job)
    response = client.start(job)

    assert (200, "ENGINE_SKIPPED") == (response.status_code, response.json()["status"])
    assert client.run(job, response.json()["id"]).json()["status"] == "ENGINE_SKIPPED"


def test_keys_are_validated_for_an_audience(client):
    """LIVE: right for API, a mismatch for Application."""
    right = client.post("/api/v2/auth/validate_key", {"audience": "API"})
    wrong = client.post("/api/v2/auth/validate_key", {"audience": "Application"})

    assert right.json() == {
        "valid": True,
        "username": "airflow",
        "message": "API key is valid for the given audience",
    }
    assert outcome(wrong) == (403, 7)
    assert wrong.json()["message"] == "audience mismatch"
    assert outcome(client.post("/api/v2/auth/validate_key", {})) == (400, 3)


def test_usage_tells_why(client, workspace, project):
    """Nowhere else is a reason found."""
    life = Life(ending="failed", message="OOMKilled", oom_killed=True)
    run = workspace.start(workspace.add_job(project, "big", number=7, life=life))
    document = client.get("/api/v2/usage", search_filter='{"status":"failed"}').json()
    (row,) = document["usage_response"]

    assert (run.id, "OOMKilled", True, "failed") == (row["id"], row["message"], row["oom_killed"], row["status"])
    assert row["workload_url"].endswith("/alice/risk-analysis/jobs/7")
    assert document["total_count"] == "1"


def test_usage_of_a_time(client, workspace, project):
    """A range of creation times, as the published document writes them; its pages stay within."""
    job = workspace.add_job(project, "big", number=7)
    for second in range(3):
        workspace.add_run(job, "failed", created_at=1_790_000_000.0 + second)

    def listed(low, high, **query):
        bounds = {"created_time": {"min": f"2026-09-21 14:13:{low}", "max": f"2026-09-21 14:13:{high}"}}
        return client.get("/api/v2/usage", time_range_search_filter=json.dumps(bounds), **query).json()

    assert [listed(20, 22)["total_count"], listed(21, 21)["total_count"], listed(23, 30)["total_count"]] == [
        "3",
        "1",
        "0",
    ]
    first = listed(20, 22, page_size=2)
    assert len(listed(20, 22, page_size=2, page_token=first["next_page_token"])["usage_response"]) == 1
    assert listed(20, 21, page_size=2, page_token=first["next_page_token"])["code"] == 3


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"created_time": 1}', '{"created_time": {"min": "now"}}', '{"other": {}}']
)
def test_usage_of_no_time(client, text):
    """What is no range is refused."""
    assert outcome(client.get("/api/v2/usage", time_range_search_filter=text)) == (400, 3)
