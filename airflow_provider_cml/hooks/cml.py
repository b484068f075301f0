"""The only client: from an Airflow connection to values of CML's API.

The law: the hook alone turns a conversation into a value, on the transport that suits where it is called: requests for
the worker, aiohttp for an event loop (the methods with an `a` before their name). Nothing is read from Airflow's
database before the first call.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_provider_cml.api.conversations import by_name
from airflow_provider_cml.api.endpoint import ApiVersion
from airflow_provider_cml.api.transports import AsyncTransport, Transport
from airflow_provider_cml.compat import BaseHook, aget_connection, mask_secret
from airflow_provider_cml.connection import CONNECTION_TYPE, FIELD_BEHAVIOUR, FORM, HOOK_NAME, read_connection
from airflow_provider_cml.hooks.connection_test import test_connection
from airflow_provider_cml.hooks.form import form_widgets
from airflow_provider_cml.hooks.twins import twins

if TYPE_CHECKING:
    from types import TracebackType

    from airflow_provider_cml.api.endpoint import Endpoint
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

    # ---------------------------------------------------------------- what can be asked, in a worker and awaited

    list_projects, alist_projects = twins(by_name.list_projects)
    get_project, aget_project = twins(by_name.get_project)
    find_project, afind_project = twins(by_name.find_project)

    list_jobs, alist_jobs = twins(by_name.list_jobs)
    get_job, aget_job = twins(by_name.get_job)
    find_job, afind_job = twins(by_name.find_job)
    find_job_ids, afind_job_ids = twins(by_name.find_job_ids)
    create_job, acreate_job = twins(by_name.create_job)
    update_job, aupdate_job = twins(by_name.update_job)
    delete_job, adelete_job = twins(by_name.delete_job)

    create_job_run, acreate_job_run = twins(by_name.create_job_run)
    get_job_run, aget_job_run = twins(by_name.get_job_run)
    list_job_runs, alist_job_runs = twins(by_name.list_job_runs)
    stop_job_run, astop_job_run = twins(by_name.stop_job_run)
    wait_for_job_run, await_for_job_run = twins(by_name.wait_for_job_run)

    request, arequest = twins(by_name.request)
    start_job, astart_job = twins(by_name.start_job)

    @property
    def is_v1(self) -> bool:
        """The connection is for API v1, which can only start."""
        return self.endpoint.api_version is ApiVersion.V1

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
