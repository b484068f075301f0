"""Projects, jobs, runs and usage rows as v2 shows them.

Law: every field of the published document is there, with its JSON type; int64 is a string, `environment` is a
JSON string (LIVE), times not reached are null (INFER).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_provider_cml.emulator.identifiers import timestamp
from airflow_provider_cml.emulator.objects import Job, Project, Run, User

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.emulator.calls import Json
    from airflow_provider_cml.emulator.registry import Registry


def short_user(user: User) -> Json:
    """ShortUser."""
    return {"username": user.username, "name": user.name, "email": user.email}


def _named(registry: Registry, username: str) -> User:
    return registry.users.get(username) or User(username)


def environment_string(environment: Mapping[str, str]) -> str:
    """LIVE: "" when nothing is set, else a JSON object inside a string."""
    return json.dumps(dict(environment)) if environment else ""


def project_document(project: Project) -> Json:
    """Project."""
    member = project.member
    return {
        "id": project.id,
        "name": project.name,
        "owner": short_user(project.owner),
        "creator": short_user(project.owner),
        "description": project.description,
        "visibility": project.visibility,
        "default_engine_type": "ml_runtime",
        "created_at": timestamp(project.created_at),
        "updated_at": timestamp(project.created_at),
        "creation_status": "success",
        "permissions": {
            "read": True,
            "write": member,
            "admin": member,
            "business_user": False,
            "operator": member,
            "inherit": False,
        },
        "shared_memory_limit": 0,
        "environment": environment_string(project.environment) if member else "",
        "ephemeral_storage_request": 0,
        "ephemeral_storage_limit": 0,
        "slug": project.slug,
    }


def job_type(job: Job) -> str:
    """SPEC: "manual", "cron" or "dependent"."""
    return "dependent" if job.parent_id else "cron" if job.schedule else "manual"


def job_document(registry: Registry, job: Job) -> Json:
    """Job. LIVE: it has no numeric id and no link."""
    project = registry.projects[job.project_id]
    creator = short_user(_named(registry, job.creator))
    return {
        "id": job.id,
        "cpu": job.cpu,
        "created_at": timestamp(job.created_at),
        "creator": creator,
        "engine_image_id": "0",
        "english_schedule": "",
        "arguments": job.arguments,
        "type": job_type(job),
        "kernel": job.kernel,
        "memory": job.memory,
        "name": job.name,
        "parent_id": job.parent_id,
        "paused": job.paused,
        "schedule": job.schedule,
        "script": job.script,
        "timeout": str(job.timeout),
        "timezone": job.timezone,
        "updated_at": timestamp(job.updated_at),
        "environment": environment_string(job.environment),
        "nvidia_gpu": job.nvidia_gpu,
        "runtime_identifier": job.runtime_identifier,
        "runtime_addon_identifiers": job.runtime_addon_identifiers,
        "kill_on_timeout": job.kill_on_timeout,
        "project": {
            "public_identifier": project.id,
            "name": project.name,
            "default_project_engine": "ml_runtime",
            "slug": project.slug,
        },
        "owner": short_user(project.owner),
        "run_as": job.run_as,
        "accelerator_label_id": "0",
        "retry_enabled": job.retry_enabled,
        "max_retry": job.max_retry,
        "retry_delay": job.retry_delay,
        "retry_for_script_failure": job.retry_for_script_failure,
        "retry_for_system_failure": job.retry_for_system_failure,
        "retry_for_timedout_runs": job.retry_for_timedout_runs,
        "retry_for_skipped_runs": job.retry_for_skipped_runs,
        "recipients": [],
        "attachments": job.attachments,
        "success_recipients": "",
        "failure_recipients": "",
        "timeout_recipients": "",
        "stopped_recipients": "",
        "resource_group_id": 0,
        "resource_profile_id": 0,
    }


def run_document(registry: Registry, run: Run, *, echo: bool = True, as_object: bool = False) -> Json:
    """JobRun. LIVE: it echoes project, job and run environment merged, passwords included."""
    environment: object = ""
    if echo:
        environment = dict(run.merged) if as_object else json.dumps(run.merged)
    return {
        "project_id": run.project_id,
        "job_id": run.job_id,
        "status": str(run.status),
        "id": run.id,
        "created_at": timestamp(run.created_at),
        "scheduling_at": timestamp(run.scheduling_at),
        "starting_at": timestamp(run.starting_at),
        "running_at": timestamp(run.running_at),
        "finished_at": timestamp(run.finished_at),
        "kernel": run.kernel,
        "cpu": run.cpu,
        "memory": run.memory,
        "nvidia_gpu": run.nvidia_gpu,
        "arguments": run.arguments,
        "environment": environment,
        "creator": short_user(_named(registry, run.creator)),
        "runtime_identifier": run.runtime_identifier,
        "resource_group_id": 0,
    }


def plain_status(run: Run) -> str:
    """The status as v1, the UI and filters spell it: `succeeded`."""
    return str(run.status).removeprefix("ENGINE_").lower()


def usage_document(registry: Registry, run: Run, address: str) -> Json:
    """UsageResponse: one workload (SPEC; no answer of a live workspace is known)."""
    job, project = registry.jobs[run.job_id], registry.projects[run.project_id]
    end = run.finished_at if run.finished_at is not None else registry.clock()
    return {
        "name": job.name,
        "creator": run.creator,
        "group": "",
        "project_name": project.name,
        "cpu": run.cpu,
        "memory": run.memory,
        "nvidia_gpu": run.nvidia_gpu,
        "workload_type": "job",
        "created_at": timestamp(run.created_at),
        "duration": str(int(end - run.created_at)),
        "status": plain_status(run),
        "id": run.id,
        "workload_url": f"{address}/{project.owner.username}/{project.slug}/jobs/{job.number}",
        "message": run.message,
        "oom_killed": run.oom_killed,
    }
