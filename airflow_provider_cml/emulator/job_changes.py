"""API v2, changing jobs: create, update, delete.

Law: SPEC for the fields (CreateJobRequest and Job differ: `environment` is a map in one, a JSON string in the
other); unknown fields are passed over (INFER: grpc-gateway v1); what UpdateJob ignores is LIVE.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.emulator.calls import (
    INVALID_ARGUMENT,
    NOT_FOUND,
    Answer,
    Call,
    Json,
    RefusalError,
    unfit,
)
from airflow_provider_cml.emulator.documents import job_document
from airflow_provider_cml.emulator.identifiers import random_public_id
from airflow_provider_cml.emulator.routes_v2 import job_of, project_of
from airflow_provider_cml.emulator.scripts import ScriptError, locate
from airflow_provider_cml.emulator.starting import environment_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator.objects import Job, Project


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise unfit(value, "string")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise unfit(value, "float64")
    return float(value)


def _integer(value: object) -> int:
    # protobuf's JSON takes numbers and their decimal text for every integer; int64 is text in its answers.
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    raise unfit(value, "int32")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise unfit(value, "bool")
    return value


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise unfit(value, "[]json.RawMessage")
    return [_text(item) for item in value]


#: The plain fields of a body, with the types the published document gives them.
READERS: dict[str, Callable[[object], Any]] = {
    **dict.fromkeys(("name", "script", "arguments", "schedule", "kernel", "timezone"), _text),
    **dict.fromkeys(("cpu", "memory"), _number),
    **dict.fromkeys(("nvidia_gpu", "timeout", "run_as", "max_retry", "retry_delay"), _integer),
    **dict.fromkeys(("kill_on_timeout", "paused", "retry_enabled"), _flag),
    **dict.fromkeys(("retry_for_script_failure", "retry_for_system_failure"), _flag),
    **dict.fromkeys(("retry_for_timedout_runs", "retry_for_skipped_runs"), _flag),
    **dict.fromkeys(("runtime_addon_identifiers", "attachments"), _texts),
    "runtime_identifier": _text,
}
#: LIVE (2026-08-27): UpdateJob answers 200 and does nothing about these, nor about recipients.
IGNORED_BY_UPDATE = ("paused", "timezone")


def _fields(document: Json) -> dict[str, Any]:
    known = {name: value for name, value in document.items() if name in READERS and value is not None}
    return {name: READERS[name](value) for name, value in known.items()}


def _parent(call: Call, project: Project, document: Json) -> str | None:
    # SPEC: parent_job_id is the deprecated name of parent_id.
    parent = document.get("parent_id") or document.get("parent_job_id")
    if parent is None:
        return None
    if not isinstance(parent, str):
        raise unfit(parent, "string")
    job = call.workspace.jobs.get(parent)
    if job is None or job.project_id != project.id:
        raise RefusalError(NOT_FOUND, "parent job not found")
    return parent


def _check_script(call: Call, project: Project, script: str) -> None:
    try:
        locate(call.workspace.root, call.workspace.folder_of(project), script)
    except ScriptError as error:
        raise RefusalError(INVALID_ARGUMENT, str(error)) from None


def create_job(call: Call) -> Answer:
    """CreateJob."""
    project = project_of(call)
    document = call.document()
    fields = _fields(document)
    for name in ("name", "script"):
        if not fields.get(name):
            raise RefusalError(INVALID_ARGUMENT, f"Problem with field {name.title()}: value is required")
    # SPEC: must be set in projects that use ML Runtimes, as all projects here do.
    if not fields.get("runtime_identifier"):
        raise RefusalError(INVALID_ARGUMENT, "runtime_identifier must be set for jobs of an ML Runtimes project")
    _check_script(call, project, fields["script"])
    job = call.workspace.add_job(
        project,
        fields.pop("name"),
        id=random_public_id(),
        parent=_parent(call, project, document),
        environment=environment_in(document),
        **fields,
    )
    return Answer(job_document(call.workspace, job))


def _environment_string(document: Json) -> dict[str, str] | None:
    text = document.get("environment")
    if text is None:
        return None
    # LIVE: a JSON string here, not a map.
    if not isinstance(text, str):
        raise unfit(text, "string")
    try:
        environment = json.loads(text or "{}")
    except ValueError:
        raise RefusalError(INVALID_ARGUMENT, "environment is not valid JSON") from None
    return environment_in({"environment": environment})


def update_job(call: Call) -> Answer:
    """UpdateJob: the fields that are given, of a Job."""
    job: Job = job_of(call)
    project = project_of(call)
    document = call.document()
    fields = {name: value for name, value in _fields(document).items() if name not in IGNORED_BY_UPDATE}
    environment, parent = _environment_string(document), _parent(call, project, document)
    if "script" in fields:
        _check_script(call, project, fields["script"])
    with call.workspace.lock:
        for name, value in fields.items():
            setattr(job, name, value)
        if environment is not None:
            job.environment = environment
        if parent is not None:
            job.parent_id = parent
        job.updated_at = call.workspace.clock()
        call.workspace.tell(job)
    return Answer(job_document(call.workspace, job))


def delete_job(call: Call) -> Answer:
    """DeleteJob."""
    call.workspace.delete_job(job_of(call))
    return Answer({})
