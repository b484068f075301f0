"""The emulator on the wire: from an HTTP request to a call, from an answer to bytes.

Law: only this module and `emulator` know aiohttp. Nothing is done for a foreign host name or without a key.
"""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_provider_cml.emulator.calls import Answer, Call, RefusalError, snake_case
from airflow_provider_cml.emulator.faults import Kind
from airflow_provider_cml.emulator.routes_control import Control
from airflow_provider_cml.emulator.routing import CML_ROUTES, control_routes, find
from airflow_provider_cml.emulator.spoiling import BEFORE_EFFECT, Api, error_answer, spoilt

if TYPE_CHECKING:
    from airflow_provider_cml.emulator.faults import Fault, Faults
    from airflow_provider_cml.emulator.keys import Keys
    from airflow_provider_cml.emulator.ledger import Ledger
    from airflow_provider_cml.emulator.routing import Route
    from airflow_provider_cml.emulator.workspace import Workspace

log = logging.getLogger(__name__)


class Server:
    """Answers the requests of one emulator."""

    def __init__(self, workspace: Workspace, keys: Keys, faults: Faults, ledger: Ledger) -> None:
        self._workspace = workspace
        self._keys = keys
        self._faults = faults
        self._ledger = ledger
        self._routes = CML_ROUTES + control_routes(Control(faults, ledger))
        self._late: set[asyncio.TimerHandle] = set()
        self.address = ""

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(client_max_size=4 * 2**20)
        application.router.add_route("*", "/{path:.*}", self.handle)
        return application

    def close(self) -> None:
        """Effects that were to come late will not come."""
        for handle in self._late:
            handle.cancel()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, and enter it in the ledger."""
        began = time.monotonic()
        if not self._is_own_name(request.headers.get("Host", "")):
            # A page of another site, whose name was made to point here, must not reach the workspace.
            return web.Response(status=HTTPStatus.MISDIRECTED_REQUEST, text="This host is not served here.\n")
        found = find(self._routes, request.method, request.rel_url.raw_path)
        if isinstance(found, int):
            # INFER: grpc-gateway v1 answers in plain text here.
            self._enter(request, "unknown", found, None, began)
            return web.Response(status=found, text=HTTPStatus(found).phrase)
        route, parameters = found
        body = await request.read()
        query = {snake_case(name): value for name, value in request.query.items()}
        text = f"{request.rel_url}\n{body.decode(errors='replace')}"
        is_control = route.api is Api.CONTROL
        fault, behaviours = (None, {}) if is_control else self._faults.take(route.id, text)
        call = Call(
            self._workspace,
            route.id,
            parameters,
            query,
            body,
            request.headers.get("Content-Type", ""),
            behaviours,
            self.address,
        )
        authorization = request.headers.get("Authorization", "")
        answer = self._answer(route, call, authorization, fault)
        if not is_control:
            kinds = [*([fault.kind] if fault else []), *sorted(behaviours)]
            self._enter(request, route.id, answer.status if answer else None, "+".join(kinds) or None, began)
        if fault is not None and fault.kind is Kind.DELAY_ANSWER:
            await asyncio.sleep(fault.seconds)
        if answer is None:
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=500)
        return await self._send(request, answer)

    def _is_own_name(self, host: str) -> bool:
        name, _, port = host.partition(":")
        return name.lower() in ("127.0.0.1", "localhost") and port in ("", self.address.rpartition(":")[2])

    def _enter(self, request: web.Request, operation: str, status: int | None, fault: str | None, began: float) -> None:
        url = request.rel_url
        self._ledger.record(
            operation,
            request.method,
            url.raw_path,
            url.raw_query_string,
            status=status,
            fault=fault,
            began=began,
        )

    def _perform(self, route: Route, call: Call, authorization: str) -> Answer:
        """The effect of a call, and its answer."""
        try:
            if route.api is Api.V1:
                self._keys.check_v1(authorization, self._workspace.users)
            else:
                self._keys.check_v2(authorization)
            with self._workspace.lock:
                self._workspace.advance()
                return route.operation(call)
        except RefusalError as refusal:
            return error_answer(route.api, refusal.status, refusal.message, refusal.code)

    def _answer(self, route: Route, call: Call, authorization: str, fault: Fault | None) -> Answer | None:
        """The effect of a call, if a fault leaves it one, and what is answered. None: nothing is."""
        if fault is None:
            return self._perform(route, call, authorization)
        if fault.kind is Kind.LATE_EFFECT:
            self._perform_later(route, call, authorization, fault.seconds)
        answer = Answer() if fault.kind in BEFORE_EFFECT else self._perform(route, call, authorization)
        return spoilt(fault, route.api, self.address, answer)

    def _perform_later(self, route: Route, call: Call, authorization: str, seconds: float) -> None:
        def effect() -> None:
            self._late.discard(handle)
            answer = self._perform(route, call, authorization)
            log.info("late effect of %s: %s", route.id, answer.status)

        handle = asyncio.get_running_loop().call_later(seconds, effect)
        self._late.add(handle)

    @staticmethod
    async def _send(request: web.Request, answer: Answer) -> web.StreamResponse:
        body = answer.body().encode()
        headers = {**answer.headers, "Content-Type": answer.content_type}
        if not request.path.startswith("/api/v1/"):
            return web.Response(status=answer.status, headers=headers, body=body)
        # DOC: v1 answers chunked.
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body)
        await response.write_eof()
        return response
