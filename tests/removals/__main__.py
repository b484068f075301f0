"""Takes out one line after the other and looks whether the promise's test notices: `make removals`.

    python -m tests.removals [PROMISE ...]

The law: nothing is changed in the tree. Each removal is made in a copy of its own; there the named tests are green
before, and red for the reason that they failed, not that they could not be collected.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.removals.removals import PACKAGE, REMOVALS, ROOT, Removal

AT_A_TIME = 2
LIMIT = 60
"""Seconds a test may take; one that hangs without its line has noticed, too."""
COPIED = (PACKAGE, "tests", "example_dags", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")
_FAILED = re.compile(r"\b[1-9]\d* failed\b")


def copy(folder: Path) -> Path:
    """The tree, where it may be spoilt."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def run(folder: Path, tests: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    """Run tests in the copy, against the package of the copy."""
    named = ["-q", "-p", "no:cacheprovider", "-o", "timeout_method=signal", f"--timeout={LIMIT}", "--tb=line"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *named, *more, *tests],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def verdict(removal: Removal) -> tuple[str, Path, float, str]:
    """`red`, or what came instead; the module, the seconds, and the end of the output."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="removal-") as name:
        folder = copy(Path(name))
        path = removal.apply(folder).relative_to(folder)
        done = run(folder, [removal.test], "-x")
    output = done.stdout + done.stderr
    word = {0: "GREEN", 1: "red" if _FAILED.search(done.stdout) else "ERROR"}.get(done.returncode, "ERROR")
    return word, path, time.monotonic() - began, output[-1500:]


def main(promises: list[int]) -> int:
    """Print a line per removal; 0 if, and only if, all are red."""
    chosen = [removal for removal in REMOVALS if not promises or removal.promise in promises]
    with tempfile.TemporaryDirectory(prefix="removal-") as name:
        untouched = run(copy(Path(name)), sorted({removal.test for removal in chosen}))
    if untouched.returncode:
        print(untouched.stdout[-3000:], untouched.stderr[-1000:], "The tests are not green as they are.", sep="\n")
        return 1
    bad = 0
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for removal, (word, path, seconds, output) in zip(chosen, pool.map(verdict, chosen), strict=True):
            test = removal.test.removeprefix("tests/")
            print(
                f"{removal.promise:3} {word:5} {seconds:5.1f} s  {path}: {removal.without}\n{'':18}{test}", flush=True
            )
            if word != "red":
                bad += 1
                print(output)
    print(f"{len(chosen)} lines taken out, {len(chosen) - bad} noticed")
    return 1 if bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.removals", description="See the module.")
    parser.add_argument("promises", nargs="*", type=int, help="their numbers in the README; all without")
    sys.exit(main(parser.parse_args().promises))
