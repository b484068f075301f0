"""API v2, with the published document as the judge of every request."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from airflow_provider_cml.api import decoding, v2
from airflow_provider_cml.api.errors import (
    CmlConnectionError,
    CmlInputError,
    CmlJobBusyError,
    CmlNotFoundError,
    CmlProtocolError,
    CmlRefusedError,
    CmlServerError,
)
from airflow_provider_cml.api.models import Page
from airflow_provider_cml.api.states import JobRunStatus
from airflow_provider_cml.api.wire import Exchange, Request, Response, Scheme
from tests.api.playing import Outcome, Player, document, grpc_error, html, lost, unsent
from tests.api.published import DEFINITIONS, check, described

PROJECT, JOB, RUN = "k9yi-cww6-iw3w-buq0", "0d10-o6va-nd9j-p6wx", "lzwh60yx5d1984jm"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

FIELDS: dict[str, object] = {
    "name": "VaR",
    "script": "var.py",
    "cpu": 0.5,
    "memory": 1,
    "arguments": "--fast",
    "timeout": 3600,
    "environment": {"A": "b"},
    "runtime_addon_identifiers": ["hadoop"],
    "kill_on_timeout": True,
}
CHANGES: dict[str, object] = {"name": "VaR 2", "timeout": "7200", "environment": '{"A":"b"}', "paused": False}

# Each public exchange with its operation and the inputs it is tried with: the least, and all there is.
EXAMPLES: dict[str, tuple[str | None, list[Callable[[], Exchange[Any]]]]] = {
    "list_projects": (
        "ListProjects",
        [
            v2.list_projects,
            lambda: v2.list_projects(
                search_filter={"name": 'a "b" ü'},
                sort="-created_at,+name",
                page_size=7,
                page_token="t=/+",
                include_public_projects=True,
            ),
        ],
    ),
    "get_project": ("GetProject", [lambda: v2.get_project(PROJECT), lambda: v2.get_project("a/b", patience=1)]),
    "list_jobs": (
        "ListJobs",
        [
            lambda: v2.list_jobs(PROJECT),
            lambda: v2.list_jobs(PROJECT, search_filter={"name": "x"}, sort="+name", page_size=7, page_token="t"),
        ],
    ),
    "get_job": ("GetJob", [lambda: v2.get_job(PROJECT, JOB)]),
    "create_job": ("CreateJob", [lambda: v2.create_job(PROJECT, FIELDS)]),
    "update_job": ("UpdateJob", [lambda: v2.update_job(PROJECT, JOB, CHANGES)]),
    "delete_job": ("DeleteJob", [lambda: v2.delete_job(PROJECT, JOB)]),
    "list_job_runs": (
        "ListJobRuns",
        [
            lambda: v2.list_job_runs(PROJECT, JOB),
            lambda: v2.list_job_runs(PROJECT, JOB, search_filter={"status": "running"}, page_token="t", patience=1),
            lambda: v2.list_job_runs(PROJECT, JOB, sort=None, page_size=1),
        ],
    ),
    "create_job_run": (
        "CreateJobRun",
        [
            lambda: v2.create_job_run(PROJECT, JOB),
            lambda: v2.create_job_run(PROJECT, JOB, environment={"A": "b"}, arguments="--date 2026-11-21"),
            lambda: v2.create_job_run(PROJECT, JOB, environment={}, arguments=""),
        ],
    ),
    "get_job_run": ("GetJobRun", [lambda: v2.get_job_run(PROJECT, JOB, RUN, patience=1, give_up_at=5)]),
    "stop_job_run": ("StopJobRun", [lambda: v2.stop_job_run(PROJECT, JOB, RUN, patience=1)]),
    "validate_api_key": ("ValidateAPIKey", [lambda: v2.validate_api_key(patience=1, read_timeout=3)]),
    "request": (
        None,
        [
            lambda: v2.request("get", f"/api/v2/projects/{PROJECT}"),
            lambda: v2.request("PATCH", f"/api/v2/projects/{PROJECT}", json={"description": "x"}),
            lambda: v2.request("GET", "/api/v2/usage", query={"page_size": "5", "sort": "-created_at"}),
        ],
    ),
}
NO_EXCHANGES = {"read_project_count"}
INPUTS = [
    pytest.param(operation, make, id=f"{name}-{number}")
    for name, (operation, makes) in EXAMPLES.items()
    for number, make in enumerate(makes)
]


def first_request(exchange: Exchange[Any]) -> Request:
    wish = next(exchange)
    assert isinstance(wish, Request)
    return wish


def test_every_public_function_has_an_example() -> None:
    """A new exchange comes with an input that is checked against the document."""
    public = {name for name, value in vars(v2).items() if inspect.isfunction(value) and value.__module__ == v2.__name__}

    assert {name for name in public if not name.startswith("_")} == {*EXAMPLES, *NO_EXCHANGES}


@pytest.mark.parametrize(("operation", "make"), INPUTS)
def test_path_and_method(operation: str | None, make: Callable[[], Exchange[Any]]) -> None:
    """Each request is the document's operation of that id, and proves itself as v2 wants it."""
    request = first_request(make())
    _, described_as = described(request.method, request.path)

    assert (operation or described_as["operationId"], Scheme.BEARER) == (described_as["operationId"], request.scheme)


