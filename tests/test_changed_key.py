"""A key that CML takes no longer, while a task waits in its worker: the connection is read once more, and only once.

In the triggerer: see `triggers/test_sharing.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.emulator import Life
from airflow_provider_cml.emulator.keys import Keys
from airflow_provider_cml.failures import CmlRefusedFailError
from airflow_provider_cml.hooks.cml import CmlHook
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.sensors.cml import CmlJobRunSensor
from tests.airflow_side import connections, context_of, job, log, quick, run_task, set_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job, Workspace

__all__ = ["connections", "job", "log", "quick"]

NEW = "the-key-of-tomorrow"
LOOKS_BEFORE = 2
"""Good looks at the run before CML changes the key."""


class Change:
    """CML takes another key from some look at the run on; `told` is what the connection says from then on.

    The run goes on until a later look has been answered, however slow the machine is.
    """

    def __init__(self, cml: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: str | None = None
        self.reads = 0
        """How often the connection was read."""
        self._cml = cml
        self._monkeypatch = monkeypatch
        read = CmlHook.get_connection

        def counted(_cls: type[CmlHook], conn_id: str) -> Any:
            self.reads += 1
            return read(conn_id)

        monkeypatch.setattr(CmlHook, "get_connection", classmethod(counted))
        cml.ledger.listeners.append(self._hear)

    def statuses(self) -> list[int]:
        """Of the answers to looks at the run, from the change on."""
        return [entry.status for entry in self._cml.ledger.requests("GetJobRun")][LOOKS_BEFORE:]

    def _hear(self, entry: Any) -> None:
        if entry.operation != "GetJobRun":
            return
        if 200 in self.statuses():
            (run,) = self._cml.ledger.executed()
            self._cml.workspace.set_status(run.id, "succeeded")
        if self._cml.ledger.count("GetJobRun") != LOOKS_BEFORE:
            return
        check, new = Keys.check_v2, Keys(NEW, self._cml.legacy_key)
        self._monkeypatch.setattr(Keys, "check_v2", lambda _old, header: check(new, header))
        if self.told is not None:
            set_connection(self._monkeypatch, host=self._cml.url, password=self.told)


@pytest.fixture
def change(connections: Emulator, monkeypatch: pytest.MonkeyPatch) -> Change:
    return Change(connections, monkeypatch)


@pytest.fixture(params=["operator", "sensor"])
def play(
    request: pytest.FixtureRequest, job: Job, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Any]:
    """A task that waits for a run in its worker; what it returns."""
    given = {"project": job.project_id, "job": job.id}
    job.life = Life(running=None)

    def operate() -> Any:
        task = CmlRunJobOperator(task_id="value_at_risk", poll_interval=0.05, **given)
        return run_task(lambda: task, context_of(task)).value

    def sense() -> Any:
        run = workspace.start(job)
        task = CmlJobRunSensor(task_id="watch", poke_interval=0.05, timeout=60, run_id=run.id, **given)
        # 2.11 asks its database when a sensor looked first.
        base = import_module("airflow.sensors.base")
        monkeypatch.setattr(base, "_orig_start_date", lambda *_, **__: datetime.now(UTC), raising=False)
        return run_task(lambda: task, context_of(task)).value

    return operate if request.param == "operator" else sense


def test_changed_key_is_green(play: Callable[[], Any], change: Change, connections: Emulator) -> None:
    """The one look that is refused costs one more reading of the connection, and nobody sees it."""
    change.told = NEW
    value = play()

    assert value == connections.ledger.executed()[0].id
    assert change.reads == 2
    assert change.statuses()[0] == 401
    assert set(change.statuses()[1:]) == {200}


@pytest.mark.parametrize(("told", "refused"), [(None, 1), ("another-wrong-key", 2)], ids=["same", "another"])
def test_wrong_key_fails_for_good(
    play: Callable[[], Any], change: Change, connections: Emulator, told: str | None, refused: int
) -> None:
    """The connection is read once more; another key in it is tried, once. Then the error names the key."""
    change.told = told
    with pytest.raises(CmlRefusedFailError, match=r"refused with 401 .*API key .* is wrong, has expired") as caught:
        play()

    assert change.reads == 2
    assert change.statuses() == [401] * refused
    assert connections.ledger.count("StopJobRun") == 0
    assert NEW not in str(caught.value)
