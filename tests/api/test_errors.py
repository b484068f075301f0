"""The tree of errors: what each says, what it knows, and what it never shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cml.api import errors
from airflow_provider_cml.api.errors import (
    QUOTE_LENGTH,
    RETRY_AFTER_CAP,
    CmlConnectionError,
    CmlError,
    CmlForbiddenError,
    CmlInputError,
    CmlJobBusyError,
    CmlNotFoundError,
    CmlProtocolError,
    CmlRefusedError,
    CmlServerError,
    CmlUnauthorizedError,
    CmlUnavailableError,
    not_json,
    quote,
    refusal,
    retry_after,
)
from airflow_provider_cml.api.wire import Request, Response, Scheme
from tests.api.playing import document, grpc_error, html

GET = Request("GET", "/api/v2/projects", Scheme.BEARER)
START = Request(
    "POST",
    "/api/v2/projects/p/jobs/j/runs",
    Scheme.BEARER,
    json={"environment": {"DB_PASSWORD": "hunter2", "MODE": "on", "LONG": "hunter2 and more"}},
)

CHECK_KEY = "The API key in the connection's Password is wrong, has expired, or belongs to the other API version"
CHECK_RIGHTS = "The key's user may not do this: check that the project exists"
NOT_BY_CML = "and not by CML, whose errors are JSON. A gateway may have answered while the workspace is away; else"
CHECK_IDS = "Check the project, the job and the run that were given"
TEXTS: dict[str, tuple[Response, type[CmlError], str]] = {
    "400": (
        grpc_error(400, "Problem with field JobId: value length must be 19 runes", 3),
        CmlRefusedError,
        'GET /api/v2/projects was refused with 400 ("Problem with field JobId: value length must be 19 runes").',
    ),
    "400, nothing said": (Response(400), CmlRefusedError, "GET /api/v2/projects was refused with 400."),
    "401": (
        grpc_error(401, "API key is invalid", 16),
        CmlUnauthorizedError,
        f'GET /api/v2/projects was refused with 401 ("API key is invalid"). {CHECK_KEY}',
    ),
    "403": (
        grpc_error(403, "audience mismatch", 7),
        CmlForbiddenError,
        f'GET /api/v2/projects was refused with 403 ("audience mismatch"). {CHECK_RIGHTS}',
    ),
    "404": (
        grpc_error(404, "job not found", 5),
        CmlNotFoundError,
        f'GET /api/v2/projects was refused with 404 ("job not found"). {CHECK_IDS}',
    ),
    "404 in plain text": (
        Response(404, {"content-type": "text/plain"}, b"Not Found\n"),
        CmlProtocolError,
        f'GET /api/v2/projects was answered 404 ("Not Found"), {NOT_BY_CML}',
    ),
    "404, a page": (
        html("404 Not Found", 404, "<h1>nginx</h1>"),
        CmlProtocolError,
        f'GET /api/v2/projects was answered 404 ("404 Not Found"), {NOT_BY_CML}',
    ),
    "404, nothing said": (
        Response(404),
        CmlProtocolError,
        f"GET /api/v2/projects was answered 404, {NOT_BY_CML}",
    ),
    "404, JSON of somebody else": (
        document({"path": "/api/v2/projects"}, 404),
        CmlProtocolError,
        f"GET /api/v2/projects was answered 404, {NOT_BY_CML}",
    ),
    "404, a JSON list": (document(["error"], 404), CmlProtocolError, "GET /api/v2/projects was answered 404"),
    "404, a code alone": (document({"code": 5}, 404), CmlNotFoundError, "GET /api/v2/projects was refused with 404."),
    "403, a page": (
        html("403 Forbidden", 403),
        CmlProtocolError,
        f'GET /api/v2/projects was answered 403 ("403 Forbidden"), {NOT_BY_CML}',
    ),
    "400, a page": (
        html("400 The plain HTTP request was sent to HTTPS port", 400),
        CmlProtocolError,
        (f'GET /api/v2/projects was answered 400 ("400 The plain HTTP request was sent to HTTPS port"), {NOT_BY_CML}'),
    ),
    "401, a page": (
        html("Unauthorized", 401),
        CmlUnauthorizedError,
        f'GET /api/v2/projects was refused with 401 ("Unauthorized"). {CHECK_KEY}',
    ),
    "401, nothing said": (
        Response(401),
        CmlUnauthorizedError,
        f"GET /api/v2/projects was refused with 401. {CHECK_KEY}",
    ),
    "409": (
        grpc_error(409, "out of quota: CPU request limit reached", 10),
        CmlRefusedError,
        'GET /api/v2/projects was refused with 409 ("out of quota: CPU request limit reached").',
    ),
    "422": (Response(422), CmlRefusedError, "GET /api/v2/projects was refused with 422."),
    "501": (
        grpc_error(501, "Method Not Allowed", 12),
        CmlRefusedError,
        'GET /api/v2/projects was refused with 501 ("Method Not Allowed").',
    ),
    "408": (Response(408), CmlServerError, "GET /api/v2/projects was answered 408."),
    "429": (
        grpc_error(429, "too many requests", 8),
        CmlServerError,
        'GET /api/v2/projects was answered 429 ("too many requests").',
    ),
    "500": (
        grpc_error(500, "failed to fetch existing runtime for job", 13),
        CmlServerError,
        'GET /api/v2/projects was answered 500 ("failed to fetch existing runtime for job").',
    ),
    "502, a page": (
        html("502 Bad Gateway", 502, "<h1>nginx</h1>"),
        CmlServerError,
        'GET /api/v2/projects was answered 502 ("502 Bad Gateway").',
    ),
    "503, an empty page": (
        Response(503, {"content-type": "text/html"}, b"<html><body>secret things</body></html>"),
        CmlServerError,
        "GET /api/v2/projects was answered 503.",
    ),
    "504, a string": (
        Response(504, {}, b'"gateway timeout"'),
        CmlServerError,
        'GET /api/v2/projects was answered 504 (""gateway timeout"").',
    ),
    "302": (
        Response(302, {"location": "https://elsewhere.example/login?key=k"}),
        CmlProtocolError,
        (
            "GET /api/v2/projects was answered 302, a redirect. Redirects are not followed, so that no key travels "
            "elsewhere; use the final https:// address of the workspace as the connection's Host. "
            "A redirect to a login page means that the key was not accepted."
        ),
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_refusal(case: str) -> None:
    """Every answer that is not 2xx has its error, whose text says what was asked, what came back and what to do."""
    response, kind, text = TEXTS[case]

    error = refusal(GET, response)

    assert (kind, True) == (type(error), str(error).startswith(text)), str(error)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, *range(400, 600)])
def test_every_status_has_one_branch(status: int) -> None:
    """We could not ask, or CML said no: never both, and asking again is for the first alone.

    CML's own 403 and 404 have a body; these have none.
    """
    error = refusal(GET, Response(status))
    branches = [kind for kind in (CmlUnavailableError, CmlRefusedError) if isinstance(error, kind)]

    again = status < 400 or status in {403, 404, 408, 425, 429} or (status >= 500 and status != 501)

    assert [CmlUnavailableError if again else CmlRefusedError] == branches


def test_branches_never_meet() -> None:
    """No error is both "could not ask" and "said no", and the tree is what its docstring draws."""
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, CmlError)}
    drawn = {word for word in (errors.__doc__ or "").replace("(", " ").split() if word.startswith("Cml")}
    both = [n for n, k in kinds.items() if issubclass(k, CmlUnavailableError) and issubclass(k, CmlRefusedError)]

    assert (set(kinds), []) == (drawn - {"CML"}, both)


def test_input_error_is_a_value_error() -> None:
    """Who expects Python's own ValueError for a bad value gets it."""
    assert issubclass(CmlInputError, ValueError)


