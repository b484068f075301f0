"""Every supported Airflow with the wheel: `make matrix`, or some rows of it: `ARGS=3.0-py3.11 make matrix`.

    python -m tests.matrix [ROW ...] [--short | --no-clear] [--complete] [--record]

The law: it ends with 0 only if nothing failed; README's table is written only by a run in which every row was tried.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "demo"))

from results import table

from tests.matrix.clearing import clear_scenarios
from tests.matrix.environments import MatrixError, find_python, freeze, make, record, stage, take_sources
from tests.matrix.readme import README, written_into
from tests.matrix.rows import HOUSE, Row, rows
from tests.matrix.trying import probe

AT_A_TIME = 2
COLUMNS = ("versions", "imports", "form", "examples", "tests", "clear", "seconds")
FAILED = "FAILED"
Told = dict[str, str]
"""What became of each column."""


def say(text: str) -> None:
    print(text, flush=True)


def is_missing(row: Row) -> bool:
    """There is no interpreter for it here."""
    try:
        find_python(row.python)
    except MatrixError:
        return True
    return False


def clear(row: Row, staged: Path) -> str:
    """What became of the clear scenarios."""
    faults, notes = clear_scenarios(row, staged)
    (row.folder / "clear.txt").write_text("\n".join([*notes, *(f"FAILED: {fault}" for fault in faults)]) + "\n")
    return f"FAILED: {'; '.join(faults)}" if faults else "as README says"


def try_row(row: Row, wheel: Path, *, with_clear: bool, is_short: bool) -> Told:
    """Make the environment of a row, and ask it everything."""
    begin, told = time.monotonic(), {}
    try:
        moved = make(row, wheel)
        told["versions"] = f"FAILED: moved {', '.join(moved)}" if moved else f"{len(freeze(row))} kept"
        staged = stage(row)
        told |= probe(row, staged, is_short=is_short)
        say(f"{row.name}: {told}")
        if row.is_first and with_clear:
            told["clear"] = clear(row, staged)
    except Exception as error:  # noqa: BLE001 - one row less is no reason to try no other
        traceback.print_exc()
        told[next((name for name in COLUMNS if name not in told), "clear")] = f"FAILED: {error}"
    told["seconds"] = f"{time.monotonic() - begin:.0f}"
    say(f"{row.name}: over after {told['seconds']} s")
    return told


def excerpt(row: Row) -> str:
    """How the row's process ended, for who sees nothing but this output."""
    log = row.folder / "probe.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"--- {row.name}: {log.name}", *(line[:300] for line in lines[-80:])])


def printed(found: dict[Row, Told]) -> str:
    """The table, a failure by its first words."""
    lines = [
        [row.version, row.python, *(told.get(name, "").partition("\n")[0][:60] for name in COLUMNS)]
        for row, told in found.items()
    ]
    return table([["Airflow", "Python", *COLUMNS], *lines])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make matrix", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=" ".join(row.name for row in rows()))
    parser.add_argument("--no-clear", action="store_true", help="without the clear scenarios, which start an Airflow")
    parser.add_argument("--complete", action="store_true", help="a missing interpreter is a failure")
    parser.add_argument("--record", action="store_true", help="resolve the constraints anew, and end")
    parser.add_argument(
        "--short", action="store_true", help="clears on the lowest and newest Airflow only, tests on the others"
    )
    wanted = parser.parse_args()
    chosen = [row for row in rows() if row.name in wanted.rows or not wanted.rows]
    if unknown := set(wanted.rows) - {row.name for row in chosen}:
        parser.error(f"no such row: {' '.join(sorted(unknown))}")
    if wanted.record:
        for row in chosen:
            if row.is_first:
                record(row)
        return 0
    begin, wheel = time.monotonic(), take_sources()
    missing = [row for row in chosen if is_missing(row)]
    found = {row: {"versions": f"no Python {row.python} here"} for row in missing}
    present = [row for row in chosen if row not in missing]
    lowest, *_, newest = [row for row in rows() if row.is_first]
    cleared = set() if wanted.no_clear else {lowest, newest} if wanted.short else set(present)
    with ThreadPoolExecutor(AT_A_TIME) as beside:
        tried = beside.map(lambda row: try_row(row, wheel, with_clear=row in cleared, is_short=wanted.short), present)
        found |= dict(zip(present, tried, strict=True))
    found = {row: found[row] for row in chosen}
    say(f"\n{printed(found)}\n\n{time.monotonic() - begin:.0f} s; what each row says of itself is below {HOUSE.name}/")
    failures = [
        (row, f"{row.name}: {name}: {text}")
        for row, told in found.items()
        for name, text in told.items()
        if FAILED in text
    ]
    for row in dict.fromkeys(row for row, _ in failures):
        say(excerpt(row))
    for _, failure in failures:
        say(failure)
    if any(row.is_first or wanted.complete for row in missing):
        return 1
    if not failures and set(rows()) == cleared:
        README.write_text(written_into(README.read_text()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
