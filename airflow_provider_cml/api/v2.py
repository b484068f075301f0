"""API v2, one exchange per operation, named by CML's operation id in snake case.

Paths, parameters and bodies follow the published document (`mlapiv2/api.proto`, 26.06.13; tests hold them to it).
The law: one request in, one value out; what belongs together in several requests is a conversation.
Parameters of the document keep their names; ids are CML's own, percent-encoded as one path segment each.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow_provider_cml.api import decoding
from airflow_provider_cml.api.endpoint import segment
from airflow_provider_cml.api.errors import (
    CmlInputError,
    CmlJobBusyError,
    CmlRefusedError,
    answered_at,
    refusal,
)
from airflow_provider_cml.api.retry import answered
from airflow_provider_cml.api.wire import Request, Response, Scheme, ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.models import Job, JobRun, KeyOwner, Page, Project
    from airflow_provider_cml.api.wire import Exchange

PAGE_SIZE = 100
"""Entries of a page. CML's default is 10; no maximum is published, and Cloudera's own clients use 100 and more."""
NEWEST_FIRST = "-created_at"
API = "/api/v2"


def list_projects(
    *,
    search_filter: Mapping[str, str] | None = None,
    sort: str | None = None,
    page_size: int = PAGE_SIZE,
    page_token: str = "",
    include_public_projects: bool = False,
    patience: float = 30.0,
    unreachable_patience: float | None = None,
) -> Exchange[Page[Project]]:
    """One page of the projects the key's user can see; public ones of others only if asked for."""
    query = [("include_public_projects", "true")] if include_public_projects else []
    request = _list(f"{API}/projects", search_filter, sort, page_size, page_token, query)
    request = replace(request, patience=patience, unreachable_patience=unreachable_patience)
    return (yield from answered(request, lambda q, r: decoding.page(_doc(q, r), "projects", decoding.project)))


def get_project(project_id: str, *, patience: float | None = None) -> Exchange[Project]:
    """One project."""
    request = _get(f"{API}/projects/{segment(project_id, 'project')}")
    if patience is not None:
        request = replace(request, patience=patience)
    return (yield from answered(request, lambda q, r: decoding.project(_doc(q, r))))


def list_jobs(
    project_id: str,
    *,
    search_filter: Mapping[str, str] | None = None,
    sort: str | None = None,
    page_size: int = PAGE_SIZE,
    page_token: str = "",
    patience: float = 30.0,
    unreachable_patience: float | None = None,
) -> Exchange[Page[Job]]:
    """One page of a project's jobs."""
    request = _list(_jobs(project_id), search_filter, sort, page_size, page_token)
    request = replace(request, patience=patience, unreachable_patience=unreachable_patience)
    return (yield from answered(request, lambda q, r: decoding.page(_doc(q, r), "jobs", decoding.job)))


def get_job(project_id: str, job_id: str, *, patience: float = 30.0) -> Exchange[Job]:
    """One job."""
    request = replace(_get(_job(project_id, job_id)), patience=patience)
    return (yield from answered(request, lambda q, r: decoding.job(_doc(q, r))))


def create_job(project_id: str, fields: Mapping[str, object]) -> Exchange[Job]:
    """Make a job. `fields` are those of the document's CreateJobRequest; `name` and `script` at least."""
    body = {**fields, "project_id": project_id}
    request = Request("POST", _jobs(project_id), Scheme.BEARER, json=body, idempotent=False)
    return (yield from answered(request, lambda q, r: decoding.job(_doc(q, r))))


def update_job(project_id: str, job_id: str, fields: Mapping[str, object]) -> Exchange[Job]:
    """Change a job. `fields` are those of the document's Job; `environment` is a JSON string there.

    CML answers 200 to changes of `paused`, `timezone` and recipients and ignores them (seen on a live workspace).
    """
    request = Request("PATCH", _job(project_id, job_id), Scheme.BEARER, json=fields, idempotent=False)
    return (yield from answered(request, lambda q, r: decoding.job(_doc(q, r))))


def delete_job(project_id: str, job_id: str) -> Exchange[None]:
    """Remove a job with its history."""
    request = Request("DELETE", _job(project_id, job_id), Scheme.BEARER, idempotent=False)
    return (yield from answered(request, lambda _q, _r: None))


def list_job_runs(
    project_id: str,
    job_id: str,
    *,
    search_filter: Mapping[str, str] | None = None,
    sort: str | None = NEWEST_FIRST,
    page_size: int = PAGE_SIZE,
    page_token: str = "",
    patience: float = 30.0,
    unreachable_patience: float | None = None,
    read_timeout: float | None = None,
) -> Exchange[Page[JobRun]]:
    """One page of a job's runs, newest first unless `sort` says otherwise; without sort CML promises no order."""
    request = _list(f"{_job(project_id, job_id)}/runs", search_filter, sort, page_size, page_token)
    request = replace(
        request,
        patience=patience,
        unreachable_patience=unreachable_patience,
        read_timeout=read_timeout,
    )
    return (
        yield from answered(
            request, lambda q, r: decoding.page(_doc(q, r), "job_runs", decoding.job_run, answered_at(r))
        )
    )


