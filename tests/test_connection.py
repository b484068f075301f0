"""One connection, however it is written: one workspace, or an error that names the field."""

from __future__ import annotations

import base64
import json
import os
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.endpoint import ApiVersion
from airflow_provider_cml.api.errors import CmlInputError
from airflow_provider_cml.api.wire import Scheme
from airflow_provider_cml.compat import BaseHook
from airflow_provider_cml.connection import FORM, connection_type, read_connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_cml.connection import Configuration

KEY = "the-key-of-a-user-0123456789"

# What Airflow's own server and test button hold, in every version; workers of 3.x have another class.
Connection: Any = import_module("airflow.models.connection").Connection


def directly(**fields: Any) -> Any:
    """A connection as its fields were typed."""
    given = {"conn_id": "cml_default", "conn_type": "cml", "password": KEY, **fields}
    if isinstance(given.get("extra"), dict):
        given["extra"] = json.dumps(given["extra"])
    return Connection(**given)


@pytest.fixture(params=["directly", "through a URI"])
def read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Configuration]:
    """Reads a connection as it was typed, and as Airflow's test button hands it on: as a URI in a variable."""

    def through_uri(**fields: Any) -> Configuration:
        monkeypatch.setenv("AIRFLOW_CONN_CML_DEFAULT", directly(**fields).get_uri())
        return read_connection(BaseHook.get_connection("cml_default"))

    return through_uri if request.param == "through a URI" else lambda **fields: read_connection(directly(**fields))


def loosely(**fields: Any) -> Configuration:
    """Reads a connection of a secrets backend that has not looked at its fields."""
    given = {"host": "ml.example.com", "login": None, "password": KEY, "schema": None, "port": None, "extra_dejson": {}}
    return read_connection(SimpleNamespace(**{**given, **fields}))  # type: ignore[arg-type]


# ---------------------------------------------------------------- Host


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "ml.example.com"},
        {"host": " ml.example.com "},
        {"host": "ML.example.com"},
        {"host": "ml.example.com/"},
        {"host": "ml.example.com:443"},
        {"host": "https://ml.example.com"},
        {"host": "https://ml.example.com/"},
        {"host": "https://ml.example.com//"},
        {"host": "https://ml.example.com:443/"},
        {"host": "https://ml.example.com/api/v2"},
        {"host": "https://ml.example.com/api/v2/"},
        {"host": "https://ml.example.com/api/v1"},
        {"host": "ml.example.com/api"},
        {"host": "ml.example.com", "port": 443},
        {"host": "ml.example.com", "port": 0},
        {"host": "https://ml.example.com", "port": 443},
        {"host": "ml.example.com", "schema": "https"},
        {"host": "https://ml.example.com", "schema": "https"},
    ],
    ids=str,
)
def test_every_spelling_gives_one_address(read: Callable[..., Configuration], fields: dict[str, Any]) -> None:
    """However the workspace's address is written, requests go to the same place."""
    found = read(**fields)

    assert found.endpoint.base_url == "https://ml.example.com"
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"host": "ml.example.com:8443"}, "https://ml.example.com:8443"),
        ({"host": "ml.example.com", "port": 8443}, "https://ml.example.com:8443"),
        ({"host": "http://localhost:8080"}, "http://localhost:8080"),
        ({"host": "http://127.0.0.1", "port": 8080}, "http://127.0.0.1:8080"),
        ({"host": "localhost", "schema": "http"}, "http://localhost"),
        ({"host": "http://localhost:80"}, "http://localhost"),
        ({"host": "https://[::1]:8443"}, "https://[::1]:8443"),
    ],
    ids=str,
)
def test_ports_and_schemes(read: Callable[..., Configuration], fields: dict[str, Any], address: str) -> None:
    """A port or http:// is kept, a default port is not; on this machine http needs no warning."""
    found = read(**fields)

    assert found.endpoint.base_url == address
    assert found.warnings == ()


