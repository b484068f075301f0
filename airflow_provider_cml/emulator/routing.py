"""Which operation a request asks for.

Law: paths and operation ids are the published document's; v1 has no ids, so they are named here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from airflow_provider_cml.emulator import job_changes, routes_v1, routes_v2
from airflow_provider_cml.emulator.spoiling import Api

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.emulator.calls import Operation
    from airflow_provider_cml.emulator.routes_control import Control


@dataclass(frozen=True, slots=True)
class Route:
    """One operation; `{x}` in the path stands for one segment."""

    api: Api
    id: str
    method: str
    path: str
    operation: Operation

    def match(self, segments: str) -> Mapping[str, str] | None:
        """The path's parameters, decoded, if the path is this route's."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/:]+)", re.escape(self.path))
        found = re.fullmatch(pattern, segments)
        return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}


_V1 = "/api/v1/projects/{owner}/{slug}/jobs"
_V2 = "/api/v2/projects"
_JOBS = _V2 + "/{project_id}/jobs"
_JOB = _JOBS + "/{job_id}"
_RUNS = _JOB + "/runs"

CML_ROUTES = (
    Route(Api.V1, "v1.ListProjects", "GET", "/api/v1/projects", routes_v1.list_projects),
    Route(Api.V1, "v1.StartJob", "POST", _V1 + "/{number}/start", routes_v1.start_job),
    Route(Api.V1, "v1.ListJobs", "GET", _V1, routes_v1.list_jobs),
    Route(Api.V2, "ListProjects", "GET", _V2, routes_v2.list_projects),
    Route(Api.V2, "GetProject", "GET", _V2 + "/{project_id}", routes_v2.get_project),
    Route(Api.V2, "ListAllJobs", "GET", "/api/v2/jobs", routes_v2.list_all_jobs),
    Route(Api.V2, "ListJobs", "GET", _JOBS, routes_v2.list_jobs),
    Route(Api.V2, "CreateJob", "POST", _JOBS, job_changes.create_job),
    Route(Api.V2, "GetJob", "GET", _JOB, routes_v2.get_job),
    Route(Api.V2, "UpdateJob", "PATCH", _JOB, job_changes.update_job),
    Route(Api.V2, "DeleteJob", "DELETE", _JOB, job_changes.delete_job),
    Route(Api.V2, "ListJobRuns", "GET", _RUNS, routes_v2.list_job_runs),
    Route(Api.V2, "CreateJobRun", "POST", _RUNS, routes_v2.create_job_run),
    Route(Api.V2, "GetJobRun", "GET", _RUNS + "/{run_id}", routes_v2.get_job_run),
    Route(Api.V2, "StopJobRun", "POST", _RUNS + "/{run_id}:stop", routes_v2.stop_job_run),
    Route(Api.V2, "ListUsage", "GET", "/api/v2/usage", routes_v2.list_usage),
    Route(Api.V2, "ValidateAPIKey", "POST", "/api/v2/auth/validate_key", routes_v2.validate_key),
    Route(Api.V2, "Swagger", "GET", "/api/v2/swagger.json", routes_v2.swagger),
)

OPERATIONS = tuple(route.id for route in CML_ROUTES)


def control_routes(control: Control) -> tuple[Route, ...]:
    """The emulator's own paths."""
    faults, runs = "/emulator/faults", "/emulator/runs"
    return (
        Route(Api.CONTROL, "AddFault", "POST", faults, control.add_fault),
        Route(Api.CONTROL, "ListFaults", "GET", faults, control.list_faults),
        Route(Api.CONTROL, "ClearFaults", "DELETE", faults, control.clear_faults),
        Route(Api.CONTROL, "RemoveFault", "DELETE", faults + "/{id}", control.remove_fault),
        Route(Api.CONTROL, "ReadLedger", "GET", "/emulator/ledger", control.read_ledger),
        Route(Api.CONTROL, "AddRun", "POST", runs, control.add_run),
        Route(Api.CONTROL, "SetStatus", "POST", runs + "/{id}/status", control.set_status),
    )


def find(routes: tuple[Route, ...], method: str, raw_path: str) -> tuple[Route, Mapping[str, str]] | int:
    """The route of a request and its path parameters; or 404, or 405."""
    # Only the colon before a verb is decoded early: a client may send it either way.
    segments = re.sub("%3a", ":", raw_path, flags=re.IGNORECASE)
    status = 404
    for route in routes:
        parameters = route.match(segments)
        if parameters is None:
            continue
        if route.method == method:
            return route, parameters
        status = 405
    return status
