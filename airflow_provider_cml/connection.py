"""An Airflow connection of type `cml`, parsed once: its form, and what it says about a workspace.

The law: after `read_connection` nobody asks whether a host is set. Whatever cannot be used is refused here, naming the
field as the form shows it. The form is declared once (`FORM`, `FIELD_BEHAVIOUR`) and published twice: as provider
metadata, which is all Airflow 3.2+ reads, and as class methods of the hook, which is all 2.11 to 3.1 read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_cml.api.endpoint import READ_TIMEOUT, ApiVersion, Endpoint, Proxy, Tls
from airflow_provider_cml.api.errors import CmlInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.compat import Connection

CONNECTION_TYPE = "cml"
HOOK_NAME = "Cloudera Machine Learning"
HOOK_CLASS = "airflow_provider_cml.hooks.cml.CmlHook"

FORM: dict[str, dict[str, Any]] = {
    "api_version": {
        "label": "API version",
        "description": "v2 (Bearer key) starts and watches runs. v1 (legacy key) can only start them.",
        "schema": {"type": "string", "default": "v2", "enum": ["v2", "v1"]},
    },
    "verify_ssl": {
        "label": "Verify TLS certificate",
        "description": "Off only for a try: anybody on the way could read the key.",
        "schema": {"type": "boolean", "default": True},
    },
    "ca_bundle": {
        "label": "CA bundle",
        "description": "Path of a PEM file with the authority that signed the workspace's certificate, the same on "
        "every machine of Airflow. Empty: the usual authorities.",
        "schema": {"type": ["string", "null"]},
    },
    "client_cert": {
        "label": "Client certificate",
        "description": "Path of a PEM file with certificate and private key, if the gateway asks for one.",
        "schema": {"type": ["string", "null"]},
    },
    "proxy": {
        "label": "Proxy",
        "description": "Address of the proxy, such as http://proxy:3128, without user and password. "
        "Empty: what the environment says.",
        "schema": {"type": ["string", "null"]},
    },
    "proxy_user": {
        "label": "Proxy user",
        "description": "The user name for the proxy, if it asks for one.",
        "schema": {"type": ["string", "null"]},
    },
    "proxy_password": {
        "label": "Proxy password",
        "description": "Its password. Airflow encrypts and hides it.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "How long CML may take for one answer.",
        "schema": {"type": "integer", "default": int(READ_TIMEOUT), "minimum": 1, "maximum": 600},
    },
}
"""The fields kept in Extra, in the shape of Airflow's provider.yaml schema."""

FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema"],
    "relabeling": {
        "host": "Host",
        "login": "Login (API v1 only)",
        "password": "API key",
    },
    "placeholders": {
        "host": "https://ml-12345.example.cloudera.site",
        "port": "443; Airflow 3.3 tests no connection without",
        "password": "v2: an API key; v1: the legacy API key",
        "login": "empty, unless the password is a user's",
    },
}

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_HIDDEN = "***"
"""What Airflow shows for a secret that is set; some versions send it back as if it were one (AF#52301)."""
_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a connection says: where and as whom, and what its owner should be warned about."""

    endpoint: Endpoint
    warnings: tuple[str, ...] = ()


def connection_type() -> dict[str, Any]:
    """The `connection-types` entry of the provider's metadata."""
    return {
        "connection-type": CONNECTION_TYPE,
        "hook-class-name": HOOK_CLASS,
        "hook-name": HOOK_NAME,
        "conn-fields": FORM,
        "ui-field-behaviour": FIELD_BEHAVIOUR,
    }


def read_connection(connection: Connection) -> Configuration:
    """The endpoint a connection describes.

    :raises CmlInputError: a field is missing or cannot be used; the message names it.
    """
    extra = _extra(connection)
    version = _version(extra)
    base_url = _base_url(connection)
    login: str | None = _text(connection.login, "Login") or None
    key = _text(connection.password, "API key (Password)")
    warnings: list[str] = []
    if version is ApiVersion.V2:
        login = None
    elif login and not key:
        # The documentation's `--user KEY:` put into the form as it stands.
        key, login = login, None
        warnings.append(
            "Login: holds the legacy API key. Move it to the password field, which Airflow encrypts and masks."
        )
    if not key:
        message = (
            f"API key (Password): is empty. It holds the {'API key' if version is ApiVersion.V2 else 'legacy API key'}."
        )
        raise CmlInputError(message)
    if key == _HIDDEN:
        message = f"API key (Password): is {_HIDDEN}, by which Airflow hides a saved value. Type the key again."
        raise CmlInputError(message)
    if base_url.startswith("http:") and urlsplit(base_url).hostname not in _LOOPBACK:
        warnings.append(f"Host: {base_url} is not encrypted; anybody on the way can read the API key. Use https://.")
    tls = _tls(extra)
    if not tls.verify:
        warnings.append("Verify TLS certificate: is off; anybody on the way can read the API key.")
    unknown = sorted(set(extra) - set(FORM))
    if unknown:
        warnings.append(f"Extra: {', '.join(unknown)} is not known to this provider and ignored.")
    endpoint = Endpoint(
        base_url=base_url,
        api_version=version,
        key=key,
        login=login,
        tls=tls,
        proxy=_proxy(extra),
        read_timeout=_timeout(extra),
    )
    return Configuration(endpoint, tuple(warnings))


