"""Creating, updating and deleting jobs, over HTTP."""

from __future__ import annotations

import pytest

from airflow_provider_cml.emulator import Workspace


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "alice" / "risk-analysis"
    folder.mkdir(parents=True)
    (folder / "job.py").write_text("print('ran')")
    (tmp_path / "outside.py").write_text("")
    (folder / "link.py").symlink_to("/etc/hostname")
    return Workspace(tmp_path, stopping=0.05)


@pytest.fixture
def create(client, project):
    def post(**fields):
        document = {"name": "new", "script": "job.py", "runtime_identifier": "r", **fields}
        return client.post(f"/api/v2/projects/{project.id}/jobs", document)

    return post


def test_a_created_job_can_be_run(client, workspace, create, until):
    """Its script is found, and it has a number for v1."""
    created = create(environment={"A": "b"}, timeout=60, arguments="x", cpu=2, memory=4.5).json()
    job = workspace.jobs[created["id"]]
    run_id = client.start(job).json()["id"]
    until(lambda: client.run(job, run_id).json()["status"] == "ENGINE_SUCCEEDED")

    assert (19, '{"A": "b"}', "60", 2, 4.5) == (
        len(created["id"]),
        created["environment"],
        created["timeout"],
        created["cpu"],
        created["memory"],
    )
    assert client.start_v1(f"alice/risk-analysis/jobs/{job.number}").status_code == 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "Problem with field Name"),
        ({"script": None}, "Problem with field Script"),
        ({"runtime_identifier": ""}, "runtime_identifier must be set"),
        ({"script": "x.py"}, "script 'x.py' not found in project directory"),
        ({"script": "../../outside.py"}, "script '../../outside.py' not found in project directory"),
        ({"script": "/etc/hostname"}, "script '/etc/hostname' not found in project directory"),
        ({"script": "link.py"}, "script 'link.py' not found in project directory"),
        ({"script": "."}, "script '.' not found in project directory"),
        ({"environment": '{"A":"b"}'}, "json: cannot unmarshal string into Go value of type map"),
        ({"environment": {"A": 1}}, "json: cannot unmarshal number into Go value of type string"),
        ({"cpu": "2"}, "json: cannot unmarshal string into Go value of type float64"),
        ({"timeout": "soon"}, "json: cannot unmarshal string into Go value of type int32"),
        ({"retry_enabled": 1}, "json: cannot unmarshal number into Go value of type bool"),
        ({"attachments": [1]}, "json: cannot unmarshal number into Go value of type string"),
        ({"parent_id": 1}, "json: cannot unmarshal number into Go value of type string"),
    ],
)
def test_jobs_that_make_no_sense_are_not_created(workspace, create, fields, message):
    """Scripts lie in the project's folder, links followed."""
    response = create(**fields)

    assert (400, 3) == (response.status_code, response.json()["code"])
    assert response.json()["message"].startswith(message)
    assert workspace.jobs == {}


@pytest.mark.parametrize("name", ["parent_id", "parent_job_id"])
def test_a_job_may_depend_on_another(create, job, name):
    """By either name of the field; on one that is there."""
    assert create(**{name: job.id}).json()["type"] == "dependent"
    assert create(**{name: "aaaa-bbbb-cccc-dddd"}).status_code == 404


def test_an_update_changes_what_it_names(client, job):
    """`environment` is a JSON string here; paused and timezone are accepted and ignored (LIVE)."""
    path = f"/api/v2/projects/{job.project_id}/jobs/{job.id}"
    document = {"name": "renamed", "environment": '{"B": "c"}', "timeout": "90", "paused": True, "timezone": "UTC"}
    updated = client.call("PATCH", path, json=document).json()

    assert updated == client.get(path).json()
    assert ("renamed", '{"B": "c"}', "90") == (updated["name"], updated["environment"], updated["timeout"])
    assert (False, "America/Los_Angeles", "python3") == (updated["paused"], updated["timezone"], updated["kernel"])


@pytest.mark.parametrize("environment", [{"B": "c"}, "B=c", '{"B": 1}', "[]"])
def test_an_update_takes_the_environment_as_a_json_string_only(client, job, environment):
    """An object is refused (LIVE), and so is a string that holds none of strings."""
    response = client.call(
        "PATCH", f"/api/v2/projects/{job.project_id}/jobs/{job.id}", json={"environment": environment}
    )

    assert (400, {"LEVEL": "job"}) == (response.status_code, job.environment)


def test_a_deleted_job_is_gone_and_its_runs_stay_in_the_ledger(client, cml, workspace, job):
    """The answer is an empty object."""
    run_id = client.start(job).json()["id"]
    path = f"/api/v2/projects/{job.project_id}/jobs/{job.id}"

    assert client.call("DELETE", path).json() == {}
    assert client.get(path).status_code == 404
    assert [run_id] == [run.id for run in cml.ledger.runs(job.id)]
