"""The variables a run is given: what a DAG author may write, and the text CML gets.

The law: CML takes strings only, and rejects a whole start for one number (seen in client code), so every value becomes
text here or is refused here, by name, before anything is sent. A value never stands in a message.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from numbers import Integral, Real

from airflow_provider_cml.api.errors import CmlInputError
from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE

AIRFLOW_CONTEXT_PREFIX = "AIRFLOW_CTX_"
RISKY_PREFIXES = ("CDSW_", "CML_")
_TEMPLATE = re.compile(r"\{\{|\{%")


def as_text(environment: object, field: str = "environment") -> dict[str, str]:
    """The variables as CML takes them: strings as they are, numbers in decimal, booleans as `true` and `false`.

    :param environment: {name: value}, or None.
    :param field: the argument's name, for the messages.
    :raises CmlInputError: a name or value that cannot be a variable, or a name this package keeps for itself.
    """
    if environment is None:
        return {}
    if not isinstance(environment, Mapping):
        message = f"{field}: must be a dict of variables, not {type(environment).__name__}."
        raise CmlInputError(message)
    return {_name(name, field): _text(name, value, field) for name, value in environment.items()}


def risky_names(environment: Mapping[str, str]) -> list[str]:
    """The variables that had better not be overridden: CML's own, and PATH (Cloudera, Jobs API)."""
    return sorted(name for name in environment if name == "PATH" or name.startswith(RISKY_PREFIXES))


def literal_names(environment: object) -> list[str]:
    """The variables whose value is written down as it is, and not as a template."""
    if not isinstance(environment, Mapping):
        return []
    return sorted(str(name) for name, value in environment.items() if not _TEMPLATE.search(str(value)))


def _name(name: object, field: str) -> str:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        message = f"{field}: {name!r} cannot be the name of a variable; use letters, digits and underscores."
        raise CmlInputError(message)
    if name == RUN_KEY_VARIABLE or name.startswith(AIRFLOW_CONTEXT_PREFIX):
        message = (
            f"{field}: {name} is set by the provider, so that a run can be found again and tell who started it. "
            f"Use another name."
        )
        raise CmlInputError(message)
    return name


def _text(name: object, value: object, field: str) -> str:
    if isinstance(value, str):
        if "\0" in value:
            message = f"{field}: the value of {name} holds a NUL character, which no variable can."
            raise CmlInputError(message)
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real | Decimal) and math.isfinite(value):
        return format(value if isinstance(value, Decimal) else Decimal(repr(float(value))), "f")
    what = "not a finite number" if isinstance(value, Real | Decimal) else f"of type {type(value).__name__}"
    message = (
        f"{field}: the value of {name} is {what}. Give a string, a number or a boolean; "
        f"write anything else as text first, for example with json.dumps."
    )
    raise CmlInputError(message)
