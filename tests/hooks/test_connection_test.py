"""What the Test button says, word by word, for each way it can go; and that it starts nothing."""

from __future__ import annotations

import json
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.hooks import connection_test
from airflow_provider_cml.hooks.cml import CmlHook
from tests.airflow_side import set_connection
from tests.api.listening import Listener, answer, answering

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Project

V1 = {"api_version": "v1"}
Connection: Any = import_module("airflow.models.connection").Connection
"""The one of the web server, which makes a URI of it for the hook."""


def test_good_key_names_its_user(connections: Emulator, project: Project) -> None:
    """Whose key it is, is said, so that a key of the wrong user is noticed."""
    assert CmlHook().test_connection() == (True, "Connected to API v2 as alice.")


def test_good_key_of_v1_says_how_little_is_known(connections: Emulator) -> None:
    """v1 documents no call that proves a key without a start; the message does not claim one."""
    good, words = CmlHook("cml_v1").test_connection()

    assert good
    assert "It documents no call but the start of a job" in words
    assert "shows only at the first start" in words


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "refused"}, "wrong, has expired, or belongs to the other API version"),
        ({"kind": "refused", "status": 403}, "the key could not be tried"),
        ({"kind": "error_before", "status": 404}, "the key could not be tried"),
        ({"kind": "html"}, "login or error page"),
        ({"kind": "html", "status": 302}, "redirect to a login page"),
        ({"kind": "error_before", "status": 503}, "503"),
        ({"kind": "drop_before"}, "broke the connection off"),
    ],
    ids=str,
)
def test_v1_is_green_only_of_what_was_seen(connections: Emulator, fault: dict[str, Any], words: str) -> None:
    """A server that is not known to be a workspace, or not to take the key, is no good connection."""
    connections.fault("v1.ListProjects", **fault)
    good, said = CmlHook("cml_v1").test_connection()

    assert not good
    assert words in said


@pytest.mark.parametrize("status", [404, 405, 501])
def test_older_workspace_is_asked_for_a_list(connections: Emulator, job: Job, status: int) -> None:
    """Where v2 has no check of keys, a list of projects proves the key as well."""
    connections.fault("ValidateAPIKey", "error_before", status=status)
    good, words = CmlHook().test_connection()

    assert good
    assert "1 of its projects" in words


def by_uri(fields: dict[str, Any]) -> str:
    """The connection as Airflow's own test writes it for the hook: as a URI."""
    given = {**fields, "extra": json.dumps(fields.get("extra", {}))}
    return str(Connection(conn_type="cml", **given).get_uri())


@pytest.mark.parametrize("as_uri", [False, True], ids=["as JSON", "as URI"])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Connected to API v2 as alice."),
        ({"login": "", "schema": "", "port": 0}, "Connected to API v2 as alice."),
        ({"password": "legacy", "extra": V1}, "API v1 answers, and took the key"),
        ({"password": "legacy", "extra": V1, "login": ""}, "API v1 answers, and took the key"),
        ({"password": "a-key-that-never-was"}, "wrong, has expired, or belongs to the other API version"),
        ({"password": "legacy"}, "looks like a legacy API key: make an API key for API v2, or set API version to v1"),
        ({"password": "api", "extra": V1}, "looks like an API key of API v2: set API version to v2"),
        ({"password": "a-key-that-never-was", "extra": V1}, "wrong, has expired, or belongs to the other API version"),
        ({"password": "***"}, "Type the key again"),
        ({"password": ""}, "API key (Password): is empty"),
        ({"host": "https://nowhere.invalid"}, "not a known host"),
        ({"host": "http://127.0.0.1:9"}, "refused the connection"),
        ({"host": "https://ml.example.com/projects"}, "is not the address of a workspace"),
        ({"extra": {"timeout": "soon"}}, "Timeout (Extra 'timeout')"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("project")
def test_verdict_on_a_connection(
    connections: Emulator, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], words: str, as_uri: bool
) -> None:
    """A mistake in a field is told in words that name it, and never with the key; the same however it is stored."""
    given: dict[str, Any] = {"host": connections.url, "password": "api", **fields}
    keys = {"legacy": connections.legacy_key, "api": connections.api_key}
    given["password"] = keys.get(given["password"], given["password"])
    set_connection(monkeypatch, **given)
    if as_uri:
        monkeypatch.setenv("AIRFLOW_CONN_CML_DEFAULT", by_uri(given))
    good, said = CmlHook().test_connection()

    assert good is words.startswith(("Connected", "API v1 answers"))
    assert words in said
    assert not [key for key in keys.values() if key in said]


