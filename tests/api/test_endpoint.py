"""One workspace and one credential."""

from __future__ import annotations

import base64
from dataclasses import replace
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_cml.api.endpoint import ApiVersion, Endpoint, Proxy, Tls, segment
from airflow_provider_cml.api.errors import CmlInputError
from airflow_provider_cml.api.wire import Scheme

V2 = Endpoint("https://cml.example", key="aaaa.bbbb")
V1 = Endpoint("https://cml.example", ApiVersion.V1, key="legacykey")


def basic(credential: str) -> str:
    return "Basic " + base64.b64encode(credential.encode()).decode()


@pytest.mark.parametrize(
    ("endpoint", "scheme", "header"),
    [
        (V2, Scheme.BEARER, "Bearer aaaa.bbbb"),
        (V1, Scheme.BASIC, basic("legacykey:")),
        (replace(V1, login="alice"), Scheme.BASIC, basic("alice:legacykey")),
        (replace(V1, login="älice", key="pä:ß"), Scheme.BASIC, basic("älice:pä:ß")),
        (replace(V1, login="alice", key=""), Scheme.BASIC, basic("alice:")),
        (replace(V2, login="alice"), Scheme.BEARER, "Bearer aaaa.bbbb"),
    ],
)
def test_authorization(endpoint: Endpoint, scheme: Scheme, header: str) -> None:
    """v1 is Basic with the key as user and an empty password, or user and password; v2 is Bearer."""
    assert header == endpoint.authorization(scheme)


@pytest.mark.parametrize(("endpoint", "scheme", "needed"), [(V2, Scheme.BASIC, "v1"), (V1, Scheme.BEARER, "v2")])
def test_a_connection_for_the_other_api(endpoint: Endpoint, scheme: Scheme, needed: str) -> None:
    """A key of one API is never sent to the other; the message says what to use."""
    with pytest.raises(CmlInputError, match=f"This needs API {needed}.*'api_version' is {endpoint.api_version}"):
        endpoint.authorization(scheme)


@pytest.mark.parametrize("key", ["line\nbreak", "carriage\r", "schlüssel", "\x00", "tab\t"])
def test_a_key_that_cannot_stand_in_a_header(key: str) -> None:
    """Neither HTTP library gets to see it, nor anybody the message."""
    with pytest.raises(CmlInputError, match=r"API key \(Password\)") as caught:
        replace(V2, key=key).authorization(Scheme.BEARER)

    assert key not in str(caught.value)


def test_repr_shows_no_secret() -> None:
    """Neither key nor login nor the proxy's password."""
    endpoint = replace(V1, login="alice-login", proxy=Proxy("http://proxy:3128", "proxy-password", "proxy-user"))
    shown = repr(endpoint)

    assert [] == [secret for secret in (*endpoint.secrets, "alice-login") if secret in shown]


def test_secrets() -> None:
    """All forms of what must not be seen, the longest first, so that no part of one stays behind."""
    endpoint = replace(V1, proxy=Proxy("http://proxy:3128", "proxy-password", "proxy-user"))

    assert (basic("legacykey:")[6:], "proxy-password", "legacykey") == endpoint.secrets


def test_no_secrets() -> None:
    """What is empty is no secret: blotting it out would blot out everything."""
    assert () == Endpoint("https://cml.example").secrets


OTHERS = {
    "host": {"base_url": "https://other.example"},
    "version": {"api_version": ApiVersion.V1},
    "key": {"key": "other"},
    "tls": {"tls": Tls(verify=False)},
    "bundle": {"tls": Tls(ca_bundle="/ca.pem")},
    "proxy": {"proxy": Proxy("http://proxy:3128")},
    "proxy password": {"proxy": Proxy("http://proxy:3128", "p", "u")},
}


@pytest.mark.parametrize("what", OTHERS)
def test_identity_tells_endpoints_apart(what: str) -> None:
    """Only endpoints that may share connections are the same."""
    assert replace(V2, **OTHERS[what]).identity != V2.identity  # type: ignore[arg-type]


def test_identity_holds_no_secret() -> None:
    """It is a key of caches and may be printed."""
    endpoint = replace(V1, login="alice", proxy=Proxy("http://proxy:3128", "proxy-password", "u"))
    shown = repr(endpoint.identity)

    assert (replace(endpoint).identity, []) == (endpoint.identity, [s for s in endpoint.secrets if s in shown])


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("k9yi-cww6-iw3w-buq0", "k9yi-cww6-iw3w-buq0"),
        ("a/b", "a%2Fb"),
        ("ü", "%C3%BC"),
        ("%2e", "%252e"),
        ("%2e%2e", "%252e%252e"),
        ("a b", "a%20b"),
        ("a?b#c", "a%3Fb%23c"),
        ("x:stop", "x%3Astop"),
        ("a\\b", "a%5Cb"),
        ("...", "..."),
        ("a..b", "a..b"),
    ],
)
def test_segment(text: str, encoded: str) -> None:
    """One segment stays one segment, whatever a template rendered."""
    assert encoded == segment(text, "job")


@pytest.mark.parametrize("text", ["", ".", "..", "../x", "x/..", "a/../b", "a\nb", "a\x00", "\x7f", "\ud800"])
def test_what_cannot_be_a_segment(text: str) -> None:
    """Nothing leads to another address; the message names the field."""
    with pytest.raises(CmlInputError, match=r"^job: "):
        segment(text, "job")


@given(st.text() | st.text("./\\%2e;:?#"))
def test_a_segment_reads_back_and_leads_nowhere_else(text: str) -> None:
    """Encoded, it holds nothing that separates, and decodes to the very text."""
    try:
        encoded = segment(text, "job")
    except CmlInputError:
        return

    assert (text, True) == (unquote(encoded), encoded not in {".", ".."} and not set(encoded) & set("/?#\\:;"))
