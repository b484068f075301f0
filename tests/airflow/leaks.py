"""Where secrets show: every file below an AIRFLOW_HOME, and every table of its database."""

from __future__ import annotations

import base64
import configparser
import secrets
import sqlite3
from contextlib import closing
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

from cryptography.fernet import Fernet

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Secrets:
    """Values that must be in no log, no table and no page.

    :param templated: a private value the task renders; `literal`: one that stands in the DAG's memory.
    :param of_project: what CML echoes in every run's environment.
    """

    api_key: str
    legacy_key: str
    templated: str
    literal: str
    of_project: str

    @classmethod
    def random(cls) -> Self:
        return cls(*(secrets.token_hex(24) for _ in fields(cls)))

    def forms(self) -> dict[str, bytes]:
        """Each value as it is, and the keys as HTTP Basic sends them."""
        found = {field.name: getattr(self, field.name).encode() for field in fields(self)}
        for name in ("api_key", "legacy_key"):
            found[f"{name} in Basic"] = base64.b64encode(found[name] + b":").rstrip(b"=")
        return found


def files_with(value: bytes, folder: Path) -> list[str]:
    """The files that hold it; the database is one of them, with all it ever held."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and value in path.read_bytes()
    ]


def tables_with(values: Iterable[bytes], database: Path) -> list[str]:
    """The tables, as `table.column`, that hold one of these in any row."""
    found = []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                for column, cell in zip(columns, row, strict=True):
                    content = cell if isinstance(cell, bytes) else str(cell).encode()
                    if any(value in content for value in values):
                        found.append(f"{table}.{column}")
    return sorted(set(found))


def triggers_of(home: Path) -> list[str]:
    """What the triggers in an Airflow's database were given, decrypted; 3.3 writes some of it in clear."""
    configuration = configparser.ConfigParser(interpolation=None)
    configuration.read(home / "airflow.cfg")
    fernet = Fernet(configuration["core"]["fernet_key"])
    with closing(sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT kwargs FROM trigger").fetchall()
    return [text if text.startswith("{") else fernet.decrypt(text).decode() for (text,) in rows]