@pytest.mark.parametrize(("operation", "make"), INPUTS)
def test_query(operation: str | None, make: Callable[[], Exchange[Any]]) -> None:
    """Each parameter is declared, of its type, and given once."""
    request = first_request(make())
    _, described_as = described(request.method, request.path)
    declared = {item["name"]: item["type"] for item in described_as.get("parameters", []) if item["in"] == "query"}
    of_type = {"integer": r"\d+", "boolean": "true|false", "string": "(?s).*"}

    names = [name for name, _ in request.query]
    assert len(set(names)) == len(names)
    assert [] == [n for n, value in request.query if n not in declared or not re.fullmatch(of_type[declared[n]], value)]


@pytest.mark.parametrize(("operation", "make"), INPUTS)
def test_body(operation: str | None, make: Callable[[], Exchange[Any]]) -> None:
    """Each body is there where the document wants one, fits its schema, and has no field the schema does not name."""
    request = first_request(make())
    _, described_as = described(request.method, request.path)
    schemas = [item["schema"] for item in described_as.get("parameters", []) if item["in"] == "body"]

    assert (request.json is not None) == bool(schemas)
    for schema in schemas:
        check(schema, request.json)


@pytest.mark.parametrize("body", [{"job": "x"}, {"environment": {"A": 5}}, {"arguments": ["a"]}])
def test_the_judge_is_strict(body: object) -> None:
    """What CML would reject, or silently ignore, does not pass the judge."""
    with pytest.raises(jsonschema.ValidationError):
        check({"$ref": "#/definitions/CreateJobRunRequest"}, body)


@pytest.mark.parametrize(
    ("name", "idempotent"),
    [
        ("list_projects", True),
        ("get_project", True),
        ("list_jobs", True),
        ("get_job", True),
        ("create_job", False),
        ("update_job", False),
        ("delete_job", False),
        ("list_job_runs", True),
        ("create_job_run", False),
        ("get_job_run", True),
        ("stop_job_run", True),
        ("validate_api_key", True),
    ],
)
def test_what_may_be_repeated(name: str, idempotent: bool) -> None:
    """Reading and stopping may be repeated; making and changing may not."""
    assert [idempotent] * len(EXAMPLES[name][1]) == [first_request(make()).idempotent for make in EXAMPLES[name][1]]


@pytest.mark.parametrize(("method", "idempotent"), [("get", True), ("HEAD", True), ("POST", False), ("delete", False)])
def test_what_may_be_repeated_of_other_calls(method: str, idempotent: bool) -> None:
    """Of an unknown call only reading may be repeated."""
    request = first_request(v2.request(method, "/api/v2/x"))

    assert (method.upper(), idempotent) == (request.method, request.idempotent)


