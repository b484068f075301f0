"""The triggers, run as a triggerer runs them: one event, never an exception, arguments that survive the database."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml import events
from airflow_provider_cml.api.conversations import line
from airflow_provider_cml.api.conversations.watching import Ending, Outcome
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.triggers.cml import CmlJobFreeTrigger, CmlJobRunTrigger
from tests.airflow_side import set_connection

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Workspace

QUIET = line.QUIET
"""Before the tests make it short."""


def watched(job: Job, **fields: Any) -> dict[str, Any]:
    return events.Watched(job.project_id, job.id, **fields).to_json()


def fire(*those: CmlJobRunTrigger | CmlJobFreeTrigger) -> list[Outcome]:
    """How each of them ends, all in one event loop; each yields exactly one event, in JSON."""

    async def one(trigger: Any) -> list[Any]:
        return [event.payload async for event in trigger.run()]

    async def everyone() -> list[list[Any]]:
        return await asyncio.gather(*map(one, those))

    payloads = asyncio.run(everyone())
    assert [len(found) for found in payloads] == [1] * len(those)
    return [events.read(json.loads(json.dumps(found[0])))[0] for found in payloads]


MEMORY = events.Watched("p", "j", run_id="r", excluded=("a",)).to_json()


@pytest.mark.parametrize(
    "trigger",
    [
        CmlJobRunTrigger("cml_default", MEMORY, 5.0),
        CmlJobRunTrigger("other", MEMORY, 5.0, "v1;key", "2026-11-21T06:00:00+00:00", cancel_on_kill=True),
        CmlJobFreeTrigger("cml_default", MEMORY, 5.0, "2026-11-21", 3, "dag/run/task", 15.0),
    ],
    ids=lambda trigger: type(trigger).__name__,
)
def test_arguments_survive_the_database(trigger: Any) -> None:
    """Airflow stores path and arguments; what comes of them is the same trigger. No secret is among them."""
    path, arguments = trigger.serialize()
    again = type(trigger)(**json.loads(json.dumps(arguments)))

    assert path == f"{type(trigger).__module__}.{type(trigger).__qualname__}"
    assert json.loads(json.dumps(arguments)) == arguments
    assert again.serialize() == trigger.serialize()


# As 0.1.0 stores them. They stay as they are, and must be readable for ever: a task may sleep through any upgrade.
STORED_RUN = """
{
  "cml_conn_id": "cml_default", "watched": {}, "poll_interval": 0.05, "run_key": null, "since": null,
  "cancel_on_kill": true, "looked_at": null
}
"""
STORED_FREE = """
{
  "cml_conn_id": "cml_default", "watched": {}, "poll_interval": 0.05, "date": "2026-11-21T00:00:00+00:00",
  "map_index": -1, "name": "risk/manual/value_at_risk", "gap": 0.0
}
"""
# The memory, `watched`, is kept for ever by tests/test_events.py.


def present(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields without those that are `...`, which are missing."""
    return {name: value for name, value in fields.items() if value is not ...}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"of_a_later_release": {"a": 1}},
        {"watched": {"of_a_later_release": 1}},
        {"poll_interval": ...},
        {"run_key": ..., "since": ..., "cancel_on_kill": ..., "looked_at": ...},
        {"poll_interval": ..., "date": ..., "map_index": ..., "name": ..., "gap": ...},
        {"watched": {"excluded": ..., "began": ..., "waited": ..., "refusals": ...}},
    ],
    ids=["as stored", "one more", "more memory", "no gap", "least of run", "least of free", "less memory"],
)
def test_trigger_of_another_release_runs(
    connections: Emulator, workspace: Workspace, job: Job, arguments: dict[str, Any]
) -> None:
    """What a later release knows more is ignored, what an earlier one did not know has its default."""
    run = workspace.add_run(job, "succeeded")
    memory = watched(job, run_id=run.id)

    def built(kind: Any, text: str) -> Any:
        stored = {**json.loads(text), **arguments, "watched": present(memory | arguments.get("watched", {}))}
        return kind(**present(stored))

    outcomes = fire(built(CmlJobRunTrigger, STORED_RUN), built(CmlJobFreeTrigger, STORED_FREE))

    assert [outcome.ending for outcome in outcomes] == [Ending.OVER, Ending.FREE]
    assert outcomes[0].run is not None
    assert outcomes[0].run.status.is_success


@pytest.mark.parametrize("ending", ["succeeded", "failed", "stopped", "timedout", "skipped"])
def test_run_that_ends(connections: Emulator, workspace: Workspace, job: Job, ending: str) -> None:
    """The event tells how the run ended, whatever its ending."""
    job.life = Life(running=0.1, ending=ending)
    run = workspace.start(job)
    (outcome,) = fire(CmlJobRunTrigger("cml_default", watched(job, run_id=run.id), 0.05))

    assert outcome.ending is Ending.OVER
    assert outcome.run is not None
    assert (outcome.run.id, str(outcome.run.status)) == (run.id, ending)


