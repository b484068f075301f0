"""API v2, reading and running: projects, jobs, runs, usage, the check of a key.

Law: SPEC for paths, parameters and shapes; LIVE for what the document does not say.
"""

from __future__ import annotations

from airflow_provider_cml.emulator.calls import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    PERMISSION_DENIED,
    Answer,
    Call,
    RefusalError,
)
from airflow_provider_cml.emulator.documents import (
    job_document,
    job_type,
    plain_status,
    project_document,
    run_document,
    usage_document,
)
from airflow_provider_cml.emulator.engine import RunIsOverError
from airflow_provider_cml.emulator.faults import Kind
from airflow_provider_cml.emulator.listing import (
    JOB_FILTER,
    JOB_SORT,
    PROJECT_FILTER,
    PROJECT_SORT,
    RUN_FILTER,
    USAGE_FILTER,
    USAGE_SORT,
    Facts,
    pages_of,
    time_range,
)
from airflow_provider_cml.emulator.objects import Job, Project, Run, User
from airflow_provider_cml.emulator.starting import environment_in, start, text_in

API_VERSION = "26.06.13"
ID_LENGTH = 19


# ---------------------------------------------------------------------- finding what a path names


def _public_id(call: Call, name: str, field: str) -> str:
    value = call.path[name]
    # LIVE: so is the number of a job refused, which v1 takes.
    if len(value) != ID_LENGTH:
        message = f"Problem with field {field}: value length must be {ID_LENGTH} runes"
        raise RefusalError(INVALID_ARGUMENT, message)
    return value


def project_of(call: Call) -> Project:
    """The project of the path. An unknown one is 404 here; clients of CML report 403 too."""
    project = call.workspace.projects.get(_public_id(call, "project_id", "ProjectId"))
    if project is None:
        raise RefusalError(NOT_FOUND, "project not found")
    if not project.member and project.visibility == "private":
        raise RefusalError(PERMISSION_DENIED, "User does not have permission to access this project")
    return project


def job_of(call: Call) -> Job:
    """The job of the path."""
    project = project_of(call)
    job = call.workspace.jobs.get(_public_id(call, "job_id", "JobId"))
    if job is None or job.project_id != project.id:
        raise RefusalError(NOT_FOUND, "job not found")
    return job


def _run_of(call: Call) -> Run:
    job = job_of(call)
    run = call.workspace.runs.get(call.path["run_id"])
    if run is None or run.job_id != job.id:
        raise RefusalError(NOT_FOUND, "job run not found")
    return run


# ---------------------------------------------------------------------- projects


def _user_facts(prefix: str, user: User) -> dict[str, object]:
    return {f"{prefix}.username": user.username, f"{prefix}.name": user.name, f"{prefix}.email": user.email}


def _project_facts(project: Project) -> Facts:
    return {
        "id": project.id,
        "name": project.name,
        "description": project.description,
        "created_at": project.created_at,
        "updated_at": project.created_at,
        **_user_facts("owner", project.owner),
        **_user_facts("creator", project.owner),
    }


def _flag(call: Call, name: str) -> bool:
    text = call.query.get(name, "")
    if text in ("", "0", "f", "F", "false", "FALSE", "False"):
        return False
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    raise RefusalError(INVALID_ARGUMENT, f'type mismatch, parameter: {name}, error: parsing "{text}": invalid syntax')


def list_projects(call: Call) -> Answer:
    """ListProjects. SPEC: public projects the user does not belong to are listed on request only."""
    # SPEC: for who is no site admin include_all_projects is the same as include_public_projects.
    everything = _flag(call, "include_public_projects") or _flag(call, "include_all_projects")
    visible = [
        project
        for project in call.workspace.projects.values()
        if project.member or (everything and project.visibility != "private")
    ]
    page, token, _ = pages_of(call, visible, _project_facts, PROJECT_FILTER, PROJECT_SORT)
    return Answer({"projects": [project_document(project) for project in page], "next_page_token": token})


def get_project(call: Call) -> Answer:
    """GetProject."""
    return Answer(project_document(project_of(call)))


# ---------------------------------------------------------------------- jobs


def _job_facts(call: Call, job: Job) -> dict[str, object]:
    creator = call.workspace.users.get(job.creator) or User(job.creator)
    return {
        "id": job.id,
        "name": job.name,
        "description": "",
        "kernel": job.kernel,
        "paused": str(job.paused).lower(),
        "script": job.script,
        "type": job_type(job),
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        **_user_facts("creator", creator),
    }


def list_jobs(call: Call) -> Answer:
    """ListJobs."""
    jobs = call.workspace.jobs_of(project_of(call))
    page, token, _ = pages_of(call, jobs, lambda job: _job_facts(call, job), JOB_FILTER, JOB_SORT)
    return Answer({"jobs": [job_document(call.workspace, job) for job in page], "next_page_token": token})