def test_connection_error_knows_whether_it_was_sent() -> None:
    """Whether the request may have had an effect is a fact about the failure."""
    error = CmlConnectionError("refused", sent=False, unreachable=True)

    assert (False, True, None, "refused") == (error.sent, error.unreachable, error.retry_after, str(error))


@pytest.mark.parametrize("status", [429, 500, 302])
def test_an_answer_says_that_it_was_sent(status: int) -> None:
    """Whatever came back, the request had left."""
    error = refusal(GET, Response(status))

    assert isinstance(error, CmlUnavailableError)
    assert error.sent


@pytest.mark.parametrize(
    ("message", "out_of_quota"), [("job run for job x already active", False), ("Out of Quota: CPU", True)]
)
def test_busy_tells_capacity_from_another_run(message: str, out_of_quota: bool) -> None:
    """Out of quota is not busy: no other run of the job is meant."""
    error = CmlJobBusyError(START, grpc_error(409, message, 9))

    assert (out_of_quota, 9, 409) == (error.out_of_quota, error.grpc_code, error.status)


@pytest.mark.parametrize(
    ("body", "code"),
    [(b'{"code": 9}', 9), (b'{"code": "9"}', None), (b"{}", None), (b"[9]", None), (b"no JSON", None), (b"", None)],
)
def test_grpc_code(body: bytes, code: int | None) -> None:
    """The gRPC code is read where there is one, and is a number."""
    error = refusal(GET, Response(400, {}, body))

    assert isinstance(error, CmlRefusedError)
    assert code == error.grpc_code


