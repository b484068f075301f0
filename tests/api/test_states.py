"""The one vocabulary of a run's status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_cml.api.states import JobRunStatus

ENGINE_STATUS = json.loads((Path(__file__).parent / "cml_v2_swagger.json").read_text())["definitions"]["EngineStatus"]

# word: over, success, executed, can be stopped
TABLE = {
    "ENGINE_SCHEDULING": (False, False, True, True),
    "ENGINE_STARTING": (False, False, True, True),
    "ENGINE_RUNNING": (False, False, True, True),
    "ENGINE_STOPPING": (False, False, True, False),
    "ENGINE_STOPPED": (True, False, True, False),
    "ENGINE_UNKNOWN": (False, False, True, True),
    "ENGINE_SUCCEEDED": (True, True, True, False),
    "ENGINE_FAILED": (True, False, True, False),
    "ENGINE_TIMEDOUT": (True, False, True, False),
    "ENGINE_SKIPPED": (True, False, False, False),
}


def test_every_word_of_the_published_document_is_in_the_table() -> None:
    """The document's words are the enum's members, in its order, and no others."""
    members = [f"ENGINE_{status.upper()}" for status in JobRunStatus]

    assert sorted(ENGINE_STATUS["enum"]) == sorted(members) == sorted(TABLE)


@pytest.mark.parametrize("word", TABLE)
def test_what_a_status_means(word: str) -> None:
    """Each word answers the four questions everybody asks."""
    status = JobRunStatus.read(word)

    assert TABLE[word] == (status.is_over, status.is_success, status.is_executed, status.can_be_stopped)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("ENGINE_SUCCEEDED", JobRunStatus.SUCCEEDED),
        ("engine_succeeded", JobRunStatus.SUCCEEDED),
        ("succeeded", JobRunStatus.SUCCEEDED),
        (" Succeeded\n", JobRunStatus.SUCCEEDED),
        ("ENGINE_SUCCEEDED_ALMOST", JobRunStatus.UNKNOWN),
        ("ENGINE_KILLED", JobRunStatus.UNKNOWN),
        ("ENGINE_", JobRunStatus.UNKNOWN),
        ("", JobRunStatus.UNKNOWN),
        ("SUCCESS", JobRunStatus.UNKNOWN),
        ("ENGINE_ENGINE_SUCCEEDED", JobRunStatus.UNKNOWN),
    ],
)
def test_read(word: str, expected: JobRunStatus) -> None:
    """Case and prefix do not matter; a word not in the table is unknown, which is neither over nor green."""
    assert expected == JobRunStatus.read(word)


def test_success_is_the_only_green() -> None:
    """No other status makes a task green."""
    green = [status for status in JobRunStatus if status.is_success]

    assert [JobRunStatus.SUCCEEDED] == green
