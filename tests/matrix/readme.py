"""The table of supported versions in the README, as versions.toml and a green matrix give it.

The law: what lies between the two marks is written here and nowhere else.
"""

from __future__ import annotations

from itertools import groupby

from tests.matrix.rows import ROOT, rows

README = ROOT / "README.md"
BEGIN, END = "<!-- versions: written by make matrix -->\n", "<!-- versions: end -->\n"


def versions_table() -> str:
    """One line per Airflow."""
    lines = ["| Airflow | tried with | on Python | what differs |", "|---|---|---|---|"]
    for series, found in groupby(rows(), key=lambda row: row.series):
        first, *others = found
        pythons = first.python + (f", {', '.join(row.python for row in others)}" if others else "")
        lines.append(f"| {series} | {first.version} | {pythons} | {first.differs} |")
    return "\n".join(lines) + "\n"


def written_into(text: str) -> str:
    """The README with today's table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{versions_table()}{END}{after}"