@pytest.mark.parametrize(
    ("answer", "busy", "conflict"),
    [
        (grpc_error(400, "job run for job x already active", 9), True, False),
        (grpc_error(400, "A job run is ALREADY ACTIVE", 2), True, False),
        (grpc_error(409, "already active", 6), True, False),
        (grpc_error(412, "already active", 9), True, False),
        (grpc_error(409, "Out of Quota: CPU", 10), True, False),
        (grpc_error(400, "out of quota", 3), False, False),
        (grpc_error(400, "out of quota", 9), False, True),
        (grpc_error(412, "out of quota", 9), False, True),
        (grpc_error(409, "the project is being archived", 10), False, True),
        (grpc_error(412, "the runtime is disabled", 9), False, True),
        (grpc_error(400, "the runtime is disabled", 9), False, True),
        (Response(409), False, True),
        (Response(412), False, True),
        (grpc_error(400, "Problem with field JobId", 3), False, False),
        (grpc_error(403, "already active", 9), False, False),
        (grpc_error(404, "already active", 5), False, False),
        (grpc_error(422, "no", 9), False, False),
    ],
)
def test_busy_is_what_the_text_says(answer: Response, busy: bool, conflict: bool) -> None:
    """Neither 409 nor 412 nor gRPC's code 9 alone says that the job is busy: it is a conflict, whose reason is open."""
    error = refusal(START, answer)

    assert isinstance(error, CmlRefusedError)
    assert (busy, conflict) == (error.is_busy, error.is_conflict)


# ------------------------------------------------------------------------------------------------ quoting


@pytest.mark.parametrize(
    "response",
    [
        grpc_error(400, "x" * 5000),
        Response(400, {}, b"y" * 5000),
        html("z" * 5000, 502),
        Response(400, {"content-type": "q" * 5000}, b"w" * 5000),
    ],
)
def test_quotes_at_most_200_characters(response: Response) -> None:
    """However much a server says, an error stays a line."""
    said = quote(GET, response)

    assert QUOTE_LENGTH == len(said.removeprefix(' ("').removesuffix('")'))
    assert len(str(not_json(GET, response, "why"))) < QUOTE_LENGTH + 450


@pytest.mark.parametrize(
    "response",
    [
        grpc_error(400, "bad value hunter2 and more for DB_PASSWORD"),
        grpc_error(400, "bad value 'hunter2'"),
        document({"error": "hunter2"}, 500),
        Response(500, {"content-type": "text/plain"}, b"cannot use hunter2"),
        html("hunter2 is bad", 500),
        document({"id": "r", "environment": '{"DB_PASSWORD":"hunter2"}'}, 500),
        document({"id": "r", "environment": {"OTHER_PASSWORD": "hunter2"}}, 500),
        document([{"environment": '{"DB_PASSWORD":"hunter2"}'}], 500),
        Response(500, {}, b'{"id": "r", "environment": "{\\"DB_PASSWORD\\":\\"hunter2'),
        Response(500, {}, b'ENVIRONMENT: OTHER="project-secret" hunter2'),
    ],
)
def test_never_quotes_an_environment_value(response: Response) -> None:
    """CML echoes passwords, and a careless gateway what it was sent; no error text does."""
    texts = str(refusal(START, response)) + str(not_json(START, response, "why"))

    assert ("hunter2" in texts, "project-secret" in texts) == (False, False)


@pytest.mark.parametrize(
    ("environment", "said", "shown"),
    [
        ({"A": 'pass"word'}, 'unfit: pass"word', "unfit: ***"),
        ({"A": 'pass"word'}, 'unfit: pass\\"word', "unfit: ***"),
        ({"A": "pass", "B": "password"}, "unfit: password", "unfit: ***"),
        ({"A": 12345}, "unfit: 12345", "unfit: ***"),
        ({"A": "no"}, "no such thing", "no such thing"),
        ('{"A": "password"}', "unfit: password", "unfit: ***"),
        ('{"A": "password"', 'cannot read {"A": "password"', "cannot read ***"),
        (["password"], "unfit", "unfit"),
    ],
)
def test_blots_out_what_the_request_sent(environment: object, said: str, shown: str) -> None:
    """An environment is an object in a start and a JSON string in a change of a job; no value of either is shown."""
    request = Request("PATCH", "/p", Scheme.BEARER, json={"environment": environment})

    assert f' ("{shown}")' == quote(request, Response(400, {}, said.encode()))


