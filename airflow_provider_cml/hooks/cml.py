"""The only client: from an Airflow connection to values of CML's API.

The law: the hook alone turns a conversation into a value, on the transport that suits where it is called: requests for
the worker, aiohttp for an event loop (the methods with an `a` before their name). Nothing is read from Airflow's
database before the first call.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_provider_cml.api import v2
from airflow_provider_cml.api.conversations import by_name, finding
from airflow_provider_cml.api.endpoint import ApiVersion
from airflow_provider_cml.api.transports import AsyncTransport, Transport
from airflow_provider_cml.compat import BaseHook, aget_connection, mask_secret
from airflow_provider_cml.connection import CONNECTION_TYPE, FIELD_BEHAVIOUR, FORM, HOOK_NAME, read_connection
from airflow_provider_cml.hooks.connection_test import test_connection
from airflow_provider_cml.hooks.form import form_widgets

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from airflow_provider_cml.api.conversations.finding import JobIds
    from airflow_provider_cml.api.endpoint import Endpoint
    from airflow_provider_cml.api.job_fields import JobFields
    from airflow_provider_cml.api.models import Job, JobRun, Project
    from airflow_provider_cml.api.wire import Exchange, Note
    from airflow_provider_cml.compat import Connection
    from airflow_provider_cml.connection import Configuration

T = TypeVar("T")


class CmlHook(BaseHook):
    """Talk to a Cloudera Machine Learning workspace.

    Projects and jobs are given as in `CmlRunJobOperator`: by id, which costs no request, or by name. Methods raise
    the errors of `airflow_provider_cml.api.errors`; values of runs, jobs and projects never hold an environment,
    because CML shows passwords in it.

    :param cml_conn_id: the Airflow connection, of type `cml`.
    """

    conn_name_attr = "cml_conn_id"
    default_conn_name = "cml_default"
    conn_type = CONNECTION_TYPE
    hook_name = HOOK_NAME

    def __init__(self, cml_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cml_conn_id = cml_conn_id
        self._async_transports: dict[asyncio.AbstractEventLoop, AsyncTransport] = {}

    # ---------------------------------------------------------------- the connection

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form's own fields, for Airflow 2.11 to 3.1; newer ones read the provider's metadata."""
        return form_widgets(FORM)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Labels and hints of the standard fields, for Airflow 2.11 to 3.1."""
        return {name.replace("-", "_"): value for name, value in FIELD_BEHAVIOUR.items()}

    def get_conn(self) -> Transport:
        """The transport to the workspace; made at the first call, then kept."""
        return self._transport

    @cached_property
    def endpoint(self) -> Endpoint:
        """Where the connection points, and with what credential.

        :raises CmlInputError: a field of the connection cannot be used.
        """
        return self._read(self.get_connection(self.cml_conn_id))

    @cached_property
    def _transport(self) -> Transport:
        return Transport(self.endpoint, renew=lambda: self._read(self.get_connection(self.cml_conn_id), warn=False))

    def close(self) -> None:
        """Close the connections of the worker's transport."""
        if "_transport" in self.__dict__:
            self._transport.close()

    async def aread_endpoint(self, *, warn: bool = True) -> Endpoint:
        """Where the connection points now; a look-up at every call, which need not `warn` every time."""
        return self._read(await aget_connection(self.cml_conn_id), warn=warn)

    async def aget_conn(self) -> AsyncTransport:
        """The transport for this event loop; made at the first call, then kept. `aclose` ends it."""
        loop = asyncio.get_running_loop()
        if loop not in self._async_transports:
            endpoint = await self.aread_endpoint()
            for over in [former for former in self._async_transports if former.is_closed()]:
                await self._async_transports.pop(over).close()
            # Another call may have been quicker.
            fresh = AsyncTransport(endpoint, renew=lambda: self.aread_endpoint(warn=False))
            self._async_transports.setdefault(loop, fresh)
        return self._async_transports[loop]

    async def __aenter__(self) -> Self:
        """The hook itself, in `async with CmlHook() as hook:` of an `async` task."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of this event loop's transport."""
        transport = self._async_transports.pop(asyncio.get_running_loop(), None)
        if transport is not None:
            await transport.close()

    def test_connection(self) -> tuple[bool, str]:
        """Whether the workspace answers and takes the key; starts nothing. Airflow's Test button."""
        return test_connection(lambda: self._parse(self.get_connection(self.cml_conn_id)))

    @property
    def is_v1(self) -> bool:
        """The connection is for API v1, which can only start."""
        return self.endpoint.api_version is ApiVersion.V1

    # ---------------------------------------------------------------- projects

    def list_projects(self) -> list[Project]:
        """List all projects the key's user can see, public ones of others included."""
        return self._perform(by_name.list_projects())

    async def alist_projects(self) -> list[Project]:
        """As `list_projects`, awaited."""
        return await self._aperform(by_name.list_projects())

    def get_project(self, project_id: str) -> Project:
        """Return one project, by id."""
        return self._perform(by_name.get_project(project_id))

    async def aget_project(self, project_id: str) -> Project:
        """As `get_project`, awaited."""
        return await self._aperform(by_name.get_project(project_id))

    def find_project(self, project: str) -> Project:
        """Return the one project that `project` means.

        :param project: id, `owner/name`, `owner/slug`, or a name only one visible project has.
        :raises CmlLookupError: none or several; the message lists them.
        """
        return self._perform(finding.find_project(project))

    async def afind_project(self, project: str) -> Project:
        """As `find_project`, awaited."""
        return await self._aperform(finding.find_project(project))

    # ---------------------------------------------------------------- jobs

    def list_jobs(self, project: str) -> list[Job]:
        """List all jobs of a project."""
        return self._perform(by_name.list_jobs(project))

    async def alist_jobs(self, project: str) -> list[Job]:
        """As `list_jobs`, awaited."""
        return await self._aperform(by_name.list_jobs(project))

    def get_job(self, project: str, job: str) -> Job:
        """Return one job, by id or exact name."""
        return self._perform(by_name.get_job(project, job))

    async def aget_job(self, project: str, job: str) -> Job:
        """As `get_job`, awaited."""
        return await self._aperform(by_name.get_job(project, job))

    def find_job(self, project: str, job: str) -> Job:
        """Return the one job with this exact name in the project.

        :raises CmlLookupError: none or several; the message lists them.
        """
        return self._perform(by_name.find_job(project, job))

    async def afind_job(self, project: str, job: str) -> Job:
        """As `find_job`, awaited."""
        return await self._aperform(by_name.find_job(project, job))

    def find_job_ids(self, project: str, job: str) -> JobIds:
        """Return the ids of a job given by ids or names; ids cost no request."""
        return self._perform(finding.find_job_ids(project, job))

    async def afind_job_ids(self, project: str, job: str) -> JobIds:
        """As `find_job_ids`, awaited."""
        return await self._aperform(finding.find_job_ids(project, job))

    def create_job(self, project: str, fields: JobFields) -> Job:
        """Make a job, by one POST that is never repeated: a lost answer raises although the job may be there."""
        return self._perform(by_name.create_job(project, fields))

    async def acreate_job(self, project: str, fields: JobFields) -> Job:
        """As `create_job`, awaited."""
        return await self._aperform(by_name.create_job(project, fields))

    def update_job(self, project: str, job: str, fields: JobFields) -> Job:
        """Change a job in what `fields` give, by one PATCH that is never repeated."""
        return self._perform(by_name.update_job(project, job, fields))

    async def aupdate_job(self, project: str, job: str, fields: JobFields) -> Job:
        """As `update_job`, awaited."""
        return await self._aperform(by_name.update_job(project, job, fields))

    def delete_job(self, project: str, job: str) -> None:
        """Remove a job with its history."""
        self._perform(by_name.delete_job(project, job))

    async def adelete_job(self, project: str, job: str) -> None:
        """As `delete_job`, awaited."""
        await self._aperform(by_name.delete_job(project, job))

    # ---------------------------------------------------------------- runs

    def create_job_run(
        self, project: str, job: str, environment: Mapping[str, Any] | None = None, arguments: str | None = None
    ) -> JobRun:
        """Start a run, by one POST that is never repeated, and return it as it then is.

        This is the bare call: a lost answer raises `CmlUnavailableError` although a run may exist. `CmlRunJobOperator`
        starts exactly once.

        :param environment: variables that override the job's and the project's.
        :param arguments: one string; the script finds it in JOB_ARGUMENTS.
        :raises CmlJobBusyError: another run of the job is active. It may also come back as a run that is SKIPPED.
        """
        return self._perform(by_name.create_job_run(project, job, environment, arguments))

    async def acreate_job_run(
        self, project: str, job: str, environment: Mapping[str, Any] | None = None, arguments: str | None = None
    ) -> JobRun:
        """As `create_job_run`, awaited."""
        return await self._aperform(by_name.create_job_run(project, job, environment, arguments))

    def get_job_run(self, project: str, job: str, run_id: str) -> JobRun:
        """Return one run."""
        return self._perform(by_name.get_job_run(project, job, run_id))

    async def aget_job_run(self, project: str, job: str, run_id: str) -> JobRun:
        """As `get_job_run`, awaited."""
        return await self._aperform(by_name.get_job_run(project, job, run_id))

    def list_job_runs(self, project: str, job: str) -> list[JobRun]:
        """List all runs of a job, newest first."""
        return self._perform(by_name.list_job_runs(project, job))

    async def alist_job_runs(self, project: str, job: str) -> list[JobRun]:
        """As `list_job_runs`, awaited."""
        return await self._aperform(by_name.list_job_runs(project, job))

    def stop_job_run(self, project: str, job: str, run_id: str) -> JobRun:
        """Stop a run and look until it is over, two minutes at most. One that is over gets no request.

        :returns: the run as last seen.
        """
        return self._perform(by_name.stop_job_run(project, job, run_id))

    async def astop_job_run(self, project: str, job: str, run_id: str) -> JobRun:
        """As `stop_job_run`, awaited."""
        return await self._aperform(by_name.stop_job_run(project, job, run_id))

    def wait_for_job_run(
        self, project: str, job: str, run_id: str, poll_interval: float = 30.0, timeout: float | None = None
    ) -> JobRun:
        """Wait until a run is over and return it, whatever its ending.

        :param poll_interval: the longest gap between two looks, seconds.
        :param timeout: seconds to wait; None is without limit. The run is not stopped.
        :raises CmlWaitTimeoutError: the time is over, the run is not.
        """
        return self._perform(by_name.wait_for_job_run(project, job, run_id, poll_interval, timeout))

    async def await_for_job_run(
        self,
        project: str,
        job: str,
        run_id: str,
        poll_interval: float = 30.0,
        timeout: float | None = None,  # noqa: ASYNC109 - the same call as in a worker
    ) -> JobRun:
        """As `wait_for_job_run`, awaited."""
        return await self._aperform(by_name.wait_for_job_run(project, job, run_id, poll_interval, timeout))

    # ---------------------------------------------------------------- all else

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Make any other call of API v2 and return the answer's JSON object.

        Where CML echoes passwords, they are in it.

        :param path: begins with /api/; an address with a host is refused before a connection opens.
        :raises CmlInputError: the path is not one of this workspace's API.
        """
        return self._perform(v2.request(method, path, query=query, json=json))

    async def arequest(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """As `request`, awaited."""
        return await self._aperform(v2.request(method, path, query=query, json=json))

    def start_job(self, project: str, number: str, environment: Mapping[str, str] | None = None) -> str:
        """Start a job through API v1, which can do no more, and return the engine id.

        :param project: `owner/slug`, as in the project's address.
        :param number: the number in the job's address.
        :param environment: variables that override the job's and the project's.
        """
        return self._perform(by_name.start_job(project, number, environment))

    async def astart_job(self, project: str, number: str, environment: Mapping[str, str] | None = None) -> str:
        """As `start_job`, awaited."""
        return await self._aperform(by_name.start_job(project, number, environment))

    # ---------------------------------------------------------------- inside

    def _perform(self, exchange: Exchange[T]) -> T:
        return self.get_conn().perform(exchange, self._tell)

    async def _aperform(self, exchange: Exchange[T]) -> T:
        return await (await self.aget_conn()).perform(exchange, self._tell)

    def _parse(self, connection: Connection) -> Configuration:
        configuration = read_connection(connection)
        for secret in configuration.endpoint.secrets:
            mask_secret(secret)
        return configuration

    def _read(self, connection: Connection, *, warn: bool = True) -> Endpoint:
        configuration = self._parse(connection)
        if warn:
            for warning in configuration.warnings:
                self.log.warning("Connection %s: %s", self.cml_conn_id, warning)
        return configuration.endpoint

    def _tell(self, note: Note) -> None:
        (self.log.warning if note.warning else self.log.info)("%s", note.text)
