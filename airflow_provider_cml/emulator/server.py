"""The emulator on the wire: from an HTTP request to a call, from an answer to bytes, and what faults do between.

Law: this is the only module that knows aiohttp. Host and key are checked before anything else is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from email.utils import formatdate

from aiohttp import web

from airflow_provider_cml.emulator.calls import (
    HTTP_OF_CODE,
    Answer,
    Call,
    RefusalError,
    error_document,
    snake_case,
)
from airflow_provider_cml.emulator.faults import Fault, Faults, Kind
from airflow_provider_cml.emulator.keys import Keys
from airflow_provider_cml.emulator.ledger import Ledger
from airflow_provider_cml.emulator.routes_control import Control
from airflow_provider_cml.emulator.routing import CML_ROUTES, Api, Route, control_routes, find
from airflow_provider_cml.emulator.workspace import Workspace

log = logging.getLogger(__name__)

_CODE_OF_HTTP = {status: code for code, status in HTTP_OF_CODE.items()} | {
    400: 3,
    409: 10,
    500: 13,
    412: 9,
    502: 14,
}

PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Cloudera</h1><form></form></body></html>"


def _error(api: Api, status: int, message: str, code: int | None = None) -> Answer:
    if api is Api.V1:
        return Answer({"message": message}, status, content_type="application/json; charset=utf-8")
    return Answer(error_document(_CODE_OF_HTTP.get(status, 2) if code is None else code, message), status)


def _retry_after(fault: Fault) -> dict[str, str]:
    match fault.retry_after:
        case None:
            return {}
        case str(text) if text.startswith("date+"):
            return {"Retry-After": formatdate(time.time() + float(text.removeprefix("date+")), usegmt=True)}
        case value:
            return {"Retry-After": str(value)}


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
            return web.Response(status=421, text="This host name is not served here.\n")
        found = find(self._routes, request.method, request.rel_url.raw_path)
        if isinstance(found, int):
            # INFER: grpc-gateway v1 answers in plain text here.
            self._enter(request, "unknown", found, None, began)
            return web.Response(status=found, text="Not Found" if found == 404 else "Method Not Allowed")
        route, parameters = found
        body = await request.read()
        query = {snake_case(name): value for name, value in request.query.items()}
        fault: Fault | None = None
        behaviours = {}
        if route.api is not Api.CONTROL:
            text = f"{request.rel_url}\n{body.decode(errors='replace')}"
            fault, taken = self._faults.take(route.id, text)
            behaviours = dict(taken)
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
        answer = await self._befallen(route, call, authorization, fault)
        if route.api is not Api.CONTROL:
            kinds = ([fault.kind] if fault else []) + sorted(behaviours)
            self._enter(request, route.id, answer.status if answer else None, "+".join(kinds) or None, began)
        if answer is None:
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=500)
        return await self._send(request, answer)

    def _is_own_name(self, host: str) -> bool:
        name, _, port = host.partition(":")
        return name.lower() in ("127.0.0.1", "localhost") and port in ("", self.address.rpartition(":")[2])

    def _enter(
        self, request: web.Request, operation: str, status: int | None, fault: str | None, began: float
    ) -> None:
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
            return _error(route.api, refusal.status, refusal.message, refusal.code)

    async def _befallen(
        self, route: Route, call: Call, authorization: str, fault: Fault | None
    ) -> Answer | None:
        """The answer as a fault leaves it; None: there is none."""
        if fault is None:
            return self._perform(route, call, authorization)
        match fault.kind:
            case Kind.DROP_BEFORE:
                return None
            case Kind.TOO_MANY_REQUESTS:
                return self._spoilt(route, fault, 429, "too many requests")
            case Kind.ERROR_BEFORE:
                return self._spoilt(route, fault, 503, "service unavailable")
            case Kind.REFUSED:
                return self._spoilt(route, fault, 401, "API key is invalid or expired")
            case Kind.OUT_OF_QUOTA:
                return self._spoilt(route, fault, 409, "out of quota: CPU request limit reached")
            case Kind.HTML:
                status = fault.status or 200
                headers = {"Location": f"{self.address}/login"} if 300 <= status < 400 else {}
                return Answer(None, status, headers, "text/html; charset=utf-8", PAGE)
            case Kind.LATE_EFFECT:
                self._perform_later(route, call, authorization, fault.seconds)
                return self._spoilt(route, fault, fault.status, "gateway timeout") if fault.status else None
        answer = self._perform(route, call, authorization)
        match fault.kind:
            case Kind.DROP_AFTER:
                return None
            case Kind.ERROR_AFTER:
                return self._spoilt(route, fault, 503, "service unavailable")
            case Kind.BROKEN_JSON:
                text = answer.body()
                return Answer(
                    None, answer.status, answer.headers, answer.content_type, text[: len(text) // 2]
                )
            case Kind.WRONG_CONTENT_TYPE:
                return Answer(None, answer.status, answer.headers, "text/plain; charset=utf-8", answer.body())
            case _:
                await asyncio.sleep(fault.seconds)
                return answer

    @staticmethod
    def _spoilt(route: Route, fault: Fault, status: int, message: str) -> Answer:
        error = _error(route.api, fault.status or status, message)
        return Answer(error.document, error.status, _retry_after(fault), error.content_type)

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