def test_quotes_one_line() -> None:
    """Line breaks and runs of blanks are folded, so that a log keeps one line per error."""
    assert ' ("a b c")' == quote(GET, Response(400, {}, b"a\n\n  b\t c "))


def test_html_shows_its_title_only() -> None:
    """Of a page only the title is quoted: the body may hold anything."""
    assert ' ("Sign in")' == quote(GET, html("Sign in", 200, "<p>token=abc</p>"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"message": "m", "error": "e", "other": "o"}, ' ("m")'),
        ({"error": "e", "other": "o"}, ' ("e")'),
        ({"message": "", "error": "e"}, ' ("e")'),
        ({"message": 5, "error": "e"}, ' ("e")'),
        ({"other": "o"}, ""),
        ({}, ""),
    ],
)
def test_json_shows_its_message_only(body: object, said: str) -> None:
    """Of a JSON object only message or error is quoted: the rest may be a run, with the passwords of its project."""
    assert said == quote(GET, document(body, 500))


def test_not_json_says_what_came() -> None:
    """A login page instead of JSON names the likely causes."""
    error = not_json(GET, html("Sign in"), "not readable as JSON")

    assert (
        'GET /api/v2/projects: expected JSON, got text/html (not readable as JSON) ("Sign in"). A login or error page '
        "instead of JSON usually means an expired key, a Host that is not the workspace's, or a gateway in between."
    ) == str(error)


@given(body=st.binary(max_size=300), kind=st.sampled_from(["", "text/html", "application/json", "text/plain"]))
def test_any_body_makes_an_error(body: bytes, kind: str) -> None:
    """No body, however broken, breaks the making of its error."""
    response = Response(500, {"content-type": kind}, body)

    assert isinstance(refusal(GET, response), CmlServerError)
    assert isinstance(not_json(GET, response, "why"), CmlProtocolError)


# ------------------------------------------------------------------------------------------------ Retry-After

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def at(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "  "}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "600"}, RETRY_AFTER_CAP),
        ({"retry-after": "601"}, RETRY_AFTER_CAP),
        ({"retry-after": "9" * 30}, RETRY_AFTER_CAP),
        ({"retry-after": "9" * 5000}, RETRY_AFTER_CAP),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": at(NOON + timedelta(seconds=40)), "date": at(NOON)}, 40.0),
        ({"retry-after": at(NOON + timedelta(days=9)), "date": at(NOON)}, RETRY_AFTER_CAP),
        ({"retry-after": at(NOON - timedelta(seconds=1)), "date": at(NOON)}, None),
        ({"retry-after": at(NOON), "date": at(NOON)}, 0.0),
        ({"retry-after": at(NOON), "date": "yesterday"}, None),
        ({"retry-after": "Wed, 99 Foo 2026 12:00:00 GMT", "date": at(NOON)}, None),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:00 -0000", "date": at(NOON)}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT", "date": at(NOON)}, RETRY_AFTER_CAP),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds or a date, capped; a date is read against the answer's own clock; junk is no word at all."""
    assert seconds == retry_after(Response(429, headers))


@pytest.mark.parametrize(("ahead", "low", "high"), [(40, 30, 40), (5000, 600, 600)])
def test_retry_after_without_a_date_header(ahead: float, low: float, high: float) -> None:
    """Where the answer does not tell its time, ours is taken."""
    seconds = retry_after(Response(429, {"retry-after": at(datetime.now(UTC) + timedelta(seconds=ahead))}))

    assert seconds is not None
    assert low <= seconds <= high


@given(word=st.text(max_size=40), date=st.none() | st.text(max_size=40))
def test_retry_after_is_none_or_within_bounds(word: str, date: str | None) -> None:
    """No header, however odd, breaks it or sends us away for longer than the cap."""
    headers = {"retry-after": word} | ({} if date is None else {"date": date})
    seconds = retry_after(Response(503, headers))

    assert seconds is None or 0 <= seconds <= RETRY_AFTER_CAP
