"""The environments of the matrix: an Airflow with the versions of its time, then the wheel, then the test tools.

The law: what Airflow was installed with does not move when the wheel comes; `uv pip freeze` before and after tells.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from tests.matrix.rows import HOUSE, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.matrix.rows import Row

UV = str(Path(sys.executable).with_name("uv"))
PROVIDER = "airflow-provider-cml"
SOURCES = HOUSE / "sources"
TEXTS = ("pyproject.toml", "README.md", "LICENSE", ".gitignore")
"""What the wheel is built from beside the package, and tests read."""


class MatrixError(Exception):
    """A row cannot be tried, and why."""


def command(*arguments: object, at: Path = ROOT) -> str:
    """What a command prints; what it says of its failure is raised."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "VIRTUAL_ENV"))}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(each) for each in arguments],
        cwd=at,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MatrixError(f"{' '.join(map(str, arguments))}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def name_of(line: str) -> str:
    """The distribution a line of constraints is about."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~;@ \[]", line.strip(), maxsplit=1)[0]).lower()


def take_sources() -> Path:
    """Copy what is tried to one place, so that all rows try the same, whatever is edited meanwhile; and its wheel."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    for name in ("airflow_provider_cml", "tests", "example_dags"):
        shutil.copytree(ROOT / name, SOURCES / name, ignore=shutil.ignore_patterns("__pycache__", ".*cache"))
    for name in TEXTS:
        shutil.copy(ROOT / name, SOURCES)
    folder = HOUSE / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    command(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, at=SOURCES)
    (wheel,) = folder.glob("*.whl")
    return wheel


def find_python(version: str) -> str:
    """An interpreter of this version: on the path, or one that pyenv keeps."""
    kept = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        return sys.executable
    for found in (shutil.which(f"python{version}"), *sorted(kept.glob(f"{version}.*/bin/python"), reverse=True)):
        if found and subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return str(found)
    raise MatrixError(f"there is no Python {version} here, neither on the path nor with pyenv")


def freeze(row: Row) -> list[str]:
    """What is installed, without ourselves."""
    lines = command(UV, "pip", "freeze", "--python", row.executable).splitlines()
    return [line for line in lines if name_of(line) != PROVIDER]


def _digest(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def make(row: Row, wheel: Path) -> list[str]:
    """Make the row's environment, or bring it up to date; returns the pinned versions that moved."""
    stamp, project = row.folder / "stamp.json", tomllib.loads((SOURCES / "pyproject.toml").read_text())
    python = find_python(row.python)
    needs = repr([project["project"]["dependencies"], project["dependency-groups"]["test"], row.also, python])
    base = _digest([row.constraints.read_bytes(), needs.encode()])
    content = _digest([wheel.read_bytes()])
    known = json.loads(stamp.read_text()) if stamp.exists() else {}
    install = (UV, "pip", "install", "-q", "--python", row.executable)
    if known.get("base") != base:
        shutil.rmtree(row.folder, ignore_errors=True)
        command(UV, "venv", "-q", "--no-project", "--python", python, row.folder)
        command(*install, "-c", row.constraints, f"apache-airflow=={row.version}", *row.also)
        before = freeze(row)
        # What Airflow did not bring is as constrained as the rest; what it did bring is free to move.
        pinned = {name_of(line) for line in before}
        others = row.folder / "others.txt"
        lines = row.constraints.read_text().splitlines()
        others.write_text("\n".join(line for line in lines if name_of(line) not in pinned))
        command(*install, "-c", others, wheel)
        moved = sorted(set(before) - set(freeze(row)))
        command(*install, "-c", row.constraints, "--group", "test")
        known = {"base": base, "wheel": content, "moved": moved}
    elif known["wheel"] != content:
        command(*install, "--no-deps", "--reinstall", wheel)
        known["wheel"] = content
    command(UV, "pip", "check", "--python", row.executable)
    stamp.write_text(json.dumps(known))
    moved_before: list[str] = known["moved"]
    return moved_before


def record(row: Row) -> None:
    """Resolve the row's constraints anew: Airflow and what we need as of its time, with test tools of today."""
    resolve = (UV, "pip", "compile", "-q", "--no-sources", "--no-header", "--no-annotate", "--no-emit-index-url")
    resolve = (*resolve, "--no-emit-find-links", "--python", find_python(row.python), "--upgrade")
    wanted, of_its_time = HOUSE / "wanted.txt", HOUSE / "of-its-time.txt"
    wanted.parent.mkdir(exist_ok=True)
    wanted.write_text("\n".join([f"apache-airflow=={row.version}", *row.also]))
    command(*resolve, "--exclude-newer", row.until, wanted, "pyproject.toml", "-o", of_its_time)
    command(*resolve, "-c", of_its_time, wanted, "pyproject.toml", "--group", "test", "-o", row.constraints)


def stage(row: Row) -> Path:
    """Tests and examples beside which no source of the package lies, as this Airflow reads them."""
    folder = row.folder / "stage"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("tests", "example_dags"):
        shutil.copytree(SOURCES / name, folder / name)
    for name in TEXTS:
        shutil.copy(SOURCES / name, folder)
    for file in [*(folder / "example_dags").glob("*.py"), *(folder / "tests" / "matrix" / "dags").glob("*.py")]:
        file.write_text(row.for_this_airflow(file.read_text()))
    return folder