def test_deadline_is_absolute(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """A trigger that is started again does not start its time again."""
    run = workspace.add_run(job)
    began = time.monotonic()
    (outcome,) = fire(CmlJobRunTrigger("cml_default", watched(job, run_id=run.id, deadline=time.time() - 100), 0.05))

    assert outcome.ending is Ending.TIMED_OUT
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("trouble", "ending"),
    [
        ("key", Ending.REFUSED),
        ("no such run", Ending.REFUSED),
        ("no connection field", Ending.REFUSED),
        ("no answer", Ending.UNANSWERED),
        ("closed port", Ending.UNANSWERED),
        ("html", Ending.UNANSWERED),
        ("arguments", Ending.REFUSED),
        ("a mistake of ours", Ending.UNANSWERED),
    ],
)
def test_trigger_never_raises(
    connections: Emulator,
    workspace: Workspace,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
    ending: Ending,
) -> None:
    """Whatever goes wrong, the task gets one event that says so; an exception would tell it nothing."""
    run_id = "0000000000000000" if trouble == "no such run" else workspace.add_run(job).id
    arguments = {} if trouble == "arguments" else watched(job, run_id=run_id)
    if trouble == "key":
        set_connection(monkeypatch, host=connections.url, password="not-the-key-at-all")
    elif trouble == "no connection field":
        set_connection(monkeypatch, host="", password="some-key-or-other")
    elif trouble == "closed port":
        set_connection(monkeypatch, host="http://127.0.0.1:9", password="some-key-or-other")
    elif trouble == "a mistake of ours":
        monkeypatch.setattr(CmlJobRunTrigger, "_pace", lambda *_: 1 / 0)
    elif trouble in {"no answer", "html"}:
        connections.fault("GetJobRun", "error_before" if trouble == "no answer" else "html")
    (outcome,) = fire(CmlJobRunTrigger("cml_default", arguments, 0.05))

    assert outcome.ending is ending
    assert outcome.message
    assert connections.ledger.count("StopJobRun") == 0


def test_memory_that_cannot_be_read_is_told(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """A value of another kind is named, and the run is left alone."""
    run = workspace.add_run(job, "succeeded")
    (outcome,) = fire(CmlJobRunTrigger("cml_default", watched(job, run_id=run.id) | {"run_url": {}}, 0.05))

    assert outcome.ending is Ending.REFUSED
    assert "run_url: must be str, not dict" in outcome.message


def test_five_seconds_are_quiet() -> None:
    """Airflow fails tasks whose trigger fires right after the deferral, so no trigger does."""
    assert QUIET >= 5


@pytest.mark.parametrize("kind", ["run", "free"])
def test_quiet_time_is_kept(
    connections: Emulator, workspace: Workspace, job: Job, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """However long a run is over, or a job free, the trigger does not fire before its quiet time has passed."""
    monkeypatch.setattr(line, "QUIET", 0.6)
    run = workspace.add_run(job, "succeeded")
    began = time.monotonic()
    if kind == "run":
        fire(CmlJobRunTrigger("cml_default", watched(job, run_id=run.id), 0.05))
    else:
        fire(CmlJobFreeTrigger("cml_default", watched(job), 0.05, "2026-11-21", -1, "a"))

    assert time.monotonic() - began >= 0.6


@pytest.mark.parametrize("kind", ["arguments", "connection", "key", "line", "deadline"])
def test_bad_news_is_quiet_too(
    connections: Emulator, workspace: Workspace, job: Job, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Airflow 3.3 fails tasks whose trigger fires right after the deferral, whatever it has to tell."""
    monkeypatch.setattr(line, "QUIET", 0.6)
    run = workspace.add_run(job)
    if kind == "connection":
        set_connection(monkeypatch, host="", password="some-key-or-other")
    elif kind in {"key", "line"}:
        set_connection(monkeypatch, host=connections.url, password="not-the-key-at-all")
    over = time.time() - 1
    began = time.monotonic()
    if kind in {"line", "deadline"}:
        fire(CmlJobFreeTrigger("cml_default", watched(job, busy_deadline=over), 0.05, "2026-11-21", -1, "a"))
    else:
        memory = {} if kind == "arguments" else watched(job, run_id=run.id, deadline=over)
        fire(CmlJobRunTrigger("cml_default", memory, 0.05))

    assert time.monotonic() - began >= 0.6


def test_job_that_becomes_free(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """Waiting for a job ends when its run is over, and starts nothing."""
    workspace.start(job)
    (outcome,) = fire(CmlJobFreeTrigger("cml_default", watched(job), 0.05, "2026-11-21", -1, "a"))

    assert outcome.ending is Ending.FREE
    assert connections.ledger.count("CreateJobRun") == 0


@pytest.mark.parametrize(
    ("fields", "ending"),
    [({}, Ending.FREE), ({"busy_deadline": 0.0}, Ending.FREE), ({"deadline": 0.0}, Ending.TIMED_OUT)],
)
def test_time_that_has_to_pass(
    connections: Emulator, workspace: Workspace, job: Job, fields: dict[str, float], ending: Ending
) -> None:
    """A wait for time asks CML nothing, busy job or not, and is no wait for the job; the try's own time bounds it."""
    workspace.add_run(job)
    (outcome,) = fire(
        CmlJobFreeTrigger("cml_default", watched(job, **fields), 5.0, "2026-11-21", -1, "a", gap=0.1, only_gap=True)
    )

    assert outcome.ending is ending
    assert connections.ledger.requests() == []


def test_wait_for_a_job_is_bounded(connections: Emulator, workspace: Workspace, job: Job) -> None:
    """A job that stays busy past the deadline is told as that, with the run that keeps it."""
    run = workspace.add_run(job)
    until = watched(job, busy_deadline=time.time() + 3.0)
    (outcome,) = fire(CmlJobFreeTrigger("cml_default", until, 0.05, "2026-11-21", -1, "a"))

    assert outcome.ending is Ending.TIMED_OUT
    assert run.id in outcome.message
