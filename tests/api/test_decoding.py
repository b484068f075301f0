"""From the bytes of an answer to fields: a value, or a protocol error, whatever a server sends."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cml.api import decoding
from airflow_provider_cml.api.errors import CmlProtocolError
from airflow_provider_cml.api.models import Job, JobRun, KeyOwner, Page, Project
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import Request, Response, Scheme

GET = Request("GET", "/api/v2/projects", Scheme.BEARER)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "id name slug owner username created_at project public_identifier script parent_id paused retry_enabled",
    "kill_on_timeout timeout status environment project_id job_id finished_at arguments creator valid message",
    "next_page_token job_runs jobs projects engine_id",
]
times = st.sampled_from(
    ["2026-10-03T08:07:48.123456789Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "x"]
)
nested = st.dictionaries(st.sampled_from(" ".join(FIELDS).split()), json_values, max_size=4)
answers = st.dictionaries(
    st.sampled_from(" ".join(FIELDS).split()),
    json_values | times | nested | st.lists(nested, max_size=3) | nested.map(json.dumps),
)
READERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "project": decoding.project,
    "job": decoding.job,
    "job_run": decoding.job_run,
    "key_owner": decoding.key_owner,
    "engine_id": decoding.engine_id,
    "page of runs": lambda fields: decoding.page(fields, "job_runs", decoding.job_run),
    "page of jobs": lambda fields: decoding.page(fields, "jobs", decoding.job),
}


@pytest.mark.parametrize("reader", READERS)
@given(fields=answers)
def test_any_fields_are_a_value_or_a_protocol_error(reader: str, fields: dict[str, Any]) -> None:
    """Wrong types, missing fields, odd numbers and times: nothing else ever comes out."""
    try:
        value = READERS[reader](fields)
    except CmlProtocolError:
        return

    assert isinstance(value, Project | Job | JobRun | KeyOwner | Page | str)


@given(body=st.binary() | json_values.map(lambda value: json.dumps(value).encode("utf-16")))
def test_any_bytes_are_an_object_or_a_protocol_error(body: bytes) -> None:
    """Whatever the bytes, they are a JSON object or a protocol error."""
    try:
        found = decoding.document(GET, Response(200, {}, body))
    except CmlProtocolError:
        return

    assert isinstance(found, dict)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty body"),
        (b" \n", "empty body"),
        (b"<html></html>", "not readable as JSON"),
        (b'{"id": "x"', "not readable as JSON"),
        (b'{"id": "\xff\xfe"}', "not readable as JSON"),
        (b'{"id": ' + b"9" * 5000 + b"}", "not readable as JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"[]", "a JSON list, not an object"),
        (b"null", "a JSON NoneType, not an object"),
        (b'"text"', "a JSON str, not an object"),
    ],
)
def test_not_an_object(body: bytes, why: str) -> None:
    """The error says what is wrong with the answer."""
    with pytest.raises(CmlProtocolError) as caught:
        decoding.document(GET, Response(200, {"content-type": "application/json; charset=utf-8"}, body))

    assert f"GET /api/v2/projects: expected JSON, got application/json ({why})" in str(caught.value)


@pytest.mark.parametrize("body", [b'{"environment": "hunter2', b'{"environment": "hunter2\xff"}', b"[" * 200_000])
def test_an_error_carries_no_body(body: bytes) -> None:
    """The errors of json keep the whole document; none of them travels along, neither as cause nor as context."""
    with pytest.raises(CmlProtocolError) as caught:
        decoding.document(GET, Response(200, {}, body))

    assert (None, None, False) == (caught.value.__cause__, caught.value.__context__, "hunter2" in str(caught.value))


def test_the_content_type_does_not_matter() -> None:
    """JSON that is called text/plain is JSON."""
    assert {"id": "x"} == decoding.document(GET, Response(200, {"content-type": "text/plain"}, b'{"id": "x"}'))


# ------------------------------------------------------------------------------------------------ nouns


def test_project() -> None:
    """A project as the document has it."""
    fields = {
        "id": "k9yi-cww6-iw3w-buq0",
        "name": "Risk Analysis",
        "slug": "risk-analysis",
        "owner": {"username": "alice", "name": "Alice", "email": ""},
        "created_at": "2026-10-03T08:07:48.123456789Z",
        "environment": '{"DB_PASSWORD":"hunter2"}',
    }
    created = datetime(2026, 10, 3, 8, 7, 48, 123456, tzinfo=UTC)

    assert Project("k9yi-cww6-iw3w-buq0", "Risk Analysis", "risk-analysis", "alice", created) == decoding.project(
        fields
    )


def test_job() -> None:
    """A job as the document has it; its int64 timeout travels as a string."""
    fields = {
        "id": "j",
        "name": "VaR",
        "project": {"public_identifier": "p"},
        "script": "var.py",
        "parent_id": "other",
        "paused": True,
        "retry_enabled": True,
        "kill_on_timeout": True,
        "timeout": "3600",
    }

    assert Job("j", "VaR", "p", "var.py", "other", True, True, True, 3600) == decoding.job(fields)


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        ("15", 15),
        (15, 15),
        ("0", None),
        (0, None),
        ("", None),
        (None, None),
        (True, None),
        ("x", None),
        ("-1", None),
        ("9" * 30, None),
        ("٣", None),
        ([15], None),
    ],
)
def test_job_timeout(timeout: object, seconds: int | None) -> None:
    """A timeout is a number of seconds, or none is set."""
    assert seconds == decoding.job({"id": "j", "timeout": timeout}).timeout


def test_job_run() -> None:
    """A run as the document has it; of its environment only our key is kept."""
    environment = json.dumps({"DB_PASSWORD": "hunter2", RUN_KEY_VARIABLE: "v1;key"})
    fields = {
        "id": "lzwh60yx5d1984jm",
        "project_id": "p",
        "job_id": "j",
        "status": "ENGINE_TIMEDOUT",
        "created_at": "2026-10-03T08:00:00Z",
        "scheduling_at": "2026-10-03T08:00:01Z",
        "starting_at": "2026-10-03T08:00:02Z",
        "running_at": "2026-10-03T08:00:03Z",
        "finished_at": "2026-10-03T08:00:04Z",
        "arguments": "--fast",
        "creator": {"username": "alice"},
        "environment": environment,
    }
    begin, *later = [datetime(2026, 10, 3, 8, 0, second, tzinfo=UTC) for second in range(5)]

    run = decoding.job_run(fields)

    assert (
        JobRun(
            "lzwh60yx5d1984jm",
            "p",
            "j",
            JobRunStatus.TIMEDOUT,
            "ENGINE_TIMEDOUT",
            created_at=begin,
            scheduling_at=later[0],
            starting_at=later[1],
            running_at=later[2],
            finished_at=later[3],
            arguments="--fast",
            creator="alice",
            run_key="v1;key",
            echoes=True,
        )
        == run
    )
    assert "hunter2" not in repr(run)


@pytest.mark.parametrize(
    ("environment", "key", "echoes"),
    [
        ('{"AIRFLOW_RUN_KEY": "k"}', "k", True),
        ({"AIRFLOW_RUN_KEY": "k"}, "k", True),
        ('{"OTHER": "x"}', None, True),
        ("{}", None, True),
        ({}, None, True),
        ("", None, False),
        (None, None, False),
        ("AIRFLOW_RUN_KEY=k", None, False),
        ('{"AIRFLOW_RUN_KEY": "k"', None, False),
        ('["AIRFLOW_RUN_KEY"]', None, False),
        ("[" * 100_000, None, False),
        ('{"AIRFLOW_RUN_KEY": 5}', None, True),
        (["AIRFLOW_RUN_KEY"], None, False),
        (5, None, False),
    ],
)
def test_environment(environment: object, key: str | None, echoes: bool) -> None:
    """A JSON string or an object is an echo; an empty or broken one is no evidence that there are echoes."""
    run = decoding.job_run({"id": "r", "environment": environment})

    assert (key, echoes) == (run.run_key, run.echoes)


@pytest.mark.parametrize("status", [None, "", 3, "ENGINE_RESTARTING", ["ENGINE_SUCCEEDED"]])
def test_a_status_that_cannot_be_read_is_unknown(status: object) -> None:
    """An absent or unknown status is not over, and never green."""
    run = decoding.job_run({"id": "r", "status": status})

    assert (JobRunStatus.UNKNOWN, True) == (run.status, run.is_active)


@pytest.mark.parametrize("noun", ["project", "job", "job_run"])
@pytest.mark.parametrize("fields", [{}, {"id": ""}, {"id": None}, {"id": 5}, {"id": ["x"]}])
def test_a_noun_without_an_id_is_a_protocol_error(noun: str, fields: dict[str, Any]) -> None:
    """Nothing can be done with a nameless thing."""
    with pytest.raises(CmlProtocolError, match="without an id"):
        READERS[noun](fields)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-10-03T08:07:48Z", datetime(2026, 10, 3, 8, 7, 48, tzinfo=UTC)),
        ("2026-10-03T08:07:48.5Z", datetime(2026, 10, 3, 8, 7, 48, 500_000, tzinfo=UTC)),
        ("2026-10-03T08:07:48.123456789Z", datetime(2026, 10, 3, 8, 7, 48, 123_456, tzinfo=UTC)),
        ("2026-10-03T10:07:48+02:00", datetime(2026, 10, 3, 8, 7, 48, tzinfo=UTC)),
        ("2026-10-03T08:07:48", datetime(2026, 10, 3, 8, 7, 48, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("0001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59Z", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1_790_000_000, None),
    ],
)
def test_times(text: object, moment: datetime | None) -> None:
    """RFC 3339 with any number of digits, in UTC; a bad time never spoils a good run."""
    found = decoding.job_run({"id": "r", "created_at": text}).created_at

    assert (moment, None if moment is None else UTC) == (found, None if found is None else found.tzinfo)


def test_page() -> None:
    """A page holds its items in order, and the token of the next one."""
    fields = {"jobs": [{"id": "a"}, {"id": "b"}], "next_page_token": "more"}

    page = decoding.page(fields, "jobs", decoding.job)

    assert (["a", "b"], "more") == ([job.id for job in page.items], page.next_page_token)


def test_the_date_of_a_page() -> None:
    """A page keeps the time of CML's clock, and has none where CML told none."""
    moment = datetime(2026, 11, 21, tzinfo=UTC)

    dates = [decoding.page({}, "jobs", decoding.job, date).date for date in (moment, None)]

    assert [moment, None] == dates
    assert decoding.page({}, "jobs", decoding.job).date is None


