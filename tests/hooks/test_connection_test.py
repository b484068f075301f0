"""What the Test button says, word by word, for each way it can go; and that it starts nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.hooks import connection_test
from airflow_provider_cml.hooks.cml import CmlHook
from tests.airflow_side import set_connection

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Project

V1 = {"api_version": "v1"}


def test_good_key_names_its_user(connections: Emulator, project: Project) -> None:
    """Whose key it is, is said, so that a key of the wrong user is noticed."""
    assert CmlHook().test_connection() == (True, "Connected to API v2 as alice.")


def test_good_key_of_v1_says_how_little_is_known(connections: Emulator) -> None:
    """v1 has no call that proves a key without a start; the message does not claim one."""
    good, words = CmlHook("cml_v1").test_connection()

    assert good
    assert "a wrong key may show only at the first start" in words


def test_older_workspace_is_asked_for_a_list(connections: Emulator, job: Job) -> None:
    """Where v2 has no check of keys, a list of projects proves the key as well."""
    connections.fault("ValidateAPIKey", "error_before", status=404)
    good, words = CmlHook().test_connection()

    assert good
    assert "1 of its projects" in words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"password": "a-key-that-never-was"}, "wrong, has expired, or belongs to the other API version"),
        ({"password": "legacy"}, "a legacy API key works on v1 only"),
        ({"password": "api", "extra": V1}, "an API key on v2 only"),
        ({"password": ""}, "API key (Password): is empty"),
        ({"host": "https://nowhere.invalid"}, "not a known host"),
        ({"host": "http://127.0.0.1:9"}, "refused the connection"),
        ({"host": "https://"}, "is not the address of a workspace"),
        ({"extra": {"timeout": "soon"}}, "Timeout (Extra 'timeout')"),
    ],
    ids=str,
)
def test_wrong_connection(
    connections: Emulator, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], words: str
) -> None:
    """A mistake in a field is told in words that name it, and never with the key."""
    given: dict[str, Any] = {"host": connections.url, "password": "api", **fields}
    keys = {"legacy": connections.legacy_key, "api": connections.api_key}
    given["password"] = keys.get(given["password"], given["password"])
    set_connection(monkeypatch, **given)
    good, said = CmlHook().test_connection()

    assert not good
    assert words in said
    assert not [key for key in keys.values() if key in said]


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