def test_ids_are_one_segment_each() -> None:
    """What a template rendered reaches this address or none."""
    request = first_request(v2.get_job_run("a/b", "ü", "%2e"))

    assert "/api/v2/projects/a%2Fb/jobs/%C3%BC/runs/%252e" == request.path


def test_stop_is_a_suffix() -> None:
    """`:stop` stands literally at the end; a colon within the id does not."""
    request = first_request(v2.stop_job_run(PROJECT, JOB, "a:b"))

    assert f"/api/v2/projects/{PROJECT}/jobs/{JOB}/runs/a%3Ab:stop" == request.path


@pytest.mark.parametrize("ids", [("..", JOB, RUN), (PROJECT, "", RUN), (PROJECT, JOB, "."), (PROJECT, "../x", RUN)])
def test_ids_that_lead_elsewhere_are_refused(ids: tuple[str, str, str]) -> None:
    """Before anything is sent."""
    with pytest.raises(CmlInputError):
        first_request(v2.stop_job_run(*ids))


def test_the_newest_runs_come_first() -> None:
    """Without a sort CML promises no order."""
    query = dict(first_request(v2.list_job_runs(PROJECT, JOB)).query)

    assert {"page_size": "100", "sort": "-created_at"} == query


def test_filter_and_sort_are_repeated_with_a_token() -> None:
    """The document demands it for the size, Cloudera's notebook for all."""
    exchange = v2.list_jobs(PROJECT, search_filter={"name": "ü"}, sort="+name", page_size=7, page_token="t")

    query = dict(first_request(exchange).query)

    assert {"page_size": "7", "search_filter": '{"name": "ü"}', "sort": "+name", "page_token": "t"} == query


def test_a_start_carries_only_what_was_given() -> None:
    """No environment is no field; empty arguments are given ones."""
    bodies = [first_request(make()).json for make in EXAMPLES["create_job_run"][1]]
    ids = {"project_id": PROJECT, "job_id": JOB}

    assert [
        ids,
        {**ids, "environment": {"A": "b"}, "arguments": "--date 2026-11-21"},
        {**ids, "arguments": ""},
    ] == bodies


# ------------------------------------------------------------------------------------------------ answers


