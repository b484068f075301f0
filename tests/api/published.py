"""CML's published document of API v2, as the judge of what is sent and answered."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]

DOCUMENT = json.loads((Path(__file__).parent / "cml_v2_swagger.json").read_text())
DEFINITIONS = DOCUMENT["definitions"]


def described(method: str, path: str) -> tuple[str, dict[str, Any]]:
    """The operation of the document a request is for: its path template, and what the document says of it."""
    found = []
    for template, methods in DOCUMENT["paths"].items():
        pattern = re.sub(r"\\{[^}]+\\}", "[^/:]+", re.escape(template))
        if re.fullmatch(pattern, path) and method.lower() in methods:
            found.append((template, methods[method.lower()]))
    assert len(found) == 1, f"{method} {path} is {len(found)} operations of the document"
    return found[0]


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    """A schema of the document, made strict: a field it does not name is no field."""
    strict = {
        name: {"additionalProperties": False, **fields} if fields.get("properties") else fields
        for name, fields in DEFINITIONS.items()
    }
    return {**definition, "definitions": strict}


def check(definition: dict[str, Any], body: object) -> None:
    """Fail if the body does not fit the schema, or has a field the schema does not name."""
    jsonschema.Draft4Validator(schema_of(definition)).validate(json.loads(json.dumps(body)))
