"""A CML workspace on localhost: a server in a background thread.

Law: what it started it ends: after `stop` there is no thread, no socket and no script of it left.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import threading
from typing import TYPE_CHECKING, Self

from aiohttp import web

from airflow_provider_cml.emulator.faults import Fault, Faults
from airflow_provider_cml.emulator.identifiers import random_api_key, random_legacy_key
from airflow_provider_cml.emulator.journal import Journal
from airflow_provider_cml.emulator.keys import Keys
from airflow_provider_cml.emulator.ledger import Ledger
from airflow_provider_cml.emulator.routing import OPERATIONS
from airflow_provider_cml.emulator.server import Server

if TYPE_CHECKING:
    import ssl
    from pathlib import Path
    from types import TracebackType

    from airflow_provider_cml.emulator.workspace import Workspace

#: Nobody but this machine is served.
HOST = "127.0.0.1"


class Emulator:
    """Serves a workspace on 127.0.0.1: a context manager, or `start` and `stop`, as often as wanted.

    :param workspace: what is served
    :param port: 0 picks a free one, which is kept for later starts
    :param api_key: the v2 key; default: a new random one
    :param legacy_key: the v1 key; default: a new random one
    :param ssl_context: serve https with this
    :param state: the file that carries keys, jobs, runs and ledger over a restart; a script that was running
        when the earlier emulator ended counts as FAILED
    """

    def __init__(
        self,
        workspace: Workspace,
        port: int = 0,
        *,
        api_key: str | None = None,
        legacy_key: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        state: str | Path | None = None,
    ) -> None:
        journal = None if state is None else Journal(state)
        earlier = {} if journal is None else journal.keys
        self.workspace = workspace
        self.port = port
        self.api_key = api_key or earlier.get("api_key") or random_api_key()
        self.legacy_key = legacy_key or earlier.get("legacy_key") or random_legacy_key()
        self.faults = Faults(OPERATIONS)
        self.ledger = Ledger(workspace, (self.api_key, self.legacy_key))
        if journal is not None:
            journal.restore(workspace, self.ledger)
            keys = {"api_key": self.api_key, "legacy_key": self.legacy_key}
            journal.follow(workspace, self.ledger, keys)
            workspace.resume()
        self._ssl_context = ssl_context
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """The address, without a slash at the end."""
        return f"{'https' if self._ssl_context else 'http'}://{HOST}:{self.port}"

    def connection(self, api_version: str = "v2") -> str:
        """An Airflow connection to this workspace, as AIRFLOW_CONN_* takes it."""
        fields = {
            "conn_type": "cml",
            "host": self.url,
            "password": self.legacy_key if api_version == "v1" else self.api_key,
            "extra": {"api_version": api_version},
        }
        return json.dumps(fields, separators=(",", ":"))

    def fault(self, operation: str, kind: str, **settings: object) -> Fault:
        """Set a fault; `operation` is CML's operation id, or that of a route of v1 (v1.StartJob), or * for all."""
        return self.faults.add(operation, kind, **settings)

    def start(self) -> Self:
        """Begin to serve; returns when requests are answered."""
        if self._threads:
            raise RuntimeError("this emulator is already serving")
        self._over.clear()
        ready: threading.Event = threading.Event()
        failure: list[BaseException] = []

        def serve() -> None:
            try:
                asyncio.run(self._serve(ready))
            except BaseException as error:  # noqa: BLE001  it is raised again in the thread that waits
                failure.append(error)
                ready.set()

        server = threading.Thread(target=serve, name="cml-emulator", daemon=True)
        server.start()
        ready.wait()
        if failure:
            server.join()
            raise failure[0]
        engine = threading.Thread(
            target=self.workspace.agenda.keep, args=(self._over,), name="cml-emulator-engine", daemon=True
        )
        engine.start()
        self._threads = [server, engine]
        atexit.register(self.stop)
        return self

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        server = Server(self.workspace, Keys(self.api_key, self.legacy_key), self.faults, self.ledger)
        runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self.port, ssl_context=self._ssl_context).start()
            self.port = runner.addresses[0][1]
            server.address = self.workspace.engine.address = self.url
            ready.set()
            await self._closing.wait()
        finally:
            server.close()
            served = runner.server.connections if runner.server else []
            transports = [connection.transport for connection in served if connection.transport]
            await runner.cleanup()
            for transport in transports:
                # A TLS connection that was closed still waits for the other side, which may never say anything.
                transport.abort()
            await asyncio.sleep(0)

    def stop(self) -> None:
        """End serving; scripts that run are ended, and their runs FAILED."""
        if not self._threads:
            return
        atexit.unregister(self.stop)
        if self._loop is not None and self._closing is not None:
            self._loop.call_soon_threadsafe(self._closing.set)
        self._threads[0].join()
        self._over.set()
        self.workspace.agenda.wake()
        self._threads[1].join()
        self._threads = []
        self.workspace.engine.kill_scripts()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