@pytest.mark.parametrize("fields", [{}, {"jobs": None}, {"jobs": []}, {"jobs": [], "next_page_token": None}])
def test_an_empty_page(fields: dict[str, Any]) -> None:
    """A list that is absent or null is empty, and the last page."""
    empty: Page[Job] = Page((), "")

    assert empty == decoding.page(fields, "jobs", decoding.job)


@pytest.mark.parametrize("items", ["x", {}, [None], [["id"]], [{"id": "a"}, 5], 7])
def test_a_page_of_other_things(items: object) -> None:
    """What is not a list of objects is no page."""
    with pytest.raises(CmlProtocolError, match="'jobs' is not a list of objects"):
        decoding.page({"jobs": items}, "jobs", decoding.job)


def test_key_owner() -> None:
    """What CML says of a key."""
    fields = {"valid": True, "username": "alice", "message": "API key is valid for the given audience"}

    assert KeyOwner("alice", True, "API key is valid for the given audience") == decoding.key_owner(fields)


@pytest.mark.parametrize("valid", [False, None, "true", 1])
def test_a_key_is_valid_only_if_cml_says_so(valid: object) -> None:
    """Anything but true is no."""
    assert not decoding.key_owner({"valid": valid}).valid


@pytest.mark.parametrize("fields", [{}, {"engine_id": ""}, {"engine_id": 5}, {"id": "x"}])
def test_no_engine_id(fields: dict[str, Any]) -> None:
    """A start on v1 that names no engine is a protocol error."""
    with pytest.raises(CmlProtocolError, match="without an engine_id"):
        decoding.engine_id(fields)
