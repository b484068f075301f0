"""What a job may be made of, and changed to: the fields of CreateJobRequest and Job in CML's published document.

The types are for editors, and CML validates what it is sent. Only what JSON or one of the two requests writes
differently is converted here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_cml.api.environment import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class JobRecipient(TypedDict, total=False):
    """Who gets mail about the runs of a job, and about which."""

    email: str
    notify_on_success: bool
    notify_on_failure: bool
    notify_on_timeout: bool
    notify_on_stop: bool


class JobFields(TypedDict, total=False):
    """The fields of a job, by the names of CML's published document. What is not given is not sent.

    :param name: its name; a new job needs one.
    :param script: the file it runs, relative to the project; a new job needs one.
    :param arguments: one string; the script finds it in JOB_ARGUMENTS.
    :param environment: {name: value} for every run of the job; strings, numbers, booleans. A change replaces all.
    :param runtime_identifier: the image; a new job needs one in projects with ML Runtimes.
    :param runtime_addon_identifiers: such as `["hadoop-cli-7.1"]`.
    :param kernel: python3, python2, r or scala; only in projects without ML Runtimes.
    :param cpu: cores. `memory`: GB. `nvidia_gpu`: number of GPUs. `accelerator_label_id`: the kind of them.
    :param resource_group_id: with `resource_profile_id` instead of these, where workspaces have profiles.
    :param timeout: seconds after which a run is TIMEDOUT. `kill_on_timeout`: and stopped.
    :param schedule: cron, on CML's own scheduler; with `timezone` and `paused`, which only a new job takes.
    :param parent_id: the job after whose success this one runs; not together with `schedule`.
    :param retry_enabled: CML's own Job Retry; use this or Airflow's retries, not both.
    :param run_as: the number of a service account.
    :param attachments: files to be mailed. `recipients`: to whom, which only a new job takes.
    """

    name: str
    script: str
    arguments: str
    environment: Mapping[str, Any]
    runtime_identifier: str
    runtime_addon_identifiers: Sequence[str]
    kernel: str
    cpu: float
    memory: float
    nvidia_gpu: int
    accelerator_label_id: int
    resource_group_id: int
    resource_profile_id: int
    timeout: int
    kill_on_timeout: bool
    schedule: str
    timezone: str
    paused: bool
    parent_id: str
    retry_enabled: bool
    max_retry: int
    retry_delay: int
    retry_for_script_failure: bool
    retry_for_system_failure: bool
    retry_for_timedout_runs: bool
    retry_for_skipped_runs: bool
    run_as: int
    attachments: Sequence[str]
    recipients: Sequence[JobRecipient]
    success_recipients: str
    failure_recipients: str
    timeout_recipients: str
    stopped_recipients: str


def to_create(fields: JobFields) -> dict[str, object]:
    """The body of CreateJob; CML wants an environment as a map of texts there.

    :raises CmlInputError: the environment holds what cannot be a variable.
    """
    body: dict[str, object] = {**fields}
    if "environment" in fields:
        body["environment"] = as_text(fields["environment"])
    return _int64_as_text(body, "accelerator_label_id")


def to_update(fields: JobFields) -> dict[str, object]:
    """The body of UpdateJob; CML wants an environment as JSON text there, and the timeout as an int64.

    :raises CmlInputError: the environment holds what cannot be a variable.
    """
    body: dict[str, object] = {**fields}
    if "environment" in fields:
        body["environment"] = json.dumps(as_text(fields["environment"]), ensure_ascii=False)
    return _int64_as_text(body, "accelerator_label_id", "timeout")


def _int64_as_text(body: dict[str, object], *names: str) -> dict[str, object]:
    """The body as proto3 writes it in JSON: an int64 is a string there."""
    return body | {name: str(body[name]) for name in names if name in body}