def list_all_jobs(call: Call) -> Answer:
    """ListAllJobs: of all projects the user belongs to; it has no sort (SPEC)."""
    projects = call.workspace.projects
    jobs = [job for job in call.workspace.jobs.values() if projects[job.project_id].member]
    page, token, _ = pages_of(call, jobs, lambda job: _job_facts(call, job), JOB_FILTER)
    return Answer({"jobs": [job_document(call.workspace, job) for job in page], "next_page_token": token})


def get_job(call: Call) -> Answer:
    """GetJob."""
    return Answer(job_document(call.workspace, job_of(call)))


# ---------------------------------------------------------------------- runs


def _run_answer(call: Call, run: Run) -> dict[str, object]:
    return run_document(
        call.workspace,
        run,
        echo=call.behaviour(Kind.NO_ECHO) is None,
        as_object=call.behaviour(Kind.ENVIRONMENT_OBJECT) is not None,
    )


def create_job_run(call: Call) -> Answer:
    """CreateJobRun. The path says which job; project_id and job_id of the body are passed over (INFER)."""
    job = job_of(call)
    document = call.document()
    text_in(document, "project_id")
    text_in(document, "job_id")
    run = start(call, job, environment_in(document), text_in(document, "arguments"), api="v2")
    return Answer(_run_answer(call, run))


def get_job_run(call: Call) -> Answer:
    """GetJobRun."""
    return Answer(_run_answer(call, _run_of(call)))


def list_job_runs(call: Call) -> Answer:
    """ListJobRuns."""
    job = job_of(call)
    lag = call.behaviour(Kind.LIST_LAG)
    youngest = call.workspace.clock() - (lag.seconds if lag else 0)
    runs = [run for run in call.workspace.runs_of(job) if lag is None or run.created_at <= youngest]
    of_job = _job_facts(call, job)

    def facts(run: Run) -> Facts:
        creator = call.workspace.users.get(run.creator) or User(run.creator)
        return {
            **of_job,
            **_user_facts("creator", creator),
            "id": run.id,
            "kernel": run.kernel,
            "status": run.status,
            "created_at": run.created_at,
            "updated_at": run.updated_at,
        }

    page, token, _ = pages_of(call, runs, facts, RUN_FILTER, JOB_SORT)
    return Answer({"job_runs": [_run_answer(call, run) for run in page], "next_page_token": token})


def stop_job_run(call: Call) -> Answer:
    """StopJobRun: asynchronous; an error for a run that is over (which one is not known, INFER: code 9)."""
    run = _run_of(call)
    if not call.workspace.projects[run.project_id].member:
        raise RefusalError(PERMISSION_DENIED, "User does not have permission to stop this job")
    slow = call.behaviour(Kind.SLOW_STOPPING)
    try:
        call.workspace.stop(run, slow.seconds if slow else None)
    except RunIsOverError as error:
        raise RefusalError(FAILED_PRECONDITION, str(error)) from None
    return Answer(_run_answer(call, run))


# ---------------------------------------------------------------------- usage, key, document


def list_usage(call: Call) -> Answer:
    """ListUsage: one row per run; here alone a reason (`message`, `oom_killed`) is found."""

    def facts(run: Run) -> Facts:
        return {
            "id": run.id,
            "name": call.workspace.jobs[run.job_id].name,
            "creator": run.creator,
            "group": "",
            "project_name": call.workspace.projects[run.project_id].name,
            "workload_type": "job",
            "status": plain_status(run),
            "cpu": run.cpu,
            "memory": run.memory,
            "nvidia_gpu": run.nvidia_gpu,
            "created_at": run.created_at,
        }

    projects = call.workspace.projects
    earliest, latest = time_range(call, "created_time")
    runs = [
        run
        for run in call.workspace.runs.values()
        if projects[run.project_id].member and earliest <= run.created_at <= latest
    ]
    page, token, total = pages_of(call, runs, facts, USAGE_FILTER, USAGE_SORT)
    rows = [usage_document(call.workspace, run, call.address) for run in page]
    return Answer({"usage_response": rows, "total_count": str(total), "next_page_token": token})


def validate_key(call: Call) -> Answer:
    """ValidateAPIKey (LIVE, both answers). What an absent or unknown audience is answered is not known."""
    audience = text_in(call.document(), "audience")
    if audience == "Application":
        raise RefusalError(PERMISSION_DENIED, "audience mismatch")
    if audience != "API":
        raise RefusalError(INVALID_ARGUMENT, f"invalid audience: {audience or ''}")
    message = "API key is valid for the given audience"
    return Answer({"valid": True, "username": call.workspace.user.username, "message": message})


def swagger(_call: Call) -> Answer:
    """The head of the published document, whose `info.version` is the server's.

    CML asks for no key here (LIVE); this server asks for one everywhere.
    """
    return Answer({"swagger": "2.0", "info": {"title": "mlapiv2/api.proto", "version": API_VERSION}})
