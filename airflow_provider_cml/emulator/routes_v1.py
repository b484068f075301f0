"""The legacy Jobs API: start, and the listing that Cloudera's own code reads.

Law: DOC(Legacy Jobs API) for start; errors are `{"message": ...}`; v1 can do nothing else with a job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.emulator.calls import (
    INVALID_ARGUMENT,
    NOT_FOUND,
    Answer,
    Call,
    Json,
    RefusalError,
)
from airflow_provider_cml.emulator.documents import plain_status
from airflow_provider_cml.emulator.starting import environment_in, start

if TYPE_CHECKING:
    from airflow_provider_cml.emulator.objects import Job, Project


def _project(call: Call) -> Project:
    owner, slug = call.path["owner"], call.path["slug"]
    project = call.workspace.find_project(owner, slug)
    if project is None:
        raise RefusalError(NOT_FOUND, f"Project {owner}/{slug} does not exist")
    if not project.member and project.visibility == "private":
        raise RefusalError(NOT_FOUND, f"Project {owner}/{slug} does not exist")
    return project


def _answer(document: object) -> Answer:
    # DOC: the sample answer names the charset, is chunked, and allows any origin. The last is not repeated
    # here: no page in a browser has business with this server.
    return Answer(document, content_type="application/json; charset=utf-8")


def start_job(call: Call) -> Answer:
    """POST /api/v1/projects/{owner}/{slug}/jobs/{number}/start."""
    # DOC: required even with an empty body. What CML answers without it is not known.
    if call.content_type.partition(";")[0].strip().lower() != "application/json":
        raise RefusalError(INVALID_ARGUMENT, "Content-Type must be application/json")
    project = _project(call)
    number = call.path["number"]
    job = call.workspace.find_job(project, int(number)) if number.isascii() and number.isdigit() else None
    if job is None:
        raise RefusalError(NOT_FOUND, f"Job {number} does not exist")
    # Only `environment` is documented; there are no arguments on v1.
    environment = environment_in(call.document())
    # What v1 answers when the job is busy is not known: it refuses as v2 does.
    run = start(call, job, environment, None, api="v1")
    return _answer({"engine_id": run.engine_id})


def list_projects(call: Call) -> Answer:
    """GET /api/v1/projects: not documented; that it asks for a key is LIVE, what it shows is INFER."""
    mine = (project for project in call.workspace.projects.values() if project.member)
    return _answer([{"name": project.name, "slug_raw": project.slug} for project in mine])


def list_jobs(call: Call) -> Answer:
    """GET /api/v1/projects/{owner}/{slug}/jobs: not documented, seen in Cloudera's own code."""
    project = _project(call)
    return _answer([_job(call, project, job) for job in call.workspace.jobs_of(project)])


def _job(call: Call, project: Project, job: Job) -> Json:
    runs = call.workspace.runs_of(job)
    latest = runs[-1] if runs else None
    parent = call.workspace.jobs.get(job.parent_id)
    return {
        "id": job.number,
        "public_identifier": job.id,
        "name": job.name,
        "script": job.script,
        "html_url": f"{call.address}/{project.owner.username}/{project.slug}/jobs/{job.number}",
        "parent": {"id": parent.number} if parent else None,
        "latest": {"id": latest.engine_id, "status": plain_status(latest)} if latest else None,
    }
