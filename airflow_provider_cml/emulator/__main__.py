"""The command line: serve the workspace in a folder until interrupted.

python -m airflow_provider_cml.emulator --workspace DIR [--port 8090]
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from typing import TYPE_CHECKING

from airflow_provider_cml.emulator.emulator import Emulator
from airflow_provider_cml.emulator.journal import JournalError
from airflow_provider_cml.emulator.objects import Job, Project, Run
from airflow_provider_cml.emulator.workspace_file import WorkspaceFileError, load_workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_cml.emulator.registry import Registry


PAUSE = 0.1
"""Seconds between two looks whether a signal has come."""


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        message = f"{port} is no port: 0 to 65535"
        raise argparse.ArgumentTypeError(message)
    return port


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_cml.emulator",
        description="A Cloudera Machine Learning workspace on 127.0.0.1 that really runs its jobs' scripts.",
    )
    parser.add_argument("--workspace", required=True, metavar="DIR", help="folder with workspace.toml and scripts")
    parser.add_argument("--port", type=_port, default=8090, help="default 8090; 0 picks a free one")
    parser.add_argument("--api-key", metavar="KEY", help="v2 key; default: a random one")
    parser.add_argument("--legacy-key", metavar="KEY", help="v1 key; default: a random one")
    parser.add_argument("--state", metavar="FILE", help="keep keys, jobs, runs and ledger in this file")
    return parser.parse_args(argv)


def connections(emulator: Emulator) -> list[str]:
    """The two connections as lines for a shell."""
    names = {"CML_DEFAULT": "v2", "CML_V1": "v1"}
    return [f"AIRFLOW_CONN_{name}='{emulator.connection(version)}'" for name, version in names.items()]


def say(text: str) -> None:
    """Print at once: the reader may be a program."""
    print(text, flush=True)


def reporter(registry: Registry) -> None:
    """Print every change of a run's status."""
    seen: dict[str, str] = {}

    def heard(thing: Project | Job | Run, _event: str) -> None:
        if isinstance(thing, Run) and seen.get(thing.id) != thing.status:
            seen[thing.id] = thing.status
            reason = f" ({thing.message})" if thing.message else ""
            say(f"run {thing.id} of job {thing.number} {thing.job!r}: {thing.status}{reason}")
            if thing.is_over:
                del seen[thing.id]
                if thing.output:
                    say(f"run {thing.id} printed to {thing.output}")

    registry.listeners.append(heard)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM."""
    options = arguments(argv)
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        # No Event to wait for: Python runs a handler when it is back from the wait, and a signal that comes just before
        # the wait begins does not end it.
        signal.signal(number, lambda number, _: told.append(number))
    try:
        workspace = load_workspace(options.workspace)
        keys = {"api_key": options.api_key, "legacy_key": options.legacy_key}
        emulator = Emulator(workspace, options.port, state=options.state, **keys)
        reporter(workspace)
        emulator.start()
    except (WorkspaceFileError, JournalError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: port {options.port}: {error.strerror or error}", file=sys.stderr)
        return 2
    say(f"A CML workspace is at {emulator.url}")
    for project in workspace.projects.values():
        say(f"  project {project.id} {project.owner.username}/{project.slug}")
        for job in workspace.jobs_of(project):
            say(f"    job {job.id}, on v1 {job.number}: {job.name}")
    say("\nConnections for Airflow:\n")
    for line in connections(emulator):
        say(f"export {line}")
    say("")
    try:
        while not told:
            time.sleep(PAUSE)
    finally:
        emulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