def test_text_forms_of_a_connection_agree() -> None:
    """The URI and the JSON an environment variable may hold mean the same."""
    uri = Connection(conn_id="a", uri=f"cml://:{KEY}@ml.example.com/?api_version=v2&verify_ssl=true")
    document = {"conn_type": "cml", "host": "ml.example.com", "password": KEY, "extra": {"verify_ssl": True}}
    from_json = Connection.from_json(json.dumps(document), conn_id="a")

    assert read_connection(uri) == read_connection(from_json) == read_connection(directly(host="ml.example.com"))


def test_http_with_a_key_is_warned_about(read: Callable[..., Configuration]) -> None:
    """An address that is not encrypted works, and its owner is told."""
    found = read(host="http://ml.example.com")

    assert found.endpoint.base_url == "http://ml.example.com"
    assert any("not encrypted" in warning for warning in found.warnings)


# ---------------------------------------------------------------- what cannot be used


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"host": None}, "Host: "),
        ({"host": "  "}, "Host: "),
        ({"host": "ftp://ml.example.com"}, "Host: "),
        ({"host": "https://"}, "Host: "),
        ({"host": "https://ml.example.com/projects"}, "Host: "),
        ({"host": "https://ml.example.com/?a=b"}, "Host: "),
        ({"host": "https://ml.example.com/#a"}, "Host: "),
        ({"host": "https://ml.example.com:https"}, "Host: "),
        ({"host": "ml.example.com:99999"}, "Host: "),
        ({"host": "ml example com"}, "Host: "),
        ({"host": "https://[::1"}, "Host: "),
        ({"host": f"https://user:{KEY}@ml.example.com"}, "Host: "),
        ({"host": "https://ml.example.com:8443", "port": 443}, "Port: "),
        ({"password": None}, "API key (Password): "),
        ({"password": ""}, "API key (Password): "),
        ({"extra": {"api_version": "v3"}}, "API version (Extra 'api_version'): "),
        ({"extra": {"verify_ssl": "maybe"}}, "Verify TLS certificate (Extra 'verify_ssl'): "),
        ({"extra": {"ca_bundle": "/no/such/file.pem"}}, "CA bundle (Extra 'ca_bundle'): "),
        ({"extra": {"client_cert": "/no/such/file.pem"}}, "Client certificate (Extra 'client_cert'): "),
        ({"extra": {"proxy": f"http://user:{KEY}@proxy:3128"}}, "Proxy (Extra 'proxy'): "),
        ({"extra": {"proxy": f"user:{KEY}@proxy:3128"}}, "Proxy (Extra 'proxy'): "),
        ({"extra": {"proxy": "socks5://proxy"}}, "Proxy (Extra 'proxy'): "),
        ({"extra": {"proxy": "http://[proxy"}}, "Proxy (Extra 'proxy'): "),
        ({"extra": {"proxy": "http://proxy:many"}}, "Proxy (Extra 'proxy'): "),
        ({"extra": {"proxy": "http://pro xy:3128"}}, "Proxy (Extra 'proxy'): "),
        ({"password": "***"}, "API key (Password): is ***, by which Airflow hides"),
        ({"extra": {"proxy": "proxy", "proxy_password": "***"}}, "Proxy password (Extra 'proxy_password'): "),
        ({"extra": {"proxy": False}}, "Proxy (Extra 'proxy'): "),
        ({"extra": {"proxy": {"http": "proxy"}}}, "Proxy (Extra 'proxy'): "),
        ({"port": -1}, "Port: "),
        ({"port": 70000}, "Port: "),
        ({"host": "ml\\example"}, "Host: "),
        ({"extra": {"timeout": "soon"}}, "Timeout (Extra 'timeout'): "),
        ({"extra": {"timeout": 0}}, "Timeout (Extra 'timeout'): "),
        ({"extra": {"timeout": -1}}, "Timeout (Extra 'timeout'): "),
        ({"extra": {"timeout": True}}, "Timeout (Extra 'timeout'): "),
        ({"extra": {"timeout": 1e9}}, "Timeout (Extra 'timeout'): "),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    """The message begins with the field as the form shows it, and never holds the key."""
    with pytest.raises(CmlInputError) as caught:
        read_connection(directly(**{"host": "ml.example.com", **fields}))

    assert str(caught.value).startswith(field)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "address", "key"),
    [
        ({"extra_dejson": None}, "https://ml.example.com", KEY),
        ({"host": 10}, "https://10", KEY),
        ({"port": "8443"}, "https://ml.example.com:8443", KEY),
        ({"port": "443"}, "https://ml.example.com", KEY),
        ({"password": 1234567890}, "https://ml.example.com", "1234567890"),
    ],
    ids=str,
)
def test_odd_values_with_one_meaning(fields: dict[str, Any], address: str, key: str) -> None:
    """A number may stand where the form has a text, and nothing where it has an object."""
    endpoint = loosely(**fields).endpoint

    assert (endpoint.base_url, endpoint.authorization(Scheme.BEARER)) == (address, f"Bearer {key}")


