"""The variables of a run: text for CML, or a refusal that names the variable and never its value."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cml.api.environment import as_text, risky_names
from airflow_provider_cml.api.errors import CmlInputError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        ("text", "text"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-12, "-12"),
        (10**30, "1" + "0" * 30),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),
        (1e22, "10000000000000000000000"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (Fraction(1, 4), "0.25"),
    ],
)
def test_values_become_text(value: object, text: str) -> None:
    """CML takes strings only: numbers are written in decimal, booleans as JSON writes them."""
    assert {"NAME": text} == as_text({"NAME": value})


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.integers() | st.floats() | st.text() | st.booleans()
    )
)
def test_every_value_is_text_or_refused(environment: dict[str, Any]) -> None:
    """What gets through is text without a NUL, and numbers keep their value."""
    try:
        found = as_text(environment)
    except CmlInputError:
        return

    numbers = {n: v for n, v in environment.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    assert numbers == {name: type(value)(found[name]) for name, value in numbers.items()}
    assert all("\0" not in text for text in found.values())


@pytest.mark.parametrize("environment", [None, {}, MappingProxyType({})])
def test_nothing_is_nothing(environment: object) -> None:
    """No variables are no variables."""
    assert {} == as_text(environment)


@pytest.mark.parametrize(
    "value",
    [None, math.nan, math.inf, Decimal("NaN"), ["secret-part"], {"a": "secret-part"}, b"secret-part", "secret-part\0"],
)
def test_a_value_that_is_no_text_is_refused_without_showing_it(value: object) -> None:
    """The message names the field and the variable; a value never stands in it."""
    with pytest.raises(CmlInputError) as caught:
        as_text({"NAME": value}, "private_environment")

    assert "private_environment: the value of NAME" in str(caught.value)
    assert "secret-part" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "A=B", "A\0", 5, None, "AIRFLOW_RUN_KEY", "AIRFLOW_CTX_DAG_ID"])
def test_a_name_that_cannot_be_is_refused(name: object) -> None:
    """What cannot be a variable, and what the provider keeps for itself, is refused."""
    with pytest.raises(CmlInputError, match=r"^environment: "):
        as_text({name: "x"})


@pytest.mark.parametrize("environment", ["A=1", ["A"], 5])
def test_not_a_dict(environment: object) -> None:
    """Only a dict holds variables."""
    with pytest.raises(CmlInputError, match="environment: must be a dict of variables"):
        as_text(environment)


def test_risky_names() -> None:
    """CML's own variables and PATH had better be left alone."""
    names = {"PATH": "", "CDSW_X": "", "CML_Y": "", "PATHS": "", "cdsw_z": "", "FREE": ""}

    assert ["CDSW_X", "CML_Y", "PATH"] == risky_names(names)
