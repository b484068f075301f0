"""The only client: from an Airflow connection to values of CML's API.

The law: the hook alone turns a conversation into a value, on the transport that suits where it is called: requests for
the worker, aiohttp for an event loop (the methods with an `a` before their name). Nothing is read from Airflow's
database before the first call.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_cml.api import v1, v2
from airflow_provider_cml.api.conversations import finding, waiting
from airflow_provider_cml.api.endpoint import ApiVersion
from airflow_provider_cml.api.environment import as_text
from airflow_provider_cml.api.transports import AsyncTransport, Transport
from airflow_provider_cml.compat import BaseHook, aget_connection, mask_secret
from airflow_provider_cml.connection import CONNECTION_TYPE, FIELD_BEHAVIOUR, FORM, HOOK_NAME, read_connection
from airflow_provider_cml.hooks.connection_test import test_connection
from airflow_provider_cml.hooks.form import form_widgets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.conversations.finding import JobIds
    from airflow_provider_cml.api.endpoint import Endpoint
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
        self._async_transport: AsyncTransport | None = None

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

    async def aread_endpoint(self) -> Endpoint:
        """Where the connection points now; a look-up at every call."""
        return self._read(await aget_connection(self.cml_conn_id))

    async def aget_conn(self) -> AsyncTransport:
        """The transport for this event loop; made at the first call, then kept. `aclose` ends it."""
        if self._async_transport is None:
            endpoint = await self.aread_endpoint()
            self._async_transport = AsyncTransport(endpoint, renew=self._arenew)
        return self._async_transport

    async def aclose(self) -> None:
        """Close the connections of the event loop's transport."""
        if self._async_transport is not None:
            await self._async_transport.close()
            self._async_transport = None

    def test_connection(self) -> tuple[bool, str]:
        """Whether the workspace answers and takes the key; starts nothing. Airflow's Test button."""
        return test_connection(lambda: self._parse(self.get_connection(self.cml_conn_id)))

    # ---------------------------------------------------------------- projects and jobs

    def list_projects(self) -> list[Project]:
        """All projects the key's user can see, public ones of others included."""
        return self._perform(
            finding.all_pages(lambda token: v2.list_projects(include_public_projects=True, page_token=token))
        )

    def get_project(self, project_id: str) -> Project:
        """One project, by id."""
        return self._perform(v2.get_project(project_id))

    def find_project(self, project: str) -> Project:
        """The one project with this id, `owner/name`, `owner/slug` or unique name.

        :raises CmlLookupError: none or several; the message lists them.
        """
        return self._perform(finding.find_project(project))

    def list_jobs(self, project: str) -> list[Job]:
        """All jobs of a project."""
        project_id = self._project_id(project)
        return self._perform(finding.all_pages(lambda token: v2.list_jobs(project_id, page_token=token)))

    def get_job(self, project: str, job: str) -> Job:
        """One job, by id or exact name."""
        ids = self.find_job_ids(project, job)
        return self._perform(v2.get_job(ids.project_id, ids.job_id))

    def find_job(self, project: str, job: str) -> Job:
        """The one job with this exact name in the project.

        :raises CmlLookupError: none or several; the message lists them.
        """
        return self._perform(finding.find_job(self._project_id(project), job, project))

    def create_job(self, project: str, **fields: Any) -> Job:
        """Make a job.

        :param fields: those of CreateJobRequest in CML's published document: `name` and `script` at least,
            `runtime_identifier` in projects with ML Runtimes.
        """
        return self._perform(v2.create_job(self._project_id(project), fields))

    def update_job(self, project: str, job: str, **fields: Any) -> Job:
        """Change a job.

        :param fields: those of Job in CML's published document. `environment` is a JSON string there.
        """
        ids = self.find_job_ids(project, job)
        return self._perform(v2.update_job(ids.project_id, ids.job_id, fields))

    def delete_job(self, project: str, job: str) -> None:
        """Remove a job with its history."""
        ids = self.find_job_ids(project, job)
        self._perform(v2.delete_job(ids.project_id, ids.job_id))

    def find_job_ids(self, project: str, job: str) -> JobIds:
        """The ids of a job; no request where both are ids."""
        return self._perform(finding.find_job_ids(project, job))

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
        variables = as_text(environment)
        ids = self.find_job_ids(project, job)
        return self._perform(v2.create_job_run(ids.project_id, ids.job_id, environment=variables, arguments=arguments))

    def get_job_run(self, project: str, job: str, run_id: str) -> JobRun:
        """One run."""
        ids = self.find_job_ids(project, job)
        return self._perform(v2.get_job_run(ids.project_id, ids.job_id, run_id))

    def list_job_runs(self, project: str, job: str) -> list[JobRun]:
        """All runs of a job, newest first."""
        ids = self.find_job_ids(project, job)
        return self._perform(
            finding.all_pages(lambda token: v2.list_job_runs(ids.project_id, ids.job_id, page_token=token))
        )

    def stop_job_run(self, project: str, job: str, run_id: str) -> JobRun:
        """Stop a run and look until it is over, two minutes at most. One that is over gets no request.

        :returns: the run as last seen.
        """
        ids = self.find_job_ids(project, job)
        return self._perform(waiting.stop_and_confirm(ids, run_id))

    def wait_for_job_run(
        self, project: str, job: str, run_id: str, poll_interval: float = 30.0, timeout: float | None = None
    ) -> JobRun:
        """Wait until a run is over and return it, whatever its ending.

        :param poll_interval: the longest gap between two looks, seconds.
        :param timeout: seconds to wait; None is without limit. The run is not stopped.
        :raises CmlWaitTimeoutError: the time is over, the run is not.
        """
        ids = self.find_job_ids(project, job)
        return self._perform(waiting.wait_for_job_run(waiting.Wait(ids, run_id, poll_interval, timeout)))

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Any other call of API v2; returns the answer's JSON, passwords included where CML shows them.

        :param path: must begin with /api/; anything else is refused before a connection opens.
        """
        return self._perform(v2.request(method, path, query=query, json=json))

    # ---------------------------------------------------------------- API v1

    def start_job(self, project: str, number: str, environment: Mapping[str, str] | None = None) -> str:
        """Start a job through API v1, which can do no more; returns the engine id.

        :param project: `owner/slug`, as in the project's address.
        :param number: the number in the job's address.
        :param environment: variables that override the job's and the project's.
        """
        owner, slug = v1.split_project(project)
        return self._perform(v1.start_job(owner, slug, number, as_text(environment)))

    @property
    def is_v1(self) -> bool:
        """The connection is for API v1, which can only start."""
        return self.endpoint.api_version is ApiVersion.V1

    # ---------------------------------------------------------------- in an event loop

    async def aget_job_run(self, project: str, job: str, run_id: str) -> JobRun:
        """One run."""
        ids = await self._aperform(finding.find_job_ids(project, job))
        return await self._aperform(v2.get_job_run(ids.project_id, ids.job_id, run_id))

    # ---------------------------------------------------------------- inside

    def _project_id(self, project: str) -> str:
        return project if finding.is_id(project) else self.find_project(project).id

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

    async def _arenew(self) -> Endpoint:
        return self._read(await aget_connection(self.cml_conn_id), warn=False)

    def _tell(self, note: Note) -> None:
        (self.log.warning if note.warning else self.log.info)("%s", note.text)
