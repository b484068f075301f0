"""The workspace that is waited for: a process of its own that answers over TLS, and counts.

Bare asyncio, so that on a machine of two cores the server takes as little as possible from whoever is measured.

    python -m tests.bench.server CERTIFICATE

It prints its port. Each line it then reads is answered with the counts since the line before, as JSON; when there are
no more lines, it ends.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.bench.answers import answer

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "127.0.0.1"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Counts:
    """What reached the server. A connection counts where a request came over it."""

    requests: int = 0
    opened: int = 0
    open_now: int = 0
    most_open: int = 0
    by_second: Counter[int] = field(default_factory=Counter)
    posts: list[float] = field(default_factory=list)

    def forget(self) -> None:
        """Begin anew; what is open stays open."""
        self.requests = self.opened = 0
        self.most_open = self.open_now
        self.by_second.clear()
        self.posts.clear()

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        seconds = sorted(self.by_second)
        by_second = [self.by_second[second] for second in range(seconds[0], seconds[-1] + 1)] if seconds else []
        return {
            "requests": self.requests,
            "opened": self.opened,
            "most_open": self.most_open,
            "by_second": by_second,
            "posts": self.posts,
        }


class Connection(asyncio.Protocol):
    """Answers whatever comes over one connection, one request after the other."""

    def __init__(self, counts: Counts, clock: Callable[[], float]) -> None:
        self._counts = counts
        self._clock = clock
        self._heard = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._counts.opened += 1
        self._counts.open_now += 1
        self._counts.most_open = max(self._counts.most_open, self._counts.open_now)

    def connection_lost(self, exc: Exception | None) -> None:
        self._counts.open_now -= 1

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while True:
            head, ending, rest = self._heard.partition(b"\r\n\r\n")
            length = _length(head)
            if not ending or len(rest) < length:
                return
            body, self._heard = rest[:length], rest[length:]
            method, target, _ = head[: head.index(b"\r\n")].decode("latin-1").split(" ")
            self._count(method)
            assert self._transport is not None
            self._transport.write(answer(method, target, body, self._clock()))

    def _count(self, method: str) -> None:
        counts = self._counts
        counts.requests += 1
        counts.by_second[int(time.monotonic())] += 1
        if method == "POST":
            counts.posts.append(time.monotonic())


def _length(head: bytes) -> int:
    found = _LENGTH.search(head)
    return int(found[1]) if found else 0


async def listen(certificate: str, counts: Counts, clock: Callable[[], float] = time.time) -> asyncio.Server:
    """Begin to answer."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(counts, clock), HOST, 0, ssl=context, backlog=2048)


def port_of(server: asyncio.Server) -> int:
    """The port it listens on."""
    return int(server.sockets[0].getsockname()[1])


async def _main(certificate: str) -> None:
    counts = Counts()
    server = await listen(certificate, counts)
    print(port_of(server), flush=True)
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(json.dumps(counts.to_json()), flush=True)
        counts.forget()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
