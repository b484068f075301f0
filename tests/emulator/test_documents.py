"""The published document of API v2 as judge: of the routes, and of every answer, errors included."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import jsonschema
import pytest

from airflow_provider_cml.emulator import Life
from airflow_provider_cml.emulator.routing import CML_ROUTES
from airflow_provider_cml.emulator.spoiling import Api

PUBLISHED = Path(__file__).parents[1] / "api" / "cml_v2_swagger.json"
V2 = {route.id: route for route in CML_ROUTES if route.api is Api.V2 and route.id != "Swagger"}

# What one needs to ask for each operation: query and body. A route without an entry fails the test.
ASKED = {
    "ListProjects": ({"sort": "-created_at,+name", "page_size": "5", "include_public_projects": "true"}, None),
    "GetProject": ({}, None),
    "ListAllJobs": ({"search_filter": '{"name":"VaR"}'}, None),
    "ListJobs": ({"sort": "name"}, None),
    "CreateJob": ({}, {"name": "new", "script": "job.py", "runtime_identifier": "r", "environment": {"A": "b"}}),
    "GetJob": ({}, None),
    "UpdateJob": ({}, {"name": "renamed", "environment": '{"A": "b"}', "timeout": "60"}),
    "DeleteJob": ({}, None),
    "ListJobRuns": ({"search_filter": '{"status":"running"}', "sort": "-created_at"}, None),
    "CreateJobRun": ({}, {"environment": {"A": "b"}, "arguments": "x"}),
    "GetJobRun": ({}, None),
    "StopJobRun": ({}, None),
    "ListUsage": ({"search_filter": '{"workload_type":"job"}'}, None),
    "ValidateAPIKey": ({}, {"audience": "API"}),
}


@cache
def published():
    return json.loads(PUBLISHED.read_text())


def template(route):
    # The document says {job.id} in the path of UpdateJob.
    return re.sub(r"\{job\.id\}", "{job_id}", route)


def operations():
    for path, methods in published()["paths"].items():
        for method, operation in methods.items():
            yield operation["operationId"], (method.upper(), template(path), operation)


@cache
def judge(name):
    """A validator of one definition: nothing unknown is in it, and only times may be null."""
    definitions = json.loads(json.dumps(published()["definitions"]))
    for definition in definitions.values():
        if "properties" in definition:
            definition["additionalProperties"] = False
        for field in definition.get("properties", {}).values():
            if field.get("format") == "date-time":
                field["type"] = ["string", "null"]
                field["pattern"] = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$"
    return jsonschema.Draft4Validator({"$ref": f"#/definitions/{name}", "definitions": definitions})


@pytest.fixture
def workspace(tmp_path):
    from airflow_provider_cml.emulator import Workspace

    folder = tmp_path / "alice" / "risk-analysis"
    folder.mkdir(parents=True)
    (folder / "job.py").write_text("")
    return Workspace(tmp_path, stopping=60)


@pytest.mark.parametrize("name", sorted(V2))
def test_every_route_is_a_published_one(name):
    """Method and path are the document's; so are the query parameters that are asked for here."""
    method, path, operation = dict(operations())[name]
    known = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"}

    assert (method, path) == (V2[name].method, V2[name].path)
    assert set(ASKED[name][0]) <= known


@pytest.mark.parametrize("name", sorted(V2))
def test_every_answer_is_as_published(name, client, workspace, project, job):
    """A right answer fits the definition of its 200, and an error fits runtimeError."""
    run = workspace.start(job, {"A": "b"})
    workspace.set_status(run, "running")
    target = workspace.add_job(project, "idle", life=Life()) if name == "CreateJobRun" else job
    names = {"project_id": project.id, "job_id": target.id, "run_id": run.id}
    path = V2[name].path.format(**names)
    query, body = ASKED[name]
    responses = dict(operations())[name][2]["responses"]

    right = client.call(V2[name].method, path, params=query, json=body)
    assert right.status_code == 200, right.text
    assert right.headers["Content-Type"].startswith("application/json")
    definition = responses["200"]["schema"]["$ref"].rpartition("/")[2]
    judge(definition).validate(right.json())

    wrong = client.call(V2[name].method, path, params=query, json=body, headers={"Authorization": "Bearer x"})
    assert wrong.status_code == 401
    definition = responses["default"]["schema"]["$ref"].rpartition("/")[2]
    judge(definition).validate(wrong.json())


@pytest.mark.parametrize("name", ["Project", "Job", "JobRun"])
def test_objects_have_every_published_field(name, client, workspace, project, job):
    """Zero values are emitted too, as clients of CML expect."""
    run = workspace.start(job)
    path = {
        "Project": f"/api/v2/projects/{project.id}",
        "Job": f"/api/v2/projects/{project.id}/jobs/{job.id}",
        "JobRun": f"{client.runs(job)}/{run.id}",
    }[name]

    assert set(published()["definitions"][name]["properties"]) == set(client.get(path).json())


@pytest.mark.parametrize("number", range(10))
def test_every_run_status_is_as_published(number, client, workspace, job):
    """The words of EngineStatus, one after the other."""
    word = published()["definitions"]["EngineStatus"]["enum"][number]
    run = workspace.add_run(job, word)
    document = client.run(job, run.id).json()
    judge("JobRun").validate(document)

    assert word == document["status"]


def test_the_head_of_the_document_tells_the_version(client):
    """The same as the document that is the judge here."""
    assert published()["info"]["version"] == client.get("/api/v2/swagger.json").json()["info"]["version"]
