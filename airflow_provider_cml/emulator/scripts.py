"""Job scripts as processes.

Law: only files inside the workspace folder are run; a script's environment is built from nothing, never from
the emulator's own (which may hold Airflow's connections); each script leads a process group of its own, and
when it is over, or told to stop, the whole group goes.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from airflow_provider_cml.emulator.objects import Job, Project, Run

OUTPUT_LIMIT = 1_000_000
OUTPUT_FOLDER = ".runs"

OnExit: TypeAlias = Callable[[int], None]


class ScriptError(ValueError):
    """This script cannot be run, and why."""


def locate(root: Path | None, folder: Path | None, script: str) -> Path:
    """The file of a script, if it lies in its project's folder and the workspace's, links followed."""
    # The words are CML's own (LIVE: CreateJob).
    missing = ScriptError(f"script '{script}' not found in project directory")
    if root is None or folder is None or not script:
        raise missing
    if Path(script).is_absolute() or ".." in Path(script).parts:
        raise missing
    path, folder, root = (folder / script).resolve(), folder.resolve(), root.resolve()
    if not (path.is_file() and path.is_relative_to(folder) and folder.is_relative_to(root)):
        raise missing
    return path


def environment_of(folder: Path, given: Mapping[str, str], cdsw: Mapping[str, str]) -> dict[str, str]:
    """What a script finds in its environment. DOC: PATH and CDSW_* are not to be overridden."""
    clean = {"LANG": "C.UTF-8", "HOME": str(folder), "PYTHONUNBUFFERED": "1", **given}
    clean = {name: value for name, value in clean.items() if not name.startswith("CDSW_")}
    return {**clean, "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", **cdsw}


def cdsw_values(run: Run, job: Job, project: Project, address: str) -> dict[str, str]:
    """What CML itself tells a script; but not the keys of a real one (CDSW_API_KEY, CDSW_APIV2_KEY)."""
    owner = project.owner.username
    values = {
        "CDSW_PROJECT_ID": project.id,
        "CDSW_PROJECT": project.slug,
        "CDSW_USERNAME": owner,
        "CDSW_ENGINE_ID": run.engine_id,
        "CDSW_JOB_ID": str(job.number),
    }
    if address:
        values["CDSW_DOMAIN"] = address.partition("://")[2]
        values["CDSW_API_URL"] = f"{address}/api/v1"
        values["CDSW_PROJECT_URL"] = f"{address}/api/v1/projects/{owner}/{project.slug}"
    # LIVE: the arguments are one string in JOB_ARGUMENTS, not in sys.argv.
    return {**values, "JOB_ARGUMENTS": run.arguments} if run.arguments else values


def end_orphan(process: int, engine_id: str) -> None:
    """End the script that an emulator which crashed has left behind, if that process is still this script."""
    try:
        environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        if f"CDSW_ENGINE_ID={engine_id}".encode() in environment:
            os.killpg(process, signal.SIGKILL)
    except OSError:
        pass  # gone, or no Linux


class Script:
    """One running script."""

    def __init__(self, path: Path, folder: Path, environment: Mapping[str, str], output: Path) -> None:
        self.output = output
        output.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, str(path)],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )
        self.process = self._process.pid
        self._reaping = threading.Lock()
        self._is_reaped = False
        self._thread: threading.Thread | None = None

    def watch(self, on_exit: OnExit) -> None:
        """Call back, from another thread, with the exit code."""
        self._thread = threading.Thread(target=self._follow, args=(on_exit,), name="cml-script", daemon=True)
        self._thread.start()

    def _follow(self, on_exit: OnExit) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        room = OUTPUT_LIMIT
        with self.output.open("wb") as file, pipe:
            while True:
                readable, _, _ = select.select([pipe], [], [], 0.2)
                # A grandchild may hold the pipe open, and write to it, after the script's end.
                if self._has_ended(wait=False):
                    self.signal(signal.SIGKILL)
                    if not readable:
                        break
                elif not readable:
                    continue
                chunk = os.read(pipe.fileno(), 65536)
                if not chunk:
                    break
                file.write(chunk[:room])
                if 0 < room <= len(chunk):
                    file.write(b"\n[output cut here]\n")
                room = max(room - len(chunk), 0)
                file.flush()
        self._has_ended(wait=True)
        # The rest of the group goes before the script is reaped: until then its number is nobody else's.
        self.signal(signal.SIGKILL)
        with self._reaping:
            code = self._process.wait()
            self._is_reaped = True
        on_exit(code)

    def _has_ended(self, *, wait: bool) -> bool:
        if not hasattr(os, "waitid"):  # macOS, before Python 3.13
            return (self._process.wait() if wait else self._process.poll()) is not None
        options = os.WEXITED | os.WNOWAIT | (0 if wait else os.WNOHANG)
        return os.waitid(os.P_PID, self.process, options) is not None

    @property
    def is_there(self) -> bool:
        """It still has a process, running or dead."""
        return not self._is_reaped

    def signal(self, number: int) -> None:
        """Send a signal to the whole process group."""
        with self._reaping, contextlib.suppress(ProcessLookupError, PermissionError):
            if not self._is_reaped:
                os.killpg(self.process, number)

    def kill(self) -> None:
        """Make an end of it, now."""
        self.signal(signal.SIGKILL)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        else:
            self._process.wait()
