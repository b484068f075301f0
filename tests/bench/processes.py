"""Starting the server and whoever is measured, and putting their two accounts together."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import trustme

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Certificates:
    """The server's certificate with its key, and the authority that signed it."""

    server: Path
    authority: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """New ones."""
        authority = trustme.CA()
        found = cls(folder / "server.pem", folder / "authority.pem")
        authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(found.server)
        authority.cert_pem.write_to_path(found.authority)
        return found


class Server:
    """A server in a process of its own."""

    def __init__(self, certificates: Certificates) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.server", certificates.server],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def counts(self) -> dict[str, Any]:
        """What came since the last time."""
        assert self._process.stdin is not None
        self._process.stdin.write("counts\n")
        self._process.stdin.flush()
        return dict(json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@dataclass
class Account:
    """What a measured process says of itself, and what the server says of it."""

    found: dict[str, Any]
    served: dict[str, Any] = field(default_factory=dict)


def measure(certificates: Certificates, module: str, *words: object, **numbers: float) -> Account:
    """Run `tests.bench.MODULE` against a server of its own."""
    with Server(certificates) as server:
        first, *rest = [str(word) for word in words]
        command = [sys.executable, "-m", f"tests.bench.{module}", first, *rest, str(server.port)]
        command += [str(certificates.authority), *(f"{name}={value}" for name, value in numbers.items())]
        account = Account({})
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.startswith("{"):
                    continue
                said = json.loads(line)
                if "mark" in said:
                    counts = server.counts()
                    if said["mark"] == "end":
                        account.served = counts
                else:
                    account.found = said["found"]
        if process.returncode:
            message = f"{' '.join(command[2:])} ended with status {process.returncode}"
            raise RuntimeError(message)
        return account