def test_a_login_that_is_a_number() -> None:
    """A user's name may be one, too."""
    endpoint = loosely(login=17, extra_dejson={"api_version": "v1"}).endpoint

    assert endpoint.authorization(Scheme.BASIC) == f"Basic {base64.b64encode(f'17:{KEY}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        *[({"extra_dejson": document}, "Extra: ") for document in ([1], "abc", 3, True, [], False)],
        ({"host": ["ml.example.com"]}, "Host: "),
        ({"host": True}, "Host: "),
        ({"password": {"key": KEY}}, "API key (Password): "),
        ({"login": [1], "extra_dejson": {"api_version": "v1"}}, "Login: "),
    ],
    ids=str,
)
def test_values_of_another_kind_are_refused_by_name(fields: dict[str, Any], field: str) -> None:
    """What is neither text nor number stands for nothing."""
    with pytest.raises(CmlInputError) as caught:
        loosely(**fields)

    assert str(caught.value).startswith(field)
    assert KEY not in str(caught.value)


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({}, f"Bearer {KEY}"),
        ({"login": "alice"}, f"Bearer {KEY}"),
        ({"login": ""}, f"Bearer {KEY}"),
        ({"extra": {"api_version": "v2"}}, f"Bearer {KEY}"),
        ({"extra": {"api_version": "V2"}}, f"Bearer {KEY}"),
        ({"extra": {"api_version": 2}}, f"Bearer {KEY}"),
        ({"extra": {"api_version": ""}}, f"Bearer {KEY}"),
        ({"extra": {"api_version": "v1"}}, f"Basic {base64.b64encode(f'{KEY}:'.encode()).decode()}"),
        ({"extra": {"api_version": "1"}, "login": ""}, f"Basic {base64.b64encode(f'{KEY}:'.encode()).decode()}"),
        (
            {"extra": {"api_version": "v1"}, "login": "alice"},
            f"Basic {base64.b64encode(f'alice:{KEY}'.encode()).decode()}",
        ),
        (
            {"extra": {"api_version": "v1"}, "login": KEY, "password": None},
            f"Basic {base64.b64encode(f'{KEY}:'.encode()).decode()}",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value).replace(KEY, "KEY"),
)
def test_key_becomes_a_header(read: Callable[..., Configuration], fields: dict[str, Any], header: str) -> None:
    """v2 sends the key as Bearer; v1 as Basic user without password, or as a user's password; never guessed."""
    endpoint = read(**{"host": "ml.example.com", **fields}).endpoint
    scheme = Scheme.BASIC if endpoint.api_version is ApiVersion.V1 else Scheme.BEARER

    assert endpoint.authorization(scheme) == header


def test_key_in_the_login_is_warned_about(read: Callable[..., Configuration]) -> None:
    """v1's documentation writes `--user KEY:`; a key taken from there is used, and its owner told to move it."""
    found = read(host="ml.example.com", login=KEY, password=None, extra={"api_version": "v1"})

    assert found.endpoint.key == KEY
    assert "Login: holds the legacy API key" in found.warnings[0]
    assert KEY not in str(found.warnings)


def test_login_is_no_key_for_v2(read: Callable[..., Configuration]) -> None:
    """A v2 connection with a Login and no Password has no key."""
    with pytest.raises(CmlInputError, match=r"API key \(Password\)"):
        read(host="ml.example.com", login=KEY, password=None)


