"""One workspace and one credential: where requests go, what proves who sends them, how TLS is checked.

The law: parsed once (`connection`), never guessed again; keys are kept out of every `repr`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote

from airflow_provider_cml.api.errors import CmlInputError
from airflow_provider_cml.api.wire import Scheme

CONNECT_TIMEOUT = 10.0
"""Seconds to reach the workspace."""
READ_TIMEOUT = 60.0
"""Seconds CML may take for one answer."""


class ApiVersion(StrEnum):
    """Which of CML's two REST APIs a connection speaks."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class Tls:
    """How the workspace's certificate is checked: not at all, against `ca_bundle`, or against the usual authorities.

    `explicit` says that the connection decided it; the environment's REQUESTS_CA_BUNDLE counts only if it did not.
    """

    verify: bool = True
    ca_bundle: str | None = None
    client_cert: str | None = None
    explicit: bool = False


@dataclass(frozen=True, slots=True)
class Proxy:
    """The way to the workspace. `url` holds no user info: Airflow shows it; the password has its own field."""

    url: str
    password: str | None = field(default=None, repr=False)
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A workspace as one credential sees it. `base_url` has no path and no slash at its end; timeouts in seconds."""

    base_url: str
    api_version: ApiVersion = ApiVersion.V2
    key: str = field(default="", repr=False)
    login: str | None = field(default=None, repr=False)
    tls: Tls = Tls()
    proxy: Proxy | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    read_timeout: float = READ_TIMEOUT

    def authorization(self, scheme: Scheme) -> str:
        """The Authorization header for a request of this scheme.

        v1 is HTTP Basic with the legacy key as user and an empty password, or user name and password
        (Cloudera's Jobs API page); v2 is `Bearer <key>` (its API v2 page).

        :raises CmlInputError: the connection is for the other API, or the key cannot stand in a header.
        """
        if scheme is not _SCHEMES[self.api_version]:
            other = ApiVersion.V1 if self.api_version is ApiVersion.V2 else ApiVersion.V2
            message = (
                f"This needs API {other}, but the connection's Extra 'api_version' is {self.api_version}. "
                f"Use a connection for API {other}, with a key of that API."
            )
            raise CmlInputError(message)
        header = f"{scheme} {self.credential}"
        if not (header.isascii() and header.isprintable()):
            message = "API key (Password): holds a character that no key has, such as a line break; copy it again."
            raise CmlInputError(message)
        return header

    @property
    def credential(self) -> str:
        """What stands behind the scheme's name in the header. A secret, in its Base64 form too."""
        if self.api_version is ApiVersion.V2:
            return self.key
        user, password = (self.key, "") if self.login is None else (self.login, self.key)
        return base64.b64encode(f"{user}:{password}".encode()).decode("ascii")

    def jobs_url(self, owner: str, slug: str) -> str:
        """The address of a project's jobs page. API v2 gives none of a run or job, and not the number in theirs."""
        return f"{self.base_url}/{owner}/{slug}/jobs"

    @property
    def secrets(self) -> tuple[str, ...]:
        """All that must never be seen, longest first."""
        found = {self.key, self.credential, self.proxy.password if self.proxy else None}
        return tuple(sorted((secret for secret in found if secret), key=len, reverse=True))

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for two endpoints that may share connections; holds a digest, not the key."""
        proxy = (self.proxy.url, self.proxy.user, _digest(self.proxy.password or "")) if self.proxy else None
        return (self.base_url, self.api_version, _digest(self.credential), self.tls, proxy)


_SCHEMES = {ApiVersion.V1: Scheme.BASIC, ApiVersion.V2: Scheme.BEARER}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


_SEGMENT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")


def segment(text: str, field: str) -> str:
    """`text` as one segment of a path: whatever a template rendered, it cannot reach another address.

    :raises CmlInputError: the text is empty, a relative path, or holds control characters.
    """
    if text in {"", ".", ".."} or not _SEGMENT.fullmatch(text) or ".." in text.split("/"):
        message = f"{field}: {text!r} cannot stand in an address; give an id or a name, without '..'."
        raise CmlInputError(message)
    return quote(text, safe="")