def _extra(connection: Connection) -> dict[str, Any]:
    """Extra without what is empty. Rows saved by old Airflow carry the names with a prefix."""
    prefix = f"extra__{CONNECTION_TYPE}__"
    found: object = connection.extra_dejson
    if not isinstance(found, dict | None):
        message = 'Extra: is JSON, but no object; write it as {"name": "value"}.'
        raise CmlInputError(message)
    return {name.removeprefix(prefix): value for name, value in (found or {}).items() if value not in (None, "")}


def _version(extra: Mapping[str, Any]) -> ApiVersion:
    word = str(extra.get("api_version", ApiVersion.V2)).strip().casefold()
    try:
        return ApiVersion(word if word.startswith("v") else f"v{word}")
    except ValueError:
        message = f"API version (Extra 'api_version'): {word!r} is neither v2 nor v1."
        raise CmlInputError(message) from None


def _base_url(connection: Connection) -> str:
    """`https://host[:port]`, however it was written: `h`, `https://h/`, `h:443`, `https://h/api/v2`."""
    host = _text(connection.host, "Host").strip()
    if not host:
        message = "Host: is empty. It holds the workspace's address, such as https://ml-12345.example.cloudera.site."
        raise CmlInputError(message)
    text = host if "://" in host else f"{_text(connection.schema, 'Schema').strip() or 'https'}://{host}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # a port that is no number, a bracket that does not close
        parts, port = urlsplit(""), None
    name = parts.hostname or ""
    path = parts.path.rstrip("/")
    field_port = _port(connection.port)
    if (
        not name
        or parts.scheme not in _DEFAULT_PORTS
        or parts.query
        or parts.fragment
        or path not in {"", "/api", "/api/v1", "/api/v2"}
        or any(character.isspace() or character == "\\" for character in name)
    ):
        shown = host.rpartition("@")[2]
        message = f"Host: {shown!r} is not the address of a workspace; give https://name or https://name:port."
        raise CmlInputError(message)
    if parts.username is not None or parts.password is not None:
        message = "Host: holds a user or password, which Airflow would show. Put the API key into the password field."
        raise CmlInputError(message)
    if port and field_port and port != field_port:
        message = f"Port: {field_port} differs from the port {port} in Host; give it once."
        raise CmlInputError(message)
    port = port or field_port
    name = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{name}" + (f":{port}" if port and port != _DEFAULT_PORTS[parts.scheme] else "")


def _port(value: object) -> int | None:
    word = str(value or 0)  # Airflow's test button posts port 0 for a connection that has none
    if not (word.isascii() and word.isdigit() and int(word) <= 65535):
        message = f"Port: {value!r} is not a number from 1 to 65535."
        raise CmlInputError(message)
    return int(word) or None


def _text(value: object, field: str) -> str:
    """A field that holds text, or a number that stands for one: written by hand as JSON, a key may have no quotes."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
        message = f"{field}: is neither text nor a number ({type(value).__name__}); write it in quotes."
        raise CmlInputError(message)
    return "" if value is None else str(value)


def _tls(extra: Mapping[str, Any]) -> Tls:
    verify = _boolean(extra, "verify_ssl", default=True)
    ca_bundle = _file(extra, "ca_bundle")
    return Tls(verify, ca_bundle, _file(extra, "client_cert"), explicit=not verify or ca_bundle is not None)


def _proxy(extra: Mapping[str, Any]) -> Proxy | None:
    text = _text(extra.get("proxy"), "Proxy (Extra 'proxy')").strip()
    if not text:
        return None
    if "@" in text:
        message = (
            "Proxy (Extra 'proxy'): holds a user or password, which Airflow would show. "
            "Use proxy_user and proxy_password."
        )
        raise CmlInputError(message)
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        is_address = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that does not close
        is_address = False
    if not is_address or any(character.isspace() for character in text):
        message = f"Proxy (Extra 'proxy'): {text!r} is not an address such as http://proxy:3128."
        raise CmlInputError(message)
    password = _text(extra.get("proxy_password"), "Proxy password (Extra 'proxy_password')")
    if password == _HIDDEN:
        message = (
            f"Proxy password (Extra 'proxy_password'): is {_HIDDEN}, by which Airflow hides a saved value. "
            "Type the password again."
        )
        raise CmlInputError(message)
    return Proxy(
        f"{parts.scheme}://{parts.netloc}",
        password=password or None,
        user=_text(extra.get("proxy_user"), "Proxy user (Extra 'proxy_user')") or None,
    )


def _timeout(extra: Mapping[str, Any]) -> float:
    value = extra.get("timeout", READ_TIMEOUT)
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if isinstance(value, bool) or not 0 < seconds <= 3600:
        message = f"Timeout (Extra 'timeout'): {value!r} is not a number of seconds above zero, an hour at most."
        raise CmlInputError(message)
    return seconds


def _boolean(extra: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = extra.get(name, default)
    word = str(value).strip().casefold()
    if word in {"true", "1", "yes", "on"}:
        return True
    if word in {"false", "0", "no", "off"}:
        return False
    message = f"{FORM[name]['label']} (Extra {name!r}): {value!r} is neither true nor false."
    raise CmlInputError(message)


def _file(extra: Mapping[str, Any], name: str) -> str | None:
    path = extra.get(name)
    if path is None:
        return None
    if not os.path.exists(str(path)):  # noqa: PTH110 - a string for both HTTP libraries
        message = f"{FORM[name]['label']} (Extra {name!r}): there is no file {str(path)!r} on this machine."
        raise CmlInputError(message)
    return str(path)
