"""How a task ends, for every status there is and every trouble in asking: the same in each mode, and said in words.

The law: the classes that DAG authors use, against a workspace. What Airflow makes of an error is asked of Airflow's own
classes: a skip, an end for good, or another try.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.api.conversations import waiting
from airflow_provider_cml.compat import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from airflow_provider_cml.emulator import Life
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from tests.airflow_side import connections, context_of, job, log, quick, run_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job, Run, Workspace
    from airflow_provider_cml.emulator.ledger import RequestRecord

__all__ = ["connections", "job", "log", "quick"]

try:  # 3.2+
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowRescheduleException  # type: ignore[no-redef,unused-ignore]

DOCUMENT = json.loads((Path(__file__).parent / "api" / "cml_v2_swagger.json").read_text())
PUBLISHED = DOCUMENT["definitions"]["EngineStatus"]["enum"]
MADE_UP = ["ENGINE_DREAMING", "ENGINE_SUCCEEDED_ALMOST", "SUCCESS", "0"]
GREEN, FOR_GOOD, AGAIN, SKIPPED = "success", "failed for good", "up for retry", "skipped"


@dataclass(frozen=True)
class End:
    """What becomes of a task; `words` stand in its error, and in that of no other ending."""

    operator: str
    sensor: str
    soft_sensor: str
    words: str


def _still(word: str) -> End:
    return End(AGAIN, FOR_GOOD, SKIPPED, f"was still {word} when")


def _unclear(word: str) -> End:
    return End(AGAIN, AGAIN, AGAIN, f"unknown ('{word}') for")


STATUSES = {
    "ENGINE_SCHEDULING": _still("ENGINE_SCHEDULING"),
    "ENGINE_STARTING": _still("ENGINE_STARTING"),
    "ENGINE_RUNNING": _still("ENGINE_RUNNING"),
    "ENGINE_STOPPING": _still("ENGINE_STOPPING"),
    "ENGINE_STOPPED": End(FOR_GOOD, FOR_GOOD, SKIPPED, "was stopped in CML, and not by this task (ENGINE_STOPPED)"),
    "ENGINE_UNKNOWN": _unclear("ENGINE_UNKNOWN"),
    "ENGINE_SUCCEEDED": End(GREEN, GREEN, GREEN, ""),
    "ENGINE_FAILED": End(AGAIN, AGAIN, SKIPPED, "failed (ENGINE_FAILED); its log is in CML"),
    "ENGINE_TIMEDOUT": End(AGAIN, AGAIN, SKIPPED, "longer than the job's timeout in CML (ENGINE_TIMEDOUT)"),
    # The operator takes part again, and its next run succeeds.
    "ENGINE_SKIPPED": End(GREEN, FOR_GOOD, SKIPPED, "was skipped (ENGINE_SKIPPED): CML never ran it"),
    **{word: _unclear(word) for word in MADE_UP},
}
TROUBLES: dict[str, tuple[str, dict[str, Any], End]] = {
    "503": ("error_before", {}, End(AGAIN, AGAIN, AGAIN, "was answered 503")),
    "no connection": ("drop_before", {}, End(AGAIN, AGAIN, AGAIN, "broke the connection off")),
    "a page": ("html", {}, End(AGAIN, AGAIN, AGAIN, "expected JSON, got text/html")),
    "401": ("refused", {"status": 401}, End(FOR_GOOD, FOR_GOOD, FOR_GOOD, "was refused with 401")),
    "403": ("refused", {"status": 403}, End(FOR_GOOD, FOR_GOOD, FOR_GOOD, "was refused with 403")),
    "404": ("refused", {"status": 404}, End(FOR_GOOD, FOR_GOOD, FOR_GOOD, "was refused with 404")),
}
"""What befalls the looks at a run, the first of which was good, for ever."""
WORDS = [end.words for end in (*STATUSES.values(), *(end for _, _, end in TROUBLES.values())) if end.words]

OPERATORS: dict[str, dict[str, Any]] = {"operator": {}, "operator, deferred": {"deferrable": True}}
SENSORS: dict[str, dict[str, Any]] = {
    "sensor, poke": {"mode": "poke"},
    "sensor, reschedule": {"mode": "reschedule"},
    "sensor, deferred": {"deferrable": True},
}
SOFT = {f"soft {mode}": {**arguments, "soft_fail": True} for mode, arguments in SENSORS.items()}
MODES = {**OPERATORS, **SENSORS, **SOFT}


@dataclass
class World:
    """One job and one task; `happen` befalls its run as soon as the task has looked at it, and seen it running."""

    workspace: Workspace
    cml: Emulator
    job: Job
    monkeypatch: pytest.MonkeyPatch

    def run(self, mode: str, happen: Callable[[Run], object], *, at_once: bool = False, **arguments: Any) -> Any:
        """What the task of a mode returns, or raises. `at_once`: it happens before the first look already."""
        lives = iter([Life(running=None)])
        self.job.life = lambda _run: next(lives, Life())
        self.started = happen if at_once else None
        if not at_once:
            self._when("GetJobRun", happen)
        elif mode in OPERATORS:
            self._when("CreateJobRun", happen)
        arguments = {"project": self.job.project_id, "job": self.job.id, "retries": 2, **MODES[mode], **arguments}
        return self.operate(**arguments) if mode in OPERATORS else self.sense(**arguments)

    def operate(self, **arguments: Any) -> Any:
        def make() -> CmlRunJobOperator:
            return CmlRunJobOperator(task_id="value_at_risk", poll_interval=0.05, **arguments)

        self.ti = context_of(make())["ti"]
        return self._play(make)

    def sense(self, **arguments: Any) -> Any:
        """Rescheduled as often as it takes, each time in a new object."""
        run = self.workspace.start(self.job)
        if self.started is not None:
            self.started(run)

        def make() -> CmlJobRunSensor:
            return CmlJobRunSensor(task_id="watch", poke_interval=0.05, run_id=run.id, **arguments)

        self.ti = context_of(make())["ti"]
        begin = datetime.now(UTC)
        for _ in range(500):
            try:
                return self._play(make)
            except AirflowRescheduleException as again:
                self.ti.first_poke = begin
                time.sleep(max((again.reschedule_date - datetime.now(UTC)).total_seconds(), 0))
        raise AssertionError("the sensor is rescheduled for ever")

    def _play(self, make: Callable[[], Any]) -> Any:
        task = make()
        # 2.11 asks its database when a sensor looked first.
        base = import_module("airflow.sensors.base")
        self.monkeypatch.setattr(base, "_orig_start_date", lambda *_, **__: self.ti.first_poke, raising=False)
        context = context_of(task) | {"ti": self.ti, "task_instance": self.ti}
        ran = run_task(make, context)
        assert bool(ran.deferrals) is task.deferrable
        return ran.value

    def _when(self, operation: str, happen: Callable[[Run], object]) -> None:
        asked: list[str] = []

        def hear(entry: RequestRecord) -> None:
            if entry.operation == operation:
                asked.append(entry.path)
                if len(asked) == 1:
                    happen(self.workspace.runs_of(self.job)[0])

        self.cml.ledger.listeners.append(hear)


@pytest.fixture
def world(workspace: Workspace, connections: Emulator, job: Job, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(waiting, "UNKNOWN_BOUND", 0.1)
    return World(workspace, connections, job, monkeypatch)


def state_of(error: Exception) -> str:
    """What Airflow makes of a task with retries left that raises this."""
    if isinstance(error, AirflowSkipException):
        return SKIPPED
    return FOR_GOOD if isinstance(error, AirflowFailException | AirflowSensorTimeout) else AGAIN


def check(world: World, end: End, mode: str, happen: Callable[[Run], object], **arguments: Any) -> None:
    """The task of this mode comes to this end, and says it in its own words and no other's."""
    expected = end.operator if mode in OPERATORS else end.soft_sensor if mode in SOFT else end.sensor
    if expected == GREEN:
        returned = world.run(mode, happen, **arguments)
        runs = world.cml.ledger.runs()
        assert returned == runs[-1].id
        assert runs[-1].status == "ENGINE_SUCCEEDED"
        return
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the very class is looked at
        world.run(mode, happen, **arguments)
    assert state_of(caught.value) == expected
    assert [words for words in WORDS if words in str(caught.value)] == [end.words]


