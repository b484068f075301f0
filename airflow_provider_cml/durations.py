"""The seconds that a DAG author may give: gaps and limits of operator and sensor.

The law: what is no duration is refused by its name before anything is asked or started.
"""

from __future__ import annotations

from airflow_provider_cml.api.errors import CmlInputError

TEN_YEARS = 10 * 365 * 86_400.0
"""Seconds. Airflow adds the time of a deferral to a date, and its dates have a last one."""


def check_seconds(name: str, seconds: object) -> None:
    """Refuse what is no duration; without limit is None, which is not asked about here, and not infinity.

    :raises CmlInputError: it is no number, not above zero, or ten years and more.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < TEN_YEARS:
        message = f"{name}: {seconds!r} is not a number of seconds above zero and below ten years."
        raise CmlInputError(message)
