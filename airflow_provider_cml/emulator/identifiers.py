"""The shapes of CML's identifiers, keys and timestamps.

Law: what CML derives from nothing is random here too; what a workspace declares has an id derived from what
it declares, so that the same workspace has the same ids after a restart.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def _base36(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 36)
        digits.append(ALPHABET[digit])
    return "".join(digits)


def _grouped(text: str) -> str:
    return "-".join(text[start : start + 4] for start in range(0, 16, 4))


def derived_id(*parts: object) -> str:
    """The id of a declared project or job: 19 characters, always the same for the same parts."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return _grouped(_base36(int.from_bytes(digest, "big"), 16))


def random_public_id() -> str:
    """A 19-character id like `k9yi-cww6-iw3w-buq0` (LIVE: the server enforces the length)."""
    return _grouped(random_engine_id())


def random_engine_id() -> str:
    """A 16-character id like `cwg6wclmg0x482u0`, as v1 engines (DOC) and v2 runs (LIVE) have."""
    return "".join(secrets.choice(ALPHABET) for _ in range(16))


def random_api_key() -> str:
    """A v2 key: two 64-digit hexadecimal halves joined by a dot (seen in public clients)."""
    return f"{secrets.token_hex(32)}.{secrets.token_hex(32)}"


def random_legacy_key() -> str:
    """A legacy key: 32 characters `[0-9a-z]` (DOC: the sample)."""
    return "".join(secrets.choice(ALPHABET) for _ in range(32))


def slug_of(name: str) -> str:
    """The slug of a name (DOC): `Risk Analysis` is `risk-analysis`, `Real_DWH_Import` `real_dwh_import`."""
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")


def timestamp(moment: float | None) -> str | None:
    """RFC 3339 in UTC with `Z` and 0, 3 or 6 fractional digits; None stays null.

    INFER: Go's jsonpb drops trailing groups of three zeros, so the number of digits varies.
    """
    if moment is None:
        return None
    text = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    for _ in range(2):
        text = text.removesuffix("000")
    return text.removesuffix(".") + "Z"
