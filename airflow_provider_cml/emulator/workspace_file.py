"""workspace.toml: a workspace declared in a file.

Law: every field is known and of its type, or the error names it; scripts are looked for when the file is
read, not when the first run fails.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from airflow_provider_cml.emulator.objects import Job, Life, Project, User
from airflow_provider_cml.emulator.scripts import ScriptError, locate
from airflow_provider_cml.emulator.workspace import Workspace

FILE_NAME = "workspace.toml"

EXAMPLE = """\
[[projects]]
owner = "alice"
name = "Risk Analysis"

[[projects.jobs]]
number = 208
name = "nightly VaR"
script = "value_at_risk.py"    # in alice/risk-analysis/
"""

_NUMBER: tuple[type, ...] = (int, float)
_WORKSPACE = {
    "user": str,
    "scheduling": _NUMBER,
    "starting": _NUMBER,
    "stopping": _NUMBER,
    "busy": int,
    "engine_ids_are_run_ids": bool,
    "page_size_cap": int,
}
_USER = {"username": str, "name": str, "email": str, "password": str}
_PROJECT = {
    "owner": str,
    "name": str,
    "slug": str,
    "environment": dict,
    "visibility": str,
    "member": bool,
    "description": str,
    "jobs": list,
}
_JOB = {
    "number": int,
    "name": str,
    "script": str,
    "arguments": str,
    "environment": dict,
    "timeout": int,
    "kill_on_timeout": bool,
    "parent": int,
    "schedule": str,
    "timezone": str,
    "paused": bool,
    "kernel": str,
    "runtime_identifier": str,
    "cpu": _NUMBER,
    "memory": _NUMBER,
    "nvidia_gpu": int,
    "retry_enabled": bool,
    "max_retry": int,
    "retry_delay": int,
    "retry_for_script_failure": bool,
    "retry_for_system_failure": bool,
    "retry_for_timedout_runs": bool,
    "retry_for_skipped_runs": bool,
    "life": dict,
}
_LIFE = {
    "scheduling": _NUMBER,
    "starting": _NUMBER,
    "running": _NUMBER,
    "ending": str,
    "failure": str,
    "message": str,
    "oom_killed": bool,
}
_WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    dict: "a table",
    list: "a list of tables",
}


class WorkspaceFileError(ValueError):
    """The file cannot be used: which field of it, and why."""


def load_workspace(folder: str | Path) -> Workspace:
    """The workspace that a folder's workspace.toml declares."""
    root = Path(folder)
    path = root / FILE_NAME
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorkspaceFileError(f"{path} does not exist; the smallest one is\n\n{EXAMPLE}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise WorkspaceFileError(f"{path}: {error}") from None
    try:
        return _workspace(root, document)
    except WorkspaceFileError as error:
        raise WorkspaceFileError(f"{path}: {error}") from None


def _workspace(root: Path, document: dict[str, Any]) -> Workspace:
    _check("", document, {"workspace": dict, "users": list, "projects": list}, ("projects",))
    settings = _check("workspace", document.get("workspace", {}), _WORKSPACE)
    settings.setdefault("scheduling", 0.2)
    settings.setdefault("starting", 0.3)
    settings.setdefault("stopping", 1.0)
    if settings.get("busy", 400) not in (200, 400, 409, 412):
        raise WorkspaceFileError("workspace.busy: 400, 409, 412, or 200 for a SKIPPED run")
    workspace = Workspace(root, **settings)
    for place, table in _tables("users", document.get("users", [])):
        fields = _check(place, table, _USER, ("username",))
        workspace.add_user(_segment(f"{place}.username", fields.pop("username")), **fields)
    owners = {table.get("owner") for _, table in _tables("projects", document["projects"])}
    if "user" in settings and settings["user"] not in owners | workspace.users.keys():
        raise WorkspaceFileError(f"workspace.user: there is no user or owner {settings['user']!r}")
    parents: list[tuple[str, Job, int]] = []
    for place, table in _tables("projects", document["projects"]):
        _read_project(workspace, place, table, parents)
    for place, job, number in parents:
        siblings = workspace.jobs_of(workspace.projects[job.project_id])
        found = [other for other in siblings if other.number == number and other is not job]
        if not found:
            raise WorkspaceFileError(f"{place}.parent: this project has no other job with the number {number}")
        job.parent_id = found[0].id
    return workspace


def _read_project(workspace: Workspace, place: str, table: dict[str, Any], parents: list[tuple[str, Job, int]]) -> None:
    fields = _check(place, table, _PROJECT, ("owner", "name"))
    owner: str | User = _segment(f"{place}.owner", fields.pop("owner"))
    if fields.get("slug"):
        _segment(f"{place}.slug", fields["slug"])
    if fields.get("visibility", "private") not in ("private", "organization", "public"):
        raise WorkspaceFileError(f'{place}.visibility: "private", "organization" or "public"')
    _strings(f"{place}.environment", fields.get("environment", {}))
    jobs = fields.pop("jobs", [])
    try:
        project = workspace.add_project(str(owner), fields.pop("name"), **fields)
    except ValueError as error:
        raise WorkspaceFileError(f"{place}: {error}") from None
    for job_place, job_table in _tables(f"{place}.jobs", jobs):
        _read_job(workspace, project, job_place, job_table, parents)


def _read_job(
    workspace: Workspace,
    project: Project,
    place: str,
    table: dict[str, Any],
    parents: list[tuple[str, Job, int]],
) -> None:
    fields = _check(place, table, _JOB, ("number", "name"))
    _strings(f"{place}.environment", fields.get("environment", {}))
    life: Life | None = None
    if "life" in fields:
        life = Life(**_check(f"{place}.life", fields.pop("life"), _LIFE))
    elif "script" not in fields:
        raise WorkspaceFileError(f"{place}.script: a job needs a script, or a life")
    else:
        try:
            locate(workspace.root, workspace.folder_of(project), fields["script"])
        except ScriptError:
            folder = f"{project.owner.username}/{project.slug}"
            message = f"{place}.script: {fields['script']!r} is no file in {folder} of the workspace's folder"
            raise WorkspaceFileError(message) from None
    parent = fields.pop("parent", None)
    try:
        job = workspace.add_job(project, fields.pop("name"), number=fields.pop("number"), life=life, **fields)
    except ValueError as error:
        raise WorkspaceFileError(f"{place}.number: {error}") from None
    if parent is not None:
        parents.append((place, job, parent))


def _tables(place: str, items: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise WorkspaceFileError(f"{place}[{index}]: must be a table")
    return [(f"{place}[{index}]", item) for index, item in enumerate(items)]


def _check(place: str, table: dict[str, Any], known: dict[str, Any], needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """A copy of a table whose fields are all known and of their types."""
    prefix = f"{place}." if place else ""
    for name, value in table.items():
        if name not in known:
            raise WorkspaceFileError(f"{prefix}{name}: no such field; there are {', '.join(known)}")
        wanted = known[name]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise WorkspaceFileError(f"{prefix}{name}: must be {_WORDS.get(wanted, 'a number')}")
        if isinstance(value, int | float) and value < 0:
            raise WorkspaceFileError(f"{prefix}{name}: must not be negative")
    for name in needed:
        if not table.get(name):
            raise WorkspaceFileError(f"{prefix}{name}: is missing")
    return dict(table)


def _strings(place: str, environment: dict[str, Any]) -> None:
    for name, value in environment.items():
        if not isinstance(value, str):
            raise WorkspaceFileError(f"{place}.{name}: must be text, as all environment variables are")


def _segment(place: str, text: str) -> str:
    """A name that is part of a path, both of a URL and of a folder."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*", text):
        raise WorkspaceFileError(f"{place}: letters, digits and _ . @ - only, not {text!r}")
    return text
