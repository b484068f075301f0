"""From what a DAG's author calls a moment to one: with a time zone, or not at all.

The law: nobody's local time is guessed.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_cml.api.errors import CmlInputError


def moment_of(since: object) -> datetime:
    """The moment a sensor's `since` names, in UTC.

    :raises CmlInputError: it names none, or has no time zone.
    """
    try:
        moment = since if isinstance(since, datetime) else datetime.fromisoformat(str(since).strip())
    except ValueError:
        message = f"since: {since!r} is not a moment in ISO 8601, such as 2026-11-21T06:00:00+00:00."
        raise CmlInputError(message) from None
    if moment.tzinfo is None:
        message = f"since: {since!r} has no time zone; add one, such as +00:00."
        raise CmlInputError(message)
    return moment.astimezone(UTC)
