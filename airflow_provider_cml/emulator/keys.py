"""Who may ask: the two keys, and user names with passwords for v1.

Law: a v2 key is a Bearer token and nothing else, a legacy key is the user of HTTP Basic with an empty
password (DOC); neither opens the other API (ONE).
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_cml.emulator.calls import UNAUTHENTICATED, RefusalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.emulator.objects import User


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="surrogateescape"), other.encode())


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one emulator."""

    api_key: str = field(repr=False)
    legacy_key: str = field(repr=False)

    def check_v2(self, header: str) -> None:
        """Raise unless this is the v2 key. What CML answers is not published; INFER: 401 and code 16."""
        scheme, _, key = header.partition(" ")
        if scheme.lower() != "bearer" or not _same(key.strip(), self.api_key):
            raise RefusalError(UNAUTHENTICATED, "API key is invalid or expired")

    def check_v1(self, header: str, users: Mapping[str, User]) -> None:
        """Raise unless this is the legacy key with an empty password, or a declared user and password."""
        scheme, _, encoded = header.partition(" ")
        try:
            text = base64.b64decode(encoded.strip(), validate=True).decode()
            username, colon, password = text.partition(":")
        except ValueError:
            username = colon = password = ""
        if scheme.lower() == "basic" and colon:
            if not password and _same(username, self.legacy_key):
                return
            user = users.get(username)
            if user is not None and user.password and _same(password, user.password):
                return
        raise RefusalError(UNAUTHENTICATED, "Unauthorized")
