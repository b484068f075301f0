"""What the matrix consists of: one row per Airflow and Python, as versions.toml lists them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HOUSE = ROOT / ".venv-matrix"
"""Where everything is made; nothing in it is kept under version control."""

NEW_IMPORT, OLD_IMPORT = "from airflow.sdk import ", "from airflow.models import "
"""The one line that differs in a DAG file for Airflow 2.11."""


@dataclass(frozen=True, slots=True)
class Row:
    """One Airflow on one Python. The first Python of a series does everything, the others imports and unit tests."""

    series: str
    version: str
    until: str
    also: tuple[str, ...]
    python: str
    is_first: bool
    differs: str

    @property
    def name(self) -> str:
        return f"{self.series}-py{self.python}"

    @property
    def constraints(self) -> Path:
        return HERE / f"constraints-{self.series}.txt"

    @property
    def folder(self) -> Path:
        return HOUSE / self.name

    @property
    def executable(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def is_old(self) -> bool:
        """Airflow 2: other imports, another REST API."""
        return self.series.startswith("2.")

    def for_this_airflow(self, source: str) -> str:
        """A DAG file as this Airflow reads it: on 2.11 with the one changed line."""
        if not self.is_old:
            return source
        assert source.count(NEW_IMPORT) == 1, "a DAG file has one line to change for Airflow 2.11"
        return source.replace(NEW_IMPORT, OLD_IMPORT)


def rows() -> list[Row]:
    """All of them, lowest Airflow first."""
    listed = tomllib.loads((HERE / "versions.toml").read_text())["airflow"]
    return [
        Row(
            each["series"],
            each["version"],
            each["until"],
            tuple(each.get("also", ())),
            python,
            number == 0,
            each["differs"],
        )
        for each in listed
        for number, python in enumerate(each["pythons"])
    ]
