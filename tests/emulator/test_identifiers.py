"""Shapes of ids, keys, slugs and timestamps."""

from __future__ import annotations

import pytest

from airflow_provider_cml.emulator import identifiers


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda: identifiers.derived_id("job", "alice", "x", 1), r"[0-9a-z]{4}(-[0-9a-z]{4}){3}"),
        (identifiers.random_public_id, r"[0-9a-z]{4}(-[0-9a-z]{4}){3}"),
        (identifiers.random_engine_id, r"[0-9a-z]{16}"),
        (identifiers.random_api_key, r"[0-9a-f]{64}\.[0-9a-f]{64}"),
        (identifiers.random_legacy_key, r"[0-9a-z]{32}"),
    ],
)
def test_ids_and_keys_have_the_shapes_seen_on_live_workspaces(make, pattern):
    """Each in the form seen in public clients of CML."""
    import re

    assert re.fullmatch(pattern, make())


@pytest.mark.parametrize(
    ("name", "slug"),
    [("Risk Analysis", "risk-analysis"), ("Real_DWH_Import", "real_dwh_import"), ("DSE", "dse"), ("a (b)!", "a-b")],
)
def test_slugs_are_those_of_the_documentation(name, slug):
    """Lower case, dashes for what is neither letter, digit nor underscore."""
    assert slug == identifiers.slug_of(name)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, None),
        (1_790_000_000.0, "2026-09-21T14:13:20Z"),
        (1_790_000_000.5, "2026-09-21T14:13:20.500Z"),
        (1_790_000_000.123456, "2026-09-21T14:13:20.123456Z"),
    ],
)
def test_timestamps_have_no_three_six_digits_or_are_null(moment, text):
    """As Go writes them."""
    assert text == identifiers.timestamp(moment)
