"""Answers no CML gives, as hypothesis makes them up: JSON of right and wrong shapes, bytes that are none, any status.

The law: what can be told apart by reading it as JSON is made here; how it comes over a socket is `test_bad_answers`'.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from airflow_provider_cml.api.errors import CmlConnectionError
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.api.wire import Response
from tests.api.playing import Outcome

MEBIBYTE = 1024 * 1024
JOB_ID = "j8b1-m4p2-x0q7-w3ne"
PROJECT_ID = "k9yi-cww6-iw3w-buq0"
KEY = (
    "v2;deployment=test;configured=no;dag=risk;run=scheduled__1;task=report;map=-1;loop=-1;region=;"
    "start=1763712000000000;nonce=;clear=;max_tries=2;retries=2;try=2;post=1abcd"
)

FIELDS = [
    *("id", "name", "slug", "owner", "username", "created_at", "project", "public_identifier", "script", "parent_id"),
    *("paused", "retry_enabled", "timeout", "kill_on_timeout", "status", "environment", "project_id", "job_id"),
    *("scheduling_at", "starting_at", "running_at", "finished_at", "arguments", "creator", "valid", "message"),
    *("next_page_token", "job_runs", "jobs", "projects", "engine_id", "error", "code", "details"),
]
WORDS = [
    *("ENGINE_SCHEDULING", "ENGINE_STARTING", "ENGINE_RUNNING", "ENGINE_STOPPING", "ENGINE_STOPPED", "ENGINE_FAILED"),
    *("ENGINE_SUCCEEDED", "ENGINE_TIMEDOUT", "ENGINE_SKIPPED", "ENGINE_UNKNOWN", "UNKNOWN", "succeeded", ""),
]
KEYS = [
    KEY,
    KEY.replace("try=2", "try=1"),
    KEY.replace("try=2", "try=9"),
    KEY[:40],
    "x",
    "v2;;;;;x;;;;;",
    "v3" + KEY[2:],
]
ODD_TEXTS = ["\ud800", "a\x00b", "..", ".", "a/../b", "\u202e", "ü" * 50, "x" * 70_000, "\ud83d", "%2e%2e", "\r\nA: b"]
TIMES = [
    *("2026-10-03T08:07:48.123456789Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "24:00", "-1"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59Z"),
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, -(2**63), 10**400, 10**4299])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([*ODD_TEXTS, *WORDS, *TIMES, JOB_ID, PROJECT_ID])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=10,
)
environments = st.sampled_from(KEYS).map(lambda key: json.dumps({RUN_KEY_VARIABLE: key})) | values


def _object(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Nearly right: each field may be as it should be, anything, or missing."""
    return st.fixed_dictionaries({}, optional={name: right | values for name, right in fields.items()})


texts = st.sampled_from(["a", "b", "risk-analysis", "alice", "nightly", JOB_ID, PROJECT_ID, *ODD_TEXTS])
projects = _object(id=texts, name=texts, slug=texts, owner=_object(username=texts), created_at=st.sampled_from(TIMES))
jobs = _object(id=texts, name=texts, timeout=scalars, retry_enabled=st.booleans())
runs = _object(
    id=texts,
    status=st.sampled_from(WORDS),
    environment=environments,
    **dict.fromkeys(("created_at", "finished_at"), st.sampled_from(TIMES)),
)
tokens = st.sampled_from(["", "", "more", "\ud800", "x" * 5_000]) | values
pages = st.one_of(
    *(
        st.fixed_dictionaries({name: st.lists(items, max_size=4) | values, "next_page_token": tokens})
        for name, items in {"projects": projects, "jobs": jobs, "job_runs": runs}.items()
    )
)
objects = st.one_of(pages, projects, jobs, runs, _object(engine_id=texts, username=texts, valid=st.booleans()), values)


def _written(value: object) -> bytes:
    return json.dumps(value).encode()


NO_JSON = [
    b"",
    b" \r\n",
    b"null",
    b"[" * 100_000,
    b'{"id":' * 100_000,
    b'{"environment": "' + b"[" * 100_000 + b'"}',
    b'{"id": ' + b"9" * 100_000 + b"}",
    b'{"id": 1e999999, "timeout": -Infinity, "code": NaN}',
    b'{"id": "\xff\xfe"}',
    b'{"id": "\\ud800"}',
    b"\xef\xbb\xbf{}",
    b'{"id": "x", "status": "ENGINE_SUCC',
    b"<html><title>Sign in</title></html>",
    b"<html>" + b"<title" * 5_000,
    "{}".encode("utf-16"),
    "{}".encode("utf-32"),
]
bodies = objects.map(_written) | st.sampled_from(NO_JSON) | st.binary(max_size=50)
KINDS = [
    *("application/json", "text/html", "text/plain; charset=nonsense", "", "\x00", "multipart/x;" * 50),
    *("application/json; charset=utf-16", "image/png"),
]
dates = st.sampled_from(
    ["5", "-5", "0", "9" * 400, "soon", "Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 99 Foo -1 99:99:99 +9999", "٣", "1e3"]
)
headers = st.fixed_dictionaries(
    {"content-type": st.sampled_from(KINDS)}, optional={"retry-after": dates | st.text(max_size=20), "date": dates}
)
GOOD, BAD = [200, 200, 200, 201, 204, 299], [100, 300, 302, 400, 401, 403, 404, 408, 409, 412, 429, 500, 501, 503, 999]
answers: st.SearchStrategy[Outcome] = st.builds(
    Response, st.sampled_from([*GOOD, *GOOD, *GOOD, *BAD]), headers, bodies
) | st.sampled_from([CmlConnectionError("lost", sent=True), CmlConnectionError("never left", sent=False)])