def create_job_run(
    project_id: str,
    job_id: str,
    *,
    environment: Mapping[str, str] | None = None,
    arguments: str | None = None,
) -> Exchange[JobRun]:
    """Start a run, by one POST that is never repeated.

    :param environment: variables that override the job's and the project's; strings only, CML rejects numbers.
    :param arguments: one string; the script finds it in JOB_ARGUMENTS.
    :raises CmlJobBusyError: another run is active, or there is no capacity, as CML's text says. Seen in life: 400 with
        gRPC code 9 and "already active", and 409 "out of quota"; or a run comes back SKIPPED, with 200.
    """
    body: dict[str, object] = {"project_id": project_id, "job_id": job_id}
    if environment:
        body["environment"] = dict(environment)
    if arguments is not None:
        body["arguments"] = arguments
    path = f"{_job(project_id, job_id)}/runs"
    request = Request("POST", path, Scheme.BEARER, json=body, idempotent=False, patience=0)
    response = yield from ask(request)
    if not 200 <= response.status < 300:
        error = refusal(request, response)
        if isinstance(error, CmlRefusedError) and error.is_busy:
            raise CmlJobBusyError(request, response)
        raise error
    return decoding.job_run(_doc(request, response))


def get_job_run(
    project_id: str,
    job_id: str,
    run_id: str,
    *,
    patience: float = 30.0,
    give_up_at: float | None = None,
    read_timeout: float | None = None,
) -> Exchange[JobRun]:
    """One run."""
    request = Request(
        "GET",
        _run(project_id, job_id, run_id),
        Scheme.BEARER,
        patience=patience,
        read_timeout=read_timeout,
    )
    return (yield from answered(request, lambda q, r: decoding.job_run(_doc(q, r)), give_up_at))


class JobRunLooks:
    """Looks at one run, again and again: its address is made once, and an answer that is as it was is read once.

    A run is looked at a hundred times before it is over; address and reading are a third of what a look costs.
    """

    def __init__(self, project_id: str, job_id: str, run_id: str, patience: float) -> None:
        self._request = Request("GET", _run(project_id, job_id, run_id), Scheme.BEARER, patience=patience)
        self._body: bytes | None = None
        self._run: JobRun | None = None

    def again(self, give_up_at: float | None) -> Exchange[JobRun]:
        """The run as it is now."""
        return (yield from answered(self._request, self._read, give_up_at))

    def _read(self, request: Request, response: Response) -> JobRun:
        if self._run is None or response.body != self._body:
            self._run = decoding.job_run(_doc(request, response))
            self._body = response.body
        return self._run


def stop_job_run(
    project_id: str, job_id: str, run_id: str, *, patience: float = 0, read_timeout: float | None = None
) -> Exchange[JobRun]:
    """Ask CML to stop a run. It will be STOPPING, and STOPPED some time later.

    The address ends in a literal `:stop`; `/stop` is a 404 (a bug Cloudera's own MCP server once had).
    Stopping twice does no more than stopping once, but CML answers the second with an error.
    """
    path = f"{_run(project_id, job_id, run_id)}:stop"
    request = Request("POST", path, Scheme.BEARER, patience=patience, read_timeout=read_timeout)
    return (yield from answered(request, lambda q, r: decoding.job_run(_doc(q, r))))


def validate_api_key(*, patience: float = 0, read_timeout: float | None = None) -> Exchange[KeyOwner]:
    """Whose key this is, and that it is good for the API. Starts nothing, changes nothing."""
    request = Request(
        "POST",
        f"{API}/auth/validate_key",
        Scheme.BEARER,
        json={"audience": "API"},
        patience=patience,
        read_timeout=read_timeout,
    )
    return (yield from answered(request, lambda q, r: decoding.key_owner(_doc(q, r))))


def read_project_count(request: Request, response: Response) -> int:
    """How many projects a page holds, for those who only want to know whether the list can be read."""
    return len(decoding.page(_doc(request, response), "projects", decoding.project).items)


def request(
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    json: Mapping[str, object] | None = None,
) -> Exchange[dict[str, Any]]:
    """Any other call of API v2. Returns the answer's JSON object, passwords included where CML echoes them.

    :param path: begins with /api/; an address with a host is refused before a connection opens.
    :raises CmlInputError: the path is not one of this workspace's API.
    """
    if not path.startswith("/api/") or re.search(r"[^!-~]|[\\#?]|//", path) or not _UPWARD.isdisjoint(_segments(path)):
        message = f"path: {path!r} must be a path of this workspace that begins with /api/, without '..' and query."
        raise CmlInputError(message)
    asked = Request(
        method.upper(),
        path,
        Scheme.BEARER,
        query=tuple((query or {}).items()),
        json=json,
        idempotent=method.upper() in {"GET", "HEAD"},
    )
    return (yield from answered(asked, lambda q, r: _doc(q, r) if r.body.strip() else {}))


def _list(
    path: str,
    search_filter: Mapping[str, str] | None,
    sort: str | None,
    page_size: int,
    page_token: str,
    query: list[tuple[str, str]] | None = None,
) -> Request:
    # Size, filter and order are repeated with every token: the document demands the first, Cloudera's notebook all.
    asked = [("page_size", str(page_size)), *(query or [])]
    if search_filter:
        asked.append(("search_filter", json.dumps(dict(search_filter), ensure_ascii=False)))
    if sort:
        asked.append(("sort", sort))
    if page_token:
        asked.append(("page_token", page_token))
    return replace(_get(path), query=tuple(asked))


def _get(path: str) -> Request:
    return Request("GET", path, Scheme.BEARER)


_UPWARD = {".", ".."}


def _segments(path: str) -> list[str]:
    """The segments as a server, or an HTTP library on the way, may read them: `%2e.` is `..` to some."""
    return re.split(r"[/\\]", unquote(path))


def _doc(request: Request, response: Response) -> dict[str, Any]:
    return decoding.document(request, response)


def _jobs(project_id: str) -> str:
    return f"{API}/projects/{segment(project_id, 'project')}/jobs"


def _job(project_id: str, job_id: str) -> str:
    return f"{_jobs(project_id)}/{segment(job_id, 'job')}"


def _run(project_id: str, job_id: str, run_id: str) -> str:
    return f"{_job(project_id, job_id)}/runs/{segment(run_id, 'run_id')}"
