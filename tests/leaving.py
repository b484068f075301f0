"""Tasks that know secrets, and the heap of all they leave behind for others to see.

The law: who looks for a secret and finds none has first found, in the same heap, something that may be known.
"""

from __future__ import annotations

import base64
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from airflow_provider_cml.api import retry
from airflow_provider_cml.emulator import Emulator
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from tests.airflow_side import PASSWORD, context_of, fire, set_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_cml.emulator import Workspace

    Make: TypeAlias = Callable[[], Any]

try:  # 3.2+
    from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferred
except ImportError:
    from airflow.exceptions import (  # type: ignore[no-redef,unused-ignore]
        AirflowRescheduleException,
        TaskDeferred,
    )

KEY = "a-key-in-no-log-0123456789abcdef"
PRIVATE = "private-value-of-the-warehouse"
LITERAL = "private-value-written-down"
FORMS = {
    "key": KEY,
    "key in Basic": base64.b64encode(f"{KEY}:".encode()).decode().rstrip("="),
    "private value": PRIVATE,
    "literal private value": LITERAL,
    "project's password": PASSWORD,
}
NAMES = {"project": "alice/risk-analysis", "job": "nightly VaR"}
IDS = {"project": "alice/risk-analysis", "job": "208"}


class Warehouse:
    """Gives its password to a template when asked, as `conn.warehouse` does, and does not keep it."""

    @property
    def password(self) -> str:
        return "".join(list(PRIVATE))


@dataclass
class Heap:
    """All that a task leaves behind for others to see."""

    log: pytest.LogCaptureFixture
    things: list[str] = field(default_factory=list)

    def add(self, *things: object) -> None:
        self.things += [f"{thing} {thing!r}" for thing in things]

    def add_error(self, error: BaseException) -> None:
        """As Airflow logs it, and as callbacks see it: with all its causes, and what hangs on them."""
        self.add("".join(traceback.format_exception(error)))
        cause: BaseException | None = error
        while cause is not None:
            self.add(cause, vars(cause))
            cause = cause.__cause__ or cause.__context__

    def check(self, *known: str) -> None:
        """Nothing secret is here; what may be known is."""
        text = "\n".join([*self.things, self.log.text])
        assert [word for word in known if word not in text] == []
        assert [name for name, secret in FORMS.items() if secret in text] == []


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked again for half a minute is asked once: it is said in the same words."""
    repeatable = retry._repeatable
    monkeypatch.setattr(retry, "_repeatable", lambda asked, error: asked.patience < 30 and repeatable(asked, error))


@pytest.fixture
def heap(log: pytest.LogCaptureFixture) -> Heap:
    return Heap(log)


def play(make: Make, heap: Heap, monkeypatch: pytest.MonkeyPatch) -> None:
    """One task to its end, whatever that is: rescheduled and deferred as often as it takes."""
    context = context_of(make()) | {"warehouse": Warehouse()}
    context["ti"].first_poke = first_poke = datetime.now(UTC)
    base = import_module("airflow.sensors.base")  # 2.11 asks its database when it first looked
    monkeypatch.setattr(base, "_orig_start_date", lambda **_: first_poke, raising=False)
    event: tuple[str, dict[str, Any]] | None = None
    for _ in range(200):
        task = make()
        task.render_template_fields(context)
        heap.add(task, {name: getattr(task, name) for name in task.template_fields})
        try:
            if event is None:
                heap.add(task.execute(context))
            else:
                heap.add(task.resume_execution(event[0], {"event": event[1]}, context))
            break
        except TaskDeferred as deferral:
            heap.add(deferral, vars(deferral), deferral.trigger, deferral.trigger.serialize())
            event = deferral.method_name, fire(deferral)
            heap.add(event)
        except AirflowRescheduleException:
            time.sleep(0.02)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
            heap.add_error(error)
            break
    else:
        raise AssertionError("this task is rescheduled for ever")
    heap.add(context["ti"].pushed)


VARIABLES = {"TOKEN": "{{ warehouse.password }}", "OTHER": LITERAL}
OPERATORS: dict[str, dict[str, Any]] = {
    "operator": NAMES,
    "operator deferred": {**NAMES, "deferrable": True},
    "operator through v1": {**IDS, "cml_conn_id": "cml_v1", "wait_for_completion": False},
}


def operator(mode: str) -> Make:
    return partial(
        CmlRunJobOperator,
        task_id="value_at_risk",
        private_environment=VARIABLES,
        poll_interval=0.05,
        busy_timeout=1,
        **OPERATORS[mode],
    )


def set_connections(monkeypatch: pytest.MonkeyPatch, host: str, **extra: Any) -> None:
    """One address and one key, for either API."""
    set_connection(monkeypatch, host=host, password=KEY, extra=extra)
    set_connection(monkeypatch, "cml_v1", host=host, password=KEY, extra={**extra, "api_version": "v1"})


@pytest.fixture
def cml(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """The workspace, served with our key, and connections to it."""
    with Emulator(workspace, api_key=KEY, legacy_key=KEY) as emulator:
        set_connections(monkeypatch, emulator.url, timeout=0.3)
        yield emulator
