"""Servers on 127.0.0.1 that do what no well-behaved server does: drip, break off, stay silent, say it in plain text."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Heard:
    """One HTTP request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Listener:
    """Accepts connections and lets `behave` deal with each, in a thread of its own, until the test is over."""

    def __init__(self, behave: Behaviour, context: ssl.SSLContext | None = None) -> None:
        self.heard: list[Heard] = []
        self.connections = 0
        self.over = threading.Event()
        self._behave = behave
        self._context = context
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._socket = socket.create_server((HOST, 0))
        self.port: int = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.over.set()
        for open_socket in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for open_socket in (self._socket, *self._open):
            open_socket.close()

    def _begin(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                accepted, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(accepted)
            self._begin(lambda accepted=accepted: self._converse(accepted))  # type: ignore[misc]

    def _converse(self, accepted: socket.socket) -> None:
        connection = accepted
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(accepted, server_side=True)
                self._open.append(connection)
            self._behave(self, connection)
        except (OSError, ValueError):
            pass
        finally:
            connection.close()
            accepted.close()

    def hear(self, connection: socket.socket) -> Heard | None:
        """Read one request; None if the other side has closed."""
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(65536)
            if not received:
                return None
            head += received
        head, _, body = head.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers.get("content-length", "0")):
            body += connection.recv(65536)
        found = Heard(method, target, headers, body)
        self.heard.append(found)
        return found


Behaviour: TypeAlias = "Callable[[Listener, socket.socket], None]"


def answer(body: bytes = b"{}", status: str = "200 OK", headers: str = "Content-Type: application/json\r\n") -> bytes:
    """One HTTP answer as bytes."""
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


def answering(*answers: bytes) -> Behaviour:
    """Give these answers in turn, the last again and again, as long as the connection is kept."""
    left = list(answers)

    def behave(listener: Listener, connection: socket.socket) -> None:
        while listener.hear(connection) is not None:
            connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    return behave


def breaking_off(listener: Listener, connection: socket.socket) -> None:
    """Read the request and close."""
    listener.hear(connection)


def cutting(body: bytes, length: int) -> Behaviour:
    """Announce a body of some length, send less, and close."""

    def behave(listener: Listener, connection: socket.socket) -> None:
        listener.hear(connection)
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + body)

    return behave


def knowing_no_tls(listener: Listener, connection: socket.socket) -> None:
    """Take what is no HTTP for a bad request, as a plain http server does."""
    connection.recv(65536)
    connection.sendall(answer(b"", "400 Bad Request"))


def shaking_no_hands(listener: Listener, connection: socket.socket) -> None:
    """Accept the connection, and say nothing at all."""
    listener.over.wait(30)


def silent(listener: Listener, connection: socket.socket) -> None:
    """Read the request and never answer."""
    listener.hear(connection)
    listener.over.wait(30)


def dripping(gap: float, head: str, drop: str = " ") -> Behaviour:
    """Answer at once, and then send one byte after the other, or whatever a drop is, for ever."""

    def behave(listener: Listener, connection: socket.socket) -> None:
        listener.hear(connection)
        connection.sendall(head.encode())
        while not listener.over.wait(gap):
            connection.sendall(drop.encode())

    return behave


def forwarding(listener: Listener, connection: socket.socket) -> None:
    """Be a proxy: dig the tunnel that is asked for, or answer in the place of a plain http server."""
    while True:
        request = listener.hear(connection)
        if request is None:
            return
        if request.method != "CONNECT":
            connection.sendall(answer(b'{"id": "from-the-proxy"}'))
            continue
        host, _, port = request.target.rpartition(":")
        with socket.create_connection((host, int(port)), 5) as beyond:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            sides = {connection: beyond, beyond: connection}
            while not listener.over.is_set():
                for side in select.select(list(sides), [], [], 0.1)[0]:
                    received = side.recv(65536)
                    if not received:
                        return
                    sides[side].sendall(received)


def refusing_proxy(listener: Listener, connection: socket.socket) -> None:
    """Be a proxy that wants to know who asks."""
    listener.hear(connection)
    connection.sendall(answer(b"", "407 Proxy Authentication Required", "Proxy-Authenticate: Basic\r\n"))


def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
    return port
