"""Wheel and sdist: the same bytes wherever they are built, what they hold, and that the emulator runs from them.

Run by `make package`, which brings the tools that check a distribution.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.package

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".venv-package" / "bin"
UV = Path(sys.executable).with_name("uv")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGE = "airflow_provider_cml"
FOLDERS = (".ci", PACKAGE, "example_dags", "tests")
FILES = {
    ".gitignore",  # hatchling reads what to leave out from it, in an unpacked sdist, too
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "constraints-2.11.txt",
    "constraints-bench.txt",
    "constraints.txt",
    "pyproject.toml",
}
LITTER = ("notes.txt", ".env", "dist/old.whl", f"{PACKAGE}/__pycache__/wire.cpython-311.pyc", "build/lib/wire.py")


def own_environment() -> dict[str, str]:
    """Without what would show a process the repository, or another Airflow."""
    foreign = ("AIRFLOW", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def run(*command: object, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """What a command prints; its failure is the test's."""
    words = [str(each) for each in command]
    environment = environment or own_environment()
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kept() -> list[str]:
    """The files of the repository, new ones too; not what git ignores."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    return [name for name in listed if name and (ROOT / name).exists()]


def copied(folder: Path) -> Path:
    """The repository at another place, without its history, with what lies about in a checkout."""
    for name in kept():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    for name in LITTER:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("not ours")
    return folder


@dataclass(frozen=True, slots=True)
class Built:
    """Both distributions, as built in one folder."""

    sdist: Path
    wheel: Path


def build(source: Path, into: Path, *, target: str = "") -> Built:
    """What the build backend makes of a folder."""
    run(sys.executable, "-m", "hatchling", "build", "-d", into, *(["-t", target] if target else []), cwd=source)
    (wheel,) = into.glob("*.whl")
    return Built(next(into.glob("*.tar.gz"), wheel), wheel)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both, from a copy."""
    folder = tmp_path_factory.mktemp("one")
    return build(copied(folder / "checkout"), folder / "out")


@pytest.fixture(scope="module")
def unpacked(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that is in the sdist."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(built.sdist) as archive:
        archive.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    return found


def test_built_elsewhere_is_the_same(built: Built, tmp_path: Path) -> None:
    """Another folder, another moment, other rights of group and others: not one byte differs."""
    folder = copied(tmp_path / "a" / "longer path")
    for name in kept():
        (folder / name).chmod(0o600)
        os.utime(folder / name, (1_000_000_000, 1_000_000_000))
    again = build(folder, tmp_path / "out")

    assert [again.sdist.name, again.wheel.name] == [built.sdist.name, built.wheel.name]
    assert again.sdist.read_bytes() == built.sdist.read_bytes()
    assert again.wheel.read_bytes() == built.wheel.read_bytes()


def test_wheel_from_sdist_is_the_same(built: Built, unpacked: Path, tmp_path: Path) -> None:
    """Who builds from the sdist gets the wheel that was published."""
    again = build(unpacked, tmp_path, target="wheel")

    assert again.wheel.read_bytes() == built.wheel.read_bytes()


def test_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    """Every file of the package, its metadata, its license; no tests, no litter."""
    info = f"{built.wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"
    names = zipfile.ZipFile(built.wheel).namelist()

    assert sorted(names) == sorted(
        [name for name in kept() if name.startswith(f"{PACKAGE}/")]
        + [f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")]
    )
    assert f"{PACKAGE}/py.typed" in names


def test_sdist_holds_what_it_takes_to_build_and_test(unpacked: Path) -> None:
    """Package, examples, tests, texts; not what a checkout has beside these."""
    found = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}

    assert found == FILES | {"PKG-INFO"} | {name for name in kept() if name.startswith(tuple(f"{f}/" for f in FOLDERS))}


def test_metadata_asks_for_no_upper_bound(built: Built) -> None:
    """Four requirements, each with a lower bound alone, so that installing moves nothing; and where Airflow enters."""
    archive = zipfile.ZipFile(built.wheel)
    text = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if "dist-info" in name}
    metadata = Parser().parsestr(text["METADATA"])

    assert (metadata["Name"], metadata["License-Expression"], metadata["Requires-Python"]) == (
        "airflow-provider-cml",
        "Apache-2.0",
        ">=3.11",
    )
    assert sorted(metadata.get_all("Requires-Dist")) == sorted(PROJECT["dependencies"])
    assert not [each for each in PROJECT["dependencies"] if set("<~!;,") & set(each) or "==" in each]
    assert text["entry_points.txt"].split() == [
        "[apache_airflow_provider]",
        *f"provider_info = {PACKAGE}:get_provider_info".split(),
    ]


def test_usual_checks_find_nothing(built: Built) -> None:
    """An index would take both, and show the README."""
    assert "PASSED" in run(TOOLS / "twine", "check", "--strict", built.sdist, built.wheel)
    assert "OK" in run(TOOLS / "check-wheel-contents", built.wheel)


@contextlib.contextmanager
def emulator(python: Path, folder: Path) -> Iterator[dict[str, str]]:
    """The command that the README shows, and the connections that it prints."""
    workspace = ROOT / "example_dags" / "workspace"
    command = [str(python), "-m", f"{PACKAGE}.emulator", "--workspace", str(workspace), "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=own_environment(), stdout=subprocess.PIPE, text=True) as serving:
        try:
            printed = {}
            for line in serving.stdout or ():
                if line.startswith("export "):
                    name, _, value = line.removeprefix("export ").partition("=")
                    printed[name] = value.strip().strip("'")
                if len(printed) == 2:
                    break
            yield printed
        finally:
            serving.terminate()
            serving.wait(20)
    assert serving.returncode == 0


ASK = """
import json, airflow_provider_cml
from airflow_provider_cml.hooks.cml import CmlHook
hook = CmlHook()
(project,) = hook.list_projects()
jobs = [job.name for job in hook.list_jobs(project.id)]
print(json.dumps([airflow_provider_cml.__file__, hook.test_connection()[0], jobs]))
"""


@pytest.mark.timeout(600)
def test_installed_wheel_serves_and_asks(built: Built, tmp_path: Path) -> None:
    """Away from the repository, with nothing but the wheel and what it asks for: the emulator, and the hook."""
    python = tmp_path / "venv" / "bin" / "python"
    run(UV, "venv", "-q", "--no-project", "--python", sys.executable, tmp_path / "venv")
    run(UV, "pip", "install", "-q", "--python", python, "-c", ROOT / "constraints.txt", built.wheel)
    with emulator(python, tmp_path) as connections:
        own = own_environment() | connections | {"AIRFLOW_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
        told = run(python, "-W", "ignore", "-c", ASK, cwd=tmp_path, environment=own)
        where, is_green, jobs = json.loads(told.splitlines()[-1])

    assert where.startswith(str(tmp_path))
    assert (is_green, jobs) == (True, ["value at risk", "hello"])
