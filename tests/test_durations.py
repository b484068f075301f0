"""What a DAG author may give as seconds."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_cml.api.errors import CmlInputError
from airflow_provider_cml.durations import TEN_YEARS, check_seconds


@pytest.mark.parametrize("seconds", [0.001, 1, 30.0, TEN_YEARS - 1])
def test_duration(seconds: float) -> None:
    """Whole numbers and others, up to ten years."""
    check_seconds("timeout", seconds)


@pytest.mark.parametrize("seconds", [0, -1, None, True, "30", float("nan"), float("inf"), TEN_YEARS, 10**400])
def test_what_is_none_is_refused_by_name(seconds: Any) -> None:
    """Texts, truth values and what has no end are no durations."""
    with pytest.raises(CmlInputError, match=r"^busy_timeout: .* is not a number of seconds above zero"):
        check_seconds("busy_timeout", seconds)