def test_no_secret_is_shown(read: Callable[..., Configuration]) -> None:
    """Neither key, nor its Basic form, nor a proxy's password stands in a repr; all are known as secrets."""
    extra = {"api_version": "v1", "proxy": "http://proxy:3128", "proxy_user": "bob", "proxy_password": "proxy-pass-77"}
    found = read(host="ml.example.com", login="alice", extra=extra)
    basic = base64.b64encode(f"alice:{KEY}".encode()).decode()

    assert set(found.endpoint.secrets) == {KEY, basic, "proxy-pass-77"}
    assert not [secret for secret in found.endpoint.secrets if secret in repr(found)]


# ---------------------------------------------------------------- Extra


@pytest.fixture
def pem(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_text("")
    return str(path)


def test_extra_is_taken(read: Callable[..., Configuration], pem: str) -> None:
    """Every field of the form has its effect."""
    extra = {
        "verify_ssl": True,
        "ca_bundle": pem,
        "client_cert": pem,
        "proxy": "http://proxy:3128",
        "proxy_user": "bob",
        "proxy_password": "secret",
        "timeout": 5,
    }
    endpoint = read(host="ml.example.com", extra=extra).endpoint

    assert set(extra) | {"api_version"} == set(FORM)
    assert (endpoint.tls.verify, endpoint.tls.ca_bundle, endpoint.tls.client_cert) == (True, pem, pem)
    assert endpoint.tls.explicit
    assert endpoint.proxy is not None
    assert (endpoint.proxy.url, endpoint.proxy.user, endpoint.proxy.password) == ("http://proxy:3128", "bob", "secret")
    assert endpoint.read_timeout == 5


@pytest.mark.parametrize(
    "value", [True, "true", "True", "1", 1, "yes", "on", False, "false", "0", 0, "no", "OFF"], ids=repr
)
def test_words_for_yes_and_no(value: object) -> None:
    """A box of the form, a URI and a hand-written JSON say yes and no differently."""
    found = read_connection(directly(host="ml.example.com", extra={"verify_ssl": value}))

    assert found.endpoint.tls.verify is (str(value).casefold() in {"true", "1", "yes", "on"})
    assert (
        any("Verify TLS certificate: is off" in warning for warning in found.warnings) is not found.endpoint.tls.verify
    )


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize("name", sorted(FORM))
def test_empty_fields_are_not_there(name: str, empty: str | None) -> None:
    """Airflow's form sends every field, empty or not."""
    assert read_connection(directly(host="ml.example.com", extra={name: empty})) == read_connection(
        directly(host="ml.example.com")
    )


def test_names_with_airflows_old_prefix(read: Callable[..., Configuration]) -> None:
    """Rows saved by an old form carry `extra__cml__` before each name."""
    found = read(host="ml.example.com", extra={"extra__cml__api_version": "v1", "extra__cml__timeout": "7"})

    assert found.endpoint.api_version is ApiVersion.V1
    assert found.endpoint.read_timeout == 7
    assert found.warnings == ()


def test_unknown_names_are_told(read: Callable[..., Configuration]) -> None:
    """A misspelt name in Extra is ignored, but not in silence."""
    found = read(host="ml.example.com", extra={"verify": "false"})

    assert found.endpoint.tls.verify
    assert found.warnings == ("Extra: verify is not known to this provider and ignored.",)


def test_environment_is_left_alone() -> None:
    """Reading a connection with a proxy changes no variable of the process, which may be a triggerer."""
    before = dict(os.environ)
    read_connection(directly(host="ml.example.com", extra={"proxy": "http://proxy:3128", "verify_ssl": False}))

    assert dict(os.environ) == before


def test_secret_fields_have_names_that_airflow_masks() -> None:
    """Airflow masks Extra by name only: what holds a secret must be called accordingly, and be a password field."""
    fields = connection_type()["conn-fields"]
    secret = {name for name, field in fields.items() if field["schema"].get("format") == "password"}

    assert secret == {"proxy_password"}
    assert all("password" in name for name in secret)
