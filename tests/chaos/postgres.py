"""A PostgreSQL of one's own: Debian's programs, a folder, a port, and a user who is not root.

The law: nothing of it is left when the block is; it listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processes import DemoError, free_ports, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
OWNERS = ("postgres", "nobody")
"""Who owns the server where this process is root's: initdb refuses root."""
USER = DATABASE = "airflow"

_ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def programs() -> Path:
    """Where the server's programs are: Debian's 15, else any newer one, else what PATH has."""
    newer = sorted(PROGRAMS.parents[1].glob("*/bin/initdb"), key=lambda path: path.parts)
    in_path = shutil.which("initdb")
    for found in (PROGRAMS / "initdb", *newer[-1:], *([Path(in_path)] if in_path else [])):
        if found.exists():
            return found.parent
    message = f"PostgreSQL is missing: no initdb in {PROGRAMS} or PATH (Debian package postgresql-15)"
    raise DemoError(message)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A running server with an empty database; its address without the driver, `user@host:port/database`."""
    found = programs()
    data = folder / "postgres"
    data.mkdir()
    owner = _owner_of(data)
    (port,) = free_ports(1)
    _do([found / "initdb", "--auth=trust", "--no-sync", f"--username={USER}", "-E", "UTF8", "-D", data], owner)
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "port": port,
        "max_connections": 300,
        # A scheduler that is killed alone leaves forks behind, and these its connection: where it held rows for update,
        # Airflow 3.3 schedules their dag runs no more for as long as the forks live.
        "idle_in_transaction_session_timeout": "20s",
        # Nobody pulls the plug of this machine: what is killed here is Airflow.
        "fsync": "off",
        "synchronous_commit": "off",
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    address = ["-h", "127.0.0.1", "-p", str(port), "-U", USER]
    server = [str(found / "postgres"), "-D", str(data), *words]
    with running(server, _ENVIRONMENT, folder / "postgres.log", owner) as up:
        wait_until(lambda: _is_done([found / "pg_isready", *address]), "PostgreSQL", 60, up)
        _do([found / "createdb", *address, DATABASE], None)
        yield f"{USER}@127.0.0.1:{port}/{DATABASE}"


def _owner_of(data: Path) -> int | None:
    """The user the server runs as, who then owns its folder; None: this process's own will do."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    owner = next(known[name] for name in OWNERS if name in known)
    os.chown(data, owner.pw_uid, owner.pw_gid)
    for parent in data.parents:
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)  # the way to it: `tempfile` makes folders for their maker alone
    return owner.pw_uid


def _do(command: list[Any], owner: int | None) -> None:
    done = subprocess.run(
        list(map(str, command)),
        env=_ENVIRONMENT,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        user=owner,
        extra_groups=None if owner is None else [],
    )
    if done.returncode:
        raise DemoError(f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-2000:]}")


def _is_done(command: list[Any]) -> bool:
    return not subprocess.run(list(map(str, command)), env=_ENVIRONMENT, capture_output=True, check=False).returncode