def test_every_published_status_is_here() -> None:
    """The table has a row for each word of the published document."""
    assert set(STATUSES) == {*PUBLISHED, *MADE_UP}


def test_words_are_apart() -> None:
    """No ending can be taken for another: none of the words stands in another's."""
    assert [(one, other) for one in WORDS for other in WORDS if one in other] == [(words, words) for words in WORDS]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("word", STATUSES)
def test_status(world: World, word: str, mode: str) -> None:
    """A run that comes to a status and stays there ends the task alike in each mode; only SUCCEEDED is green.

    Of what is not over only a task whose own time ends stops its run, and no sensor stops anything.
    """
    is_still = STATUSES[word].words.startswith("was still")
    # On a slow machine a short time may be over before there is a second look.
    how = {"timeout": 0.4 if is_still else 60.0, "at_once": is_still}
    check(world, STATUSES[word], mode, lambda run: world.workspace.set_status(run, word), **how)
    (run, *later) = world.cml.ledger.runs()

    assert run.stop_requests == int(is_still and mode in OPERATORS and word != "ENGINE_STOPPING")
    assert len(later) == int(word == "ENGINE_SKIPPED" and mode in OPERATORS)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble(world: World, trouble: str, mode: str) -> None:
    """That we cannot ask any more, or that CML refuses, is told alike in each mode, skips nothing and stops nothing."""
    kind, settings, end = TROUBLES[trouble]
    check(world, end, mode, lambda _run: world.cml.fault("GetJobRun", kind, **settings), timeout=300)
    (run,) = world.cml.ledger.runs()

    assert (run.status, run.stop_requests) == ("ENGINE_RUNNING", 0)
