"""What CmlRunJobOperator gives its run: variables, private ones, arguments; and where private values must not be."""

from __future__ import annotations

import gc
import types
from datetime import date
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml import task_context
from airflow_provider_cml.compat import AirflowFailException
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from tests.airflow_side import context_of, run_task

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from airflow_provider_cml.emulator import Emulator, Job

    Make: TypeAlias = Callable[..., CmlRunJobOperator]

SECRET = "s3cret-of-the-vault"
"""A private value; only a template knows how to get it."""


class Vault:
    """Gives the secret when asked, and does not keep it; as `conn` and `var` in a template."""

    @property
    def token(self) -> str:
        return SECRET[:6] + SECRET[6:]


@pytest.fixture
def make(job: Job, connections: Emulator) -> Make:
    def operator(**arguments: Any) -> CmlRunJobOperator:
        given = {"project": job.project_id, "job": job.id, "poll_interval": 0.05}
        return CmlRunJobOperator(task_id="value_at_risk", **{**given, **arguments})

    return operator


def started_with(make: Callable[[], CmlRunJobOperator], connections: Emulator, **context: Any) -> dict[str, str]:
    """The variables CML was given with the start, without those of Airflow and the key."""
    run_task(make, {**context_of(make()), **context})
    (run,) = connections.ledger.runs()
    return {name: value for name, value in run.environment.items() if not name.startswith("AIRFLOW_")}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        ("ü €\n=", "ü €\n="),
        (7, "7"),
        (True, "true"),
        (False, "false"),
        (0.1, "0.1"),
        (1e21, "1000000000000000000000"),
        (Decimal("2.50"), "2.50"),
        ("{{ day }}", "2026-11-20"),
    ],
)
def test_value_reaches_the_run_as_text(make: Make, connections: Emulator, value: object, text: str) -> None:
    """CML takes strings only: numbers come in decimal, booleans as true and false, templates rendered."""
    found = started_with(partial(make, environment={"GIVEN": value}), connections, day="2026-11-20")

    assert found == {"GIVEN": text}


@pytest.mark.parametrize("field", ["environment", "private_environment"])
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (["A=1"], "must be a dict of variables, not list"),
        ({"A": None}, "the value of A is of type NoneType"),
        ({"A": float("nan")}, "the value of A is not a finite number"),
        ({"A": date(2026, 11, 20)}, "the value of A is of type date"),
        ({"A": {"b": SECRET}}, "the value of A is of type dict"),
        ({"A": "x\0"}, "the value of A holds a NUL"),
        ({"A=B": "x"}, "'A=B' cannot be the name"),
        ({"": "x"}, "'' cannot be the name"),
        ({7: "x"}, "7 cannot be the name"),
        ({"AIRFLOW_RUN_KEY": "mine"}, "AIRFLOW_RUN_KEY is set by the provider"),
        ({"AIRFLOW_CTX_DAG_ID": "mine"}, "AIRFLOW_CTX_DAG_ID is set by the provider"),
    ],
)
def test_what_cannot_be_a_variable_is_refused(
    make: Make, connections: Emulator, field: str, environment: Any, words: str
) -> None:
    """A variable CML cannot take, or that the provider keeps for itself, fails by name before any request."""
    task = partial(make, **{field: environment})
    with pytest.raises(AirflowFailException) as caught:
        run_task(task, context_of(task()))

    assert str(caught.value).startswith(f"{field}: ")
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    assert connections.ledger.requests() == []


def test_name_given_twice_is_refused(make: Make, connections: Emulator) -> None:
    """A name in both environments is an error that names it, and not its values."""
    task = partial(make, environment={"TOKEN": "a"}, private_environment={"TOKEN": SECRET})
    with pytest.raises(AirflowFailException, match="TOKEN is in environment too") as caught:
        run_task(task, context_of(task()))

    assert SECRET not in str(caught.value)
    assert connections.ledger.requests() == []


@pytest.mark.parametrize(("name", "is_warned"), [("PATH", True), ("CDSW_X", True), ("CML_X", True), ("MY_PATH", False)])
def test_risky_names_are_warned_about(
    make: Make, connections: Emulator, log: pytest.LogCaptureFixture, name: str, is_warned: bool
) -> None:
    """CML's own variables may be overridden, with a warning."""
    found = started_with(partial(make, environment={name: "x"}), connections)

    assert found == {name: "x"}
    assert (f"overriding {name}" in log.text) is is_warned


# ---------------------------------------------------------------- private values


def test_private_values_reach_the_run_and_nothing_else(
    make: Make, connections: Emulator, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template among the private ones is rendered for the run; Airflow's masker is told, nothing else is."""
    masked: list[object] = []
    monkeypatch.setattr(task_context, "mask_secret", masked.append)
    task = make(private_environment={"TOKEN": "{{ vault.token }}"})
    context = context_of(task) | {"vault": Vault()}
    task.render_template_fields(context)
    task.execute(context)
    (run,) = connections.ledger.runs()

    assert run.environment["TOKEN"] == SECRET
    assert masked == [SECRET]
    assert "private_environment" not in task.template_fields
    assert task.private_environment == {"TOKEN": "{{ vault.token }}"}
    assert SECRET not in log.text
    assert SECRET not in str(context["ti"].pushed)


def test_private_values_stay_in_no_attribute(make: Make) -> None:
    """After execute nothing that hangs on the operator holds a private value: what Airflow stores of it is clean."""
    task = make(private_environment={"TOKEN": "{{ vault.token }}"})
    task.execute(context_of(task) | {"vault": Vault()})
    seen: set[int] = set()
    waiting: list[object] = [vars(task)]
    holders: list[object] = []
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType | types.FunctionType | types.FrameType):
            continue
        seen.add(id(thing))
        if isinstance(thing, str | bytes):
            holders += [thing] if SECRET in str(thing) else []
        else:
            waiting += gc.get_referents(thing)

    assert holders == []


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
@pytest.mark.parametrize("fault", [None, ("CreateJobRun", "refused", 403), ("CreateJobRun", "error_before", 422)])
def test_private_values_are_in_no_message(
    make: Make,
    connections: Emulator,
    log: pytest.LogCaptureFixture,
    deferrable: bool,
    fault: tuple[str, str, int] | None,
) -> None:
    """Neither an error, nor what is stored while the task sleeps, nor the log shows a private value."""
    if fault:
        connections.fault(fault[0], fault[1], status=fault[2])
    task = partial(make, deferrable=deferrable, private_environment={"TOKEN": "{{ vault.token }}"})
    context = context_of(task()) | {"vault": Vault()}
    said = ""
    try:
        said = str([deferral.trigger.serialize() for deferral in run_task(task, context).deferrals])
    except AirflowFailException as error:
        said = f"{error!r} {error.__cause__!r} {vars(error)}"

    assert SECRET not in said + log.text + str(context["ti"].pushed)


# ---------------------------------------------------------------- arguments


def test_arguments_reach_the_run(make: Make, connections: Emulator) -> None:
    """Arguments are one string, and a template."""
    task = partial(make, arguments="--day {{ day }}")
    run_task(task, context_of(task()) | {"day": "2026-11-20"})

    assert connections.ledger.runs()[0].arguments == "--day 2026-11-20"


def test_arguments_cml_ignores_are_told(make: Make, connections: Emulator, log: pytest.LogCaptureFixture) -> None:
    """A workspace that shows other arguments for the run than were given is warned about."""
    connections.fault("CreateJobRun", "arguments_ignored")
    task = partial(make, arguments="--day 1")
    run_task(task, context_of(task()))

    assert "CML shows other arguments" in log.text
