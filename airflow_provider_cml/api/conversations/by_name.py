"""What DAG authors ask of a workspace, about projects, jobs and runs that they give by id or by name.

Names are looked up first, then the operation is called. Ids cost no request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cml.api import v1, v2
from airflow_provider_cml.api.conversations import finding, waiting
from airflow_provider_cml.api.conversations.finding import find_job_ids, find_project, is_id
from airflow_provider_cml.api.environment import as_text
from airflow_provider_cml.api.job_fields import to_create, to_update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.job_fields import JobFields
    from airflow_provider_cml.api.models import Job, JobRun, Project
    from airflow_provider_cml.api.wire import Exchange

# ---------------------------------------------------------------- projects


def list_projects() -> Exchange[list[Project]]:
    """All projects the key's user can see, public ones of others included."""
    return (
        yield from finding.all_pages(
            lambda token, size: v2.list_projects(include_public_projects=True, page_size=size, page_token=token)
        )
    )


def get_project(project_id: str) -> Exchange[Project]:
    """One project, by id."""
    return (yield from v2.get_project(project_id))


# ---------------------------------------------------------------- jobs


def list_jobs(project: str) -> Exchange[list[Job]]:
    """All jobs of a project."""
    project_id = yield from _project_id(project)
    return (
        yield from finding.all_pages(lambda token, size: v2.list_jobs(project_id, page_size=size, page_token=token))
    )


def get_job(project: str, job: str) -> Exchange[Job]:
    """One job, by id or exact name."""
    ids = yield from find_job_ids(project, job)
    return (yield from v2.get_job(ids.project_id, ids.job_id))


def find_job(project: str, job: str) -> Exchange[Job]:
    """The one job with this exact name in the project."""
    return (yield from finding.find_job((yield from _project_id(project)), job, project))


def create_job(project: str, fields: JobFields) -> Exchange[Job]:
    """Make a job."""
    body = to_create(fields)
    return (yield from v2.create_job((yield from _project_id(project)), body))


def update_job(project: str, job: str, fields: JobFields) -> Exchange[Job]:
    """Change a job, in what `fields` give."""
    body = to_update(fields)
    ids = yield from find_job_ids(project, job)
    return (yield from v2.update_job(ids.project_id, ids.job_id, body))


def delete_job(project: str, job: str) -> Exchange[None]:
    """Remove a job with its history."""
    ids = yield from find_job_ids(project, job)
    yield from v2.delete_job(ids.project_id, ids.job_id)


# ---------------------------------------------------------------- runs


def create_job_run(
    project: str, job: str, environment: Mapping[str, Any] | None = None, arguments: str | None = None
) -> Exchange[JobRun]:
    """Start a run, by the bare call."""
    variables = as_text(environment)
    ids = yield from find_job_ids(project, job)
    return (yield from v2.create_job_run(ids.project_id, ids.job_id, environment=variables, arguments=arguments))


def get_job_run(project: str, job: str, run_id: str) -> Exchange[JobRun]:
    """One run."""
    ids = yield from find_job_ids(project, job)
    return (yield from v2.get_job_run(ids.project_id, ids.job_id, run_id))


def list_job_runs(project: str, job: str) -> Exchange[list[JobRun]]:
    """All runs of a job, newest first."""
    ids = yield from find_job_ids(project, job)
    return (
        yield from finding.all_pages(
            lambda token, size: v2.list_job_runs(ids.project_id, ids.job_id, page_size=size, page_token=token)
        )
    )


def stop_job_run(project: str, job: str, run_id: str) -> Exchange[JobRun]:
    """Stop a run and look until it is over; the run as last seen."""
    ids = yield from find_job_ids(project, job)
    return (yield from waiting.stop_and_confirm(ids, run_id))


def wait_for_job_run(
    project: str, job: str, run_id: str, poll_interval: float = 30.0, timeout: float | None = None
) -> Exchange[JobRun]:
    """Wait until a run is over and return it, whatever its ending."""
    ids = yield from find_job_ids(project, job)
    return (yield from waiting.wait_for_job_run(waiting.Wait(ids, run_id, poll_interval, timeout)))


# ---------------------------------------------------------------- all else


def start_job(project: str, number: str, environment: Mapping[str, str] | None = None) -> Exchange[str]:
    """Start a job through API v1; returns the engine id."""
    owner, slug = v1.split_project(project)
    return (yield from v1.start_job(owner, slug, number, as_text(environment)))


def _project_id(project: str) -> Exchange[str]:
    return project if is_id(project) else (yield from find_project(project)).id
