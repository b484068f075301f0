"""README's table of supported versions is the one that versions.toml gives, and the constraints fit it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.matrix.readme import BEGIN, END, README, versions_table, written_into
from tests.matrix.rows import NEW_IMPORT, ROOT, Row, rows

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FIRST = [row for row in rows() if row.is_first]
EXAMPLES = sorted((ROOT / "example_dags").glob("*.py"))


def pinned(file: Path) -> dict[str, str]:
    """The versions in a file of constraints."""
    return dict(line.split("==") for line in file.read_text().splitlines())


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_readme_lists_the_versions_of_the_matrix() -> None:
    """What `make matrix` writes stands in the README, once."""
    text = README.read_text()

    assert (text.count(BEGIN), text.count(END)) == (1, 1)
    assert written_into(text) == text


def test_table_names_every_row() -> None:
    """Each Airflow with the version that was tried, and each Python."""
    lines = {line.split("|")[1].strip(): line for line in versions_table().splitlines()[2:]}

    assert list(lines) == [row.series for row in FIRST]
    for row in rows():
        assert row.version in lines[row.series]
        assert row.python in lines[row.series]


def test_versions_agree_with_the_metadata() -> None:
    """The lowest Airflow is the lower bound, and each Python of the classifiers has a row."""
    classifiers = {found[1] for each in PROJECT["classifiers"] if (found := re.search(r"Python :: (3\.\d+)$", each))}

    assert f"apache-airflow>={FIRST[0].series}.0" in PROJECT["dependencies"]
    assert {row.python for row in rows()} == classifiers


@pytest.mark.parametrize("row", FIRST, ids=lambda row: row.series)
def test_constraints_are_names_and_versions(row: Row) -> None:
    """The Airflow of the row, and every dependency of ours at its lower bound or above; nothing but name==version."""
    lines = row.constraints.read_text().splitlines()
    versions = pinned(row.constraints)

    assert not [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*", line)]
    assert versions["apache-airflow"] == row.version
    for name, lowest in (each.split(">=") for each in PROJECT["dependencies"]):
        assert number(versions[name]) >= number(lowest)


def test_lowest_environment_has_each_lower_bound() -> None:
    """`make test-lowest` runs on the lowest version that each direct dependency admits."""
    versions = pinned(ROOT / "constraints-2.11.txt")

    assert {name: versions[name] for name, _ in (each.split(">=") for each in PROJECT["dependencies"])} == dict(
        each.split(">=") for each in PROJECT["dependencies"]
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_has_one_line_to_change_for_2_11(path: Path) -> None:
    """The line that the README names, and no other import that Airflow 2.11 lacks."""
    source = path.read_text()

    assert source.count(NEW_IMPORT) == 1
    assert "airflow.sdk" not in FIRST[0].for_this_airflow(source)
