"""Starting a job, as both APIs do it.

Law: each job can only have at most one active run (Cloudera's notebook). A second start is refused in one of
several ways, and leaves a Skipped entry in the history (LIVE).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow_provider_cml.emulator.calls import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    Call,
    Json,
    RefusalError,
    unfit,
)
from airflow_provider_cml.emulator.faults import Kind
from airflow_provider_cml.emulator.objects import Job, Run, Status

if TYPE_CHECKING:
    from collections.abc import Mapping


def environment_in(document: Json) -> dict[str, str]:
    """The environment of a body: a map of strings; anything else is refused (seen by a public client)."""
    given = document.get("environment")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise unfit(given, "map[string]json.RawMessage")
    for value in given.values():
        if not isinstance(value, str):
            raise unfit(value, "string")
    return given


def text_in(document: Json, name: str) -> str | None:
    """A string of a body, None if it is not there."""
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise unfit(value, "string")
    return value


def start(call: Call, job: Job, environment: Mapping[str, str], arguments: str | None, *, api: str) -> Run:
    """Start a job, or refuse as a busy one does."""
    workspace = call.workspace
    project = workspace.projects[job.project_id]
    if not project.member:
        raise RefusalError(PERMISSION_DENIED, "User does not have permission to start this job")
    for name in environment:
        # INFER: such a name cannot be set in any process; what CML does with one is not known.
        if not name or "=" in name or "\0" in name + environment[name]:
            raise RefusalError(INVALID_ARGUMENT, "invalid environment variable name")
    if call.behaviour(Kind.ARGUMENTS_IGNORED):
        arguments = None
    fault = call.behaviour(Kind.BUSY)
    with workspace.lock:
        if fault is not None and fault.forced:
            run = workspace.add_run(job, "skipped", environment=environment, arguments=arguments, api=api)
        else:
            run = workspace.start(job, environment, arguments, api=api)
    if run.status != Status.SKIPPED:
        return run
    status = workspace.busy if fault is None or fault.status is None else fault.status
    if status == HTTPStatus.OK:
        return run
    raise RefusalError(FAILED_PRECONDITION, f"job run for job {job.id} already active", status)
