"""Why a run ended as it did. API v2 has no field for that in a run; its list of workloads, `/api/v2/usage`, has.

Nothing about that list is confirmed on a live CML beyond the published document: neither that a row of it carries the
run's id, nor that its times are UTC, nor who may read it. So a row is the run's only if the run's id is its own or
stands in its link, and where there is none, there is no reason to tell.

The law: one request, a few seconds, and nothing that is waited for.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_cml.api import decoding
from airflow_provider_cml.api.retry import answered
from airflow_provider_cml.api.v2 import API, NEWEST_FIRST, PAGE_SIZE
from airflow_provider_cml.api.wire import Request, Scheme

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_cml.api.models import JobRun, Usage
    from airflow_provider_cml.api.wire import Exchange

READ_TIMEOUT = 1.5
"""Seconds to connect, and as many to be answered: three in all."""
AROUND = timedelta(minutes=2)
"""How far from the run's own creation its row may be dated."""


def find_usage(run: JobRun) -> Exchange[Usage | None]:
    """What CML's list of workloads says of a run; None if it is not there.

    :raises CmlError: CML could not be asked, once, or refused.
    """
    if run.created_at is None:
        return None
    bounds = {"min": _written(run.created_at - AROUND), "max": _written(run.created_at + AROUND)}
    query = (
        ("page_size", str(PAGE_SIZE)),
        ("sort", NEWEST_FIRST),
        ("time_range_search_filter", json.dumps({"created_time": bounds})),
    )
    request = Request("GET", f"{API}/usage", Scheme.BEARER, query=query, patience=0, read_timeout=READ_TIMEOUT)
    page = yield from answered(
        request, lambda q, r: decoding.page(decoding.document(q, r), "usage_response", decoding.usage)
    )
    return next((row for row in page.items if run.id == row.id or run.id in row.url), None)


def _written(moment: datetime) -> str:
    """As the published document writes a moment, which is in UTC."""
    return moment.strftime("%Y-%m-%d %H:%M:%S")
