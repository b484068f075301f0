"""What a job may be made of, and changed to: the fields of CreateJobRequest and Job in CML's published document.

The law: only what was given is sent, under the document's names and in the type each of the two requests wants; what
CML is known to ignore is refused here instead of being lost. A value of an environment stands in no message and repr.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from airflow_provider_cml.api.environment import as_text
from airflow_provider_cml.api.errors import CmlInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UNCHANGEABLE = ("paused", "timezone", "recipients")
"""CML answers 200 to a change of these and ignores it (seen on a live workspace); the first two are output only."""
_INT64 = ("accelerator_label_id",)
"""Travels as text, in either request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecipient:
    """Who gets mail about the runs of a job, and about which."""

    email: str
    notify_on_success: bool | None = None
    notify_on_failure: bool | None = None
    notify_on_timeout: bool | None = None
    notify_on_stop: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFields:
    """The fields of a job, by the names of CML's published document. None is not sent.

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

    name: str | None = None
    script: str | None = None
    arguments: str | None = None
    environment: Mapping[str, Any] | None = field(default=None, repr=False)
    runtime_identifier: str | None = None
    runtime_addon_identifiers: Sequence[str] | None = None
    kernel: str | None = None
    cpu: float | None = None
    memory: float | None = None
    nvidia_gpu: int | None = None
    accelerator_label_id: int | None = None
    resource_group_id: int | None = None
    resource_profile_id: int | None = None
    timeout: int | None = None
    kill_on_timeout: bool | None = None
    schedule: str | None = None
    timezone: str | None = None
    paused: bool | None = None
    parent_id: str | None = None
    retry_enabled: bool | None = None
    max_retry: int | None = None
    retry_delay: int | None = None
    retry_for_script_failure: bool | None = None
    retry_for_system_failure: bool | None = None
    retry_for_timedout_runs: bool | None = None
    retry_for_skipped_runs: bool | None = None
    run_as: int | None = None
    attachments: Sequence[str] | None = None
    recipients: Sequence[JobRecipient] | None = None
    success_recipients: str | None = None
    failure_recipients: str | None = None
    timeout_recipients: str | None = None
    stopped_recipients: str | None = None

    def to_create(self) -> dict[str, object]:
        """The body that makes a job of this; CML wants an environment as a map here.

        :raises CmlInputError: a field that a new job needs is missing, or one cannot be sent.
        """
        for name in ("name", "script"):
            if not getattr(self, name):
                raise CmlInputError(f"{name}: is missing; a new job needs one.")
        return self._given()

    def to_update(self) -> dict[str, object]:
        """The body that changes a job to this; CML wants an environment as JSON text here, and so the timeout.

        :raises CmlInputError: nothing is to be changed, or something CML would not change.
        """
        given = self._given()
        if not given:
            raise CmlInputError("fields: nothing is given that could be changed.")
        for name in UNCHANGEABLE:
            if name in given:
                raise CmlInputError(f"{name}: CML takes this for a new job only; change it in its user interface.")
        if "environment" in given:
            given["environment"] = json.dumps(given["environment"], ensure_ascii=False)
        if "timeout" in given:
            given["timeout"] = str(given["timeout"])
        return given

    def _given(self) -> dict[str, object]:
        given: dict[str, object] = {}
        for name in (found.name for found in fields(self)):
            value = getattr(self, name)
            if value is None:
                continue
            if name == "environment":
                value = as_text(value)
            elif name == "recipients":
                value = [{k: v for k, v in asdict(each).items() if v is not None} for each in value]
            elif name in {"runtime_addon_identifiers", "attachments"}:
                if isinstance(value, str):
                    raise CmlInputError(f"{name}: is one string; give a list of them.")
                value = list(value)
            elif name in _INT64:
                value = str(value)
            given[name] = value
        return given
