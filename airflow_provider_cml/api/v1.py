"""The legacy Jobs API v1: one operation, the start of a job.

"Cannot create, stop, or get the status of a job using the Jobs API" (Cloudera, Jobs API, documented limitation), so
everything after the start belongs to API v2. Calls that Cloudera's own tools make but no document names are not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.api import decoding
from airflow_provider_cml.api.endpoint import segment
from airflow_provider_cml.api.errors import CmlInputError
from airflow_provider_cml.api.retry import answered
from airflow_provider_cml.api.wire import Request, Scheme

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.wire import Exchange


UNSENT_PATIENCE = 600.0
"""Seconds for which a start is repeated that cannot have left this machine."""


def split_project(project: str) -> tuple[str, str]:
    """Owner and slug out of `owner/slug`, the only way v1 knows a project.

    :raises CmlInputError: it is written otherwise.
    """
    owner, slash, slug = project.partition("/")
    if not slash or not owner or not slug or "/" in slug:
        message = f"project: API v1 needs 'owner/slug' as in the project's address, not {project!r}."
        raise CmlInputError(message)
    return owner, slug


def start_job(owner: str, slug: str, number: str, environment: Mapping[str, str]) -> Exchange[str]:
    """Start a job and return its engine id, 16 letters and digits.

    :param owner: the user or team before the project in its address.
    :param slug: the project's name in its address.
    :param number: the number in the job's address (`/jobs/208`), not the id of API v2.
    :param environment: variables that override the job's and the project's.

    The same body with a JSON content type is sent even if there is nothing to say: v1 demands the header (Jobs API).
    Not repeated once it has left: a second POST is a second run. One that cannot leave is repeated for ten minutes,
    because a later try may not start the job any more.
    """
    path = (
        f"/api/v1/projects/{segment(owner, 'project')}/{segment(slug, 'project')}/jobs/{segment(number, 'job')}/start"
    )
    body = {"environment": dict(environment)} if environment else {}
    request = Request("POST", path, Scheme.BASIC, json=body, idempotent=False, patience=UNSENT_PATIENCE)
    return (yield from answered(request, lambda req, res: decoding.engine_id(decoding.document(req, res))))