def verdict_on(monkeypatch: pytest.MonkeyPatch, status: str, body: dict[str, Any]) -> tuple[bool, str]:
    """The verdict on a workspace that gives this answer to everything."""
    with Listener(answering(answer(json.dumps(body).encode(), status))) as server:
        set_connection(monkeypatch, host=server.url, password="a-key-that-was-good")
        return CmlHook().test_connection()


@pytest.mark.parametrize("said", ["API key has expired", "token is expired"])
def test_key_that_has_expired(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """If CML says that a key has expired, and not that it is "invalid or expired", so does the verdict."""
    good, words = verdict_on(monkeypatch, "401 Unauthorized", {"code": 16, "message": said})

    assert not good
    assert words.startswith("The key has expired: make a new one. ")


def test_key_that_is_not_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """CML may answer 200 and say there that the key is not good; its words are told."""
    good, words = verdict_on(monkeypatch, "200 OK", {"valid": False, "message": "API key was revoked"})

    assert not good
    assert "not valid for API v2: API key was revoked. Make a new key" in words


def test_key_for_another_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key made for applications, or models, is no key for the API; the verdict says which to make."""
    good, words = verdict_on(monkeypatch, "403 Forbidden", {"code": 7, "message": "audience mismatch"})

    assert not good
    assert "audience mismatch" in words
    assert "made with the audience API" in words


def test_what_is_dangerous_is_said_on_green(connections: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever switched verification off, or misspelt a name in Extra, reads it under the button."""
    extra = {"verify_ssl": False, "verify": False}
    set_connection(monkeypatch, host=connections.url, password=connections.api_key, extra=extra)
    good, words = CmlHook().test_connection()

    assert good
    assert "Verify TLS certificate: is off" in words
    assert "Extra: verify is not known" in words


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "refused", "status": 401}, "API key"),
        ({"kind": "refused", "status": 403}, "403"),
        ({"kind": "html"}, "login or error page"),
        ({"kind": "html", "status": 302}, "redirect to a login page"),
        ({"kind": "error_before", "status": 404}, "has no API v2"),
        ({"kind": "error_before", "status": 503}, "503"),
        ({"kind": "drop_before"}, "broke the connection off"),
    ],
    ids=str,
)
def test_workspace_that_does_not_answer_as_it_should(connections: Emulator, fault: dict[str, Any], words: str) -> None:
    """Every other answer is told apart: login page, no API v2, trouble on the way."""
    connections.fault("*", **fault)
    good, said = CmlHook().test_connection()

    assert not good
    assert words in said


def test_tls_that_is_not_there(connections: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """https:// to a port that speaks http is told as that."""
    set_connection(monkeypatch, host=connections.url.replace("http:", "https:"), password=connections.api_key)
    good, said = CmlHook().test_connection()

    assert not good
    assert "does not speak TLS" in said


@pytest.mark.parametrize("extra", [{}, V1], ids=str)
def test_silence_has_an_end(connections: Emulator, monkeypatch: pytest.MonkeyPatch, extra: dict[str, str]) -> None:
    """A workspace that hangs is given up before Airflow gives the test up."""
    monkeypatch.setattr(connection_test, "SECONDS", 0.3)
    key = connections.legacy_key if extra else connections.api_key
    set_connection(monkeypatch, host=connections.url, password=key, extra={**extra, "timeout": 600})
    connections.fault("*", "delay_answer", seconds=10)
    began = time.monotonic()
    good, said = CmlHook().test_connection()

    assert not good
    assert "did not answer in 0.3 s" in said
    assert time.monotonic() - began < 5


def test_eight_seconds_are_given() -> None:
    """Less than the ten that Airflow's own front end waits."""
    assert connection_test.SECONDS == 8


@pytest.mark.parametrize("conn_id", ["cml_default", "cml_v1"])
def test_nothing_is_started_or_changed(connections: Emulator, job: Job, conn_id: str) -> None:
    """One harmless request, whichever API."""
    CmlHook(conn_id).test_connection()
    operations = [entry.operation for entry in connections.ledger.requests()]

    assert connections.ledger.runs() == []
    assert operations == (["v1.ListProjects"] if conn_id == "cml_v1" else ["ValidateAPIKey"])
