"""The nouns of a start."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_cml.api.conversations.start import Start
from airflow_provider_cml.api.run_key import RunKey
from tests.api.conversations.paper import IDS, KEY


@pytest.mark.parametrize(
    ("other", "of_my_try", "of_my_task"),
    [
        (KEY, True, True),
        (KEY.with_post("2.bbbb"), True, True),
        (replace(KEY, try_number=2), False, True),
        (replace(KEY, start=KEY.start + 1), False, True),
        (replace(KEY, nonce="x"), False, True),
        (replace(KEY, map_index=3), False, False),
        (replace(KEY, loop_index=3), False, False),
        (replace(KEY, deployment="test"), True, True),
        (replace(KEY, deployment="test", start=KEY.start + 1), False, False),
        (replace(KEY, version="v3"), False, False),
    ],
)
def test_whose_start(other: RunKey, of_my_try: bool, of_my_task: bool) -> None:
    """A key tells this try from another of the same task instance, and that from everybody else's."""
    start = Start(IDS, KEY)

    assert (of_my_try, of_my_task) == (start.is_of_my_try(other), start.is_of_my_task(other))


@pytest.mark.parametrize(
    ("change", "may_be"), [({"version": "v3"}, True), ({"version": "v3", "loop_index": 3}, False), ({}, False)]
)
def test_whose_start_of_another_version(change: dict[str, Any], may_be: bool) -> None:
    """A key of another version with our ids may be ours."""
    assert may_be is Start(IDS, KEY).may_be_of_my_task(replace(KEY, **change))


def test_repr_shows_no_environment() -> None:
    """Its values may be private."""
    assert "hunter2" not in repr(Start(IDS, KEY, {"PASSWORD": "hunter2"}))