class Watched(dict[str, Any]):
    """A JSON object that remembers which of its fields were asked for."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__({name: Watched(value) if isinstance(value, dict) else value for name, value in fields.items()})
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def example(schema: dict[str, Any], depth: int = 0) -> Any:
    """A value for a schema of the document, all fields set."""
    if "$ref" in schema:
        return example(DEFINITIONS[schema["$ref"].rpartition("/")[2]], depth)
    match schema.get("type"), schema.get("format"):
        case "string", "date-time":
            return "2026-10-03T08:07:48.123456Z"
        case "string", "int64":
            return "3600"
        case "string", _:
            return schema["enum"][-1] if "enum" in schema else "text"
        case "boolean", _:
            return True
        case (("integer" | "number"), _):
            return 1
        case "array", _:
            return [] if depth > 3 else [example(schema["items"], depth + 1)]
    properties = schema.get("properties", {})
    return {} if depth > 3 else {name: example(field, depth + 1) for name, field in properties.items()}


@pytest.mark.parametrize(("operation", "make"), INPUTS)
def test_an_answer_as_the_document_has_it_is_read(operation: str | None, make: Callable[[], Exchange[Any]]) -> None:
    """An answer with all fields set becomes a value."""
    request = first_request(make())
    _, described_as = described(request.method, request.path)
    answer = example(described_as["responses"]["200"]["schema"])

    value = Player(document(answer)).play(make())

    assert operation == "DeleteJob" or value
    if isinstance(value, Page):
        assert 1 == len(value.items)


@pytest.mark.parametrize(
    ("definition", "read"),
    [
        ("Project", decoding.project),
        ("Job", decoding.job),
        ("JobRun", decoding.job_run),
        ("ValidateAPIKeyResponse", decoding.key_owner),
        ("ListJobRunsResponse", lambda fields: decoding.page(fields, "job_runs", decoding.job_run)),
        ("ListJobsResponse", lambda fields: decoding.page(fields, "jobs", decoding.job)),
        ("ListProjectsResponse", lambda fields: decoding.page(fields, "projects", decoding.project)),
    ],
)
def test_only_fields_of_the_document_are_read(definition: str, read: Callable[[dict[str, Any]], object]) -> None:
    """Every field that is asked for exists under that name, at its place."""
    fields = Watched(example(DEFINITIONS[definition]))

    read(fields)

    unknown = [
        f"{where}.{name}"
        for where, watched in [(definition, fields), *((n, v) for n, v in fields.items() if isinstance(v, Watched))]
        for name in watched.asked
        if name not in watched
    ]
    assert (True, []) == (bool(fields.asked), unknown)


def test_read_project_count() -> None:
    """How many projects a page holds."""
    request = Request("GET", "/api/v2/projects", Scheme.BEARER)

    assert 2 == v2.read_project_count(request, document({"projects": [{"id": "a"}, {"id": "b"}]}))


@pytest.mark.parametrize(
    ("answer", "error", "out_of_quota"),
    [
        (grpc_error(400, "job run for job x already active", 9), CmlJobBusyError, False),
        (grpc_error(409, "already active", 6), CmlJobBusyError, False),
        (grpc_error(409, "out of quota: CPU request limit reached", 10), CmlJobBusyError, True),
        (grpc_error(412, "already active", 9), CmlJobBusyError, False),
        (Response(412), CmlRefusedError, None),
        (grpc_error(409, "the project is being archived", 10), CmlRefusedError, None),
        (grpc_error(400, "the runtime is disabled", 9), CmlRefusedError, None),
        (grpc_error(400, "Problem with field JobId", 3), CmlRefusedError, None),
        (Response(400), CmlRefusedError, None),
        (grpc_error(403, "no", 9), CmlRefusedError, None),
        (grpc_error(404, "no", 5), CmlNotFoundError, None),
        (grpc_error(429, "no", 8), CmlServerError, None),
        (grpc_error(503, "no", 14), CmlServerError, None),
        (Response(302), CmlProtocolError, None),
        (html("404 Not Found", 404), CmlProtocolError, None),
        (Response(200, {"content-type": "text/html"}, b"<html>"), CmlProtocolError, None),
        (document({"status": "ENGINE_SCHEDULING"}), CmlProtocolError, None),
        (lost(), CmlConnectionError, None),
        (unsent(), CmlConnectionError, None),
    ],
)
def test_a_start_is_one_request_whatever_comes(
    answer: Outcome, error: type[Exception], out_of_quota: bool | None
) -> None:
    """Busy is told from rejected, and no failure is met by a second POST, not even one that was not sent."""
    player = Player(answer)

    with pytest.raises(error) as caught:
        player.play(v2.create_job_run(PROJECT, JOB))

    assert (1, []) == (len(player.requests), player.pauses)
    assert isinstance(caught.value, CmlJobBusyError) == (out_of_quota is not None)
    if isinstance(caught.value, CmlJobBusyError):
        assert out_of_quota is caught.value.out_of_quota


@pytest.mark.parametrize(
    ("date", "moment"),
    [
        ("Sat, 21 Nov 2026 12:00:00 GMT", NOON),
        ("Sat, 21 Nov 2026 13:00:00 +0100", NOON),
        ("Sat, 21 Nov 2026 12:00:00 -0000", NOON),
        ("yesterday", None),
        ("Sat, 99 Nov 2026 12:00:00 GMT", None),
        ("", None),
    ],
)
def test_a_list_of_runs_tells_the_clock_of_cml(date: str, moment: datetime | None) -> None:
    """The time when it answered, from the Date header; none where that cannot be read."""
    page = Player(document({"job_runs": []}, headers={"date": date})).play(v2.list_job_runs(PROJECT, JOB))

    assert moment == page.date


@pytest.mark.parametrize(
    "exchange",
    [
        lambda: v2.list_projects(patience=7, unreachable_patience=3),
        lambda: v2.list_jobs(PROJECT, patience=7, unreachable_patience=3),
        lambda: v2.list_job_runs(PROJECT, JOB, patience=7, unreachable_patience=3),
    ],
    ids=["projects", "jobs", "runs"],
)
def test_the_patience_of_a_list(exchange: Callable[[], Exchange[Any]]) -> None:
    """With an outage, and with an address where no workspace is."""
    request = first_request(exchange())

    assert (7, 3) == (request.patience, request.unreachable_patience)


def test_a_skipped_run_is_an_answer() -> None:
    """The fourth face of a busy job is for who started it to read."""
    run = Player(document({"id": RUN, "status": "ENGINE_SKIPPED"})).play(v2.create_job_run(PROJECT, JOB))

    assert JobRunStatus.SKIPPED is run.status


@pytest.mark.parametrize("body", [b"", b"{}", b"not json"])
def test_a_deletion_reads_no_body(body: bytes) -> None:
    """Gone is gone, whatever is said about it."""
    player = Player(Response(200, {}, body))

    player.play(v2.delete_job(PROJECT, JOB))

    assert 1 == len(player.requests)


@pytest.mark.parametrize(("body", "found"), [(b'{"a": [1]}', {"a": [1]}), (b"", {}), (b" ", {})])
def test_any_other_call_returns_the_object(body: bytes, found: dict[str, Any]) -> None:
    """Its JSON object as it stands; nothing is an empty one."""
    assert found == Player(Response(200, {}, body)).play(v2.request("GET", "/api/v2/usage"))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "api/v2/projects",
        "/apis/v2",
        "/api",
        "https://elsewhere.example/api/v2/projects",
        "//elsewhere.example/api/v2",
        "/api//elsewhere.example",
        "/api/../admin",
        "/api/v2/..",
        "/api/./v2",
        "/api/%2e%2e/admin",
        "/api/%2E%2e/admin",
        "/api/.%2e/admin",
        "/api/%2e./admin",
        "/api/v2/%2e/admin",
        "/api/v2/x%2f..%2f..%2fadmin",
        "/api/v2\\..\\admin",
        "/api/v2/%5c..%5c",
        "/api/v2/x?y=z",
        "/api/v2/x#y",
        "/api/v2/x y",
        "/api/v2/x\r\nHost: elsewhere",
        "/api/v2/ü",
        "\t/api/v2/x",
    ],
)
def test_any_other_call_stays_within_the_api(path: str) -> None:
    """A path that begins elsewhere, or leads there, is refused before a connection opens."""
    with pytest.raises(CmlInputError, match=r"^path: "):
        first_request(v2.request("GET", path))


@pytest.mark.parametrize(
    "path", ["/api/v2/a%2Fb/c", "/api/v2/x:stop", "/api/v2/a..b", "/api/v2/%25", "/api/v2/...", "/api/x~y"]
)
def test_any_other_call_keeps_its_path(path: str) -> None:
    """What is a path of the API goes out as it stands."""
    request = first_request(v2.request("GET", path))

    assert path == request.path


def test_looks_at_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again and again: the same request each time, an answer that is as it was is not read again, news is."""
    read: list[str] = []
    original = decoding.job_run

    def counted(fields: dict[str, Any]) -> Any:
        read.append(fields["status"])
        return original(fields)

    monkeypatch.setattr(decoding, "job_run", counted)
    looks = v2.JobRunLooks(PROJECT, JOB, RUN, patience=600.0)
    requests, seen = [], []
    for word in ("ENGINE_STARTING", "ENGINE_RUNNING", "ENGINE_RUNNING", "ENGINE_OK"):
        exchange = looks.again(None)
        requests.append(next(exchange))
        with pytest.raises(StopIteration) as end:
            exchange.send(document({"id": RUN, "status": word}))
        seen.append(end.value.value.word)

    single = first_request(v2.get_job_run(PROJECT, JOB, RUN, patience=600.0))
    assert [single] * 4 == requests
    assert ["ENGINE_STARTING", "ENGINE_RUNNING", "ENGINE_RUNNING", "ENGINE_OK"] == seen
    assert ["ENGINE_STARTING", "ENGINE_RUNNING", "ENGINE_OK"] == read
