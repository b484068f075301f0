"""Iterations of a loop (Airflow 3.4): each has a run of its own, whatever is retried or cleared beside it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from airflow import __version__
from packaging.version import Version

from airflow_provider_cml.api.run_key import RUN_KEY_VARIABLE, RunKey
from airflow_provider_cml.emulator import Life
from tests.airflow.conftest import SCENARIO, UNTIL_TOLD, XCOMS_AT_END, XCOMS_AT_START

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job
    from airflow_provider_cml.emulator.ledger import RunRecord
    from airflow_provider_cml.emulator.objects import Run
    from tests.airflow.deployment import DagRun, Deployment, Task

HAS_LOOPS = Version(__version__) >= Version("3.4.0b1")
pytestmark = [*SCENARIO, pytest.mark.skipif(not HAS_LOOPS, reason="Airflow has loops from 3.4 on")]

DAGS = {f"looped{name}" for name in ("", "_failing", "_killed", "_cleared", "_underway", "_mapped")}
WAYS = ("sync", "deferred")
LINK = "Cloudera Machine Learning"
SHORT = Life(running=1.0)
FOUR = [(0, 0), (0, 1), (1, 0), (1, 1)]
"""Iteration and map index of a task mapped over two, in a loop of two."""


@pytest.fixture(autouse=True)
def _dags(airflow: Deployment) -> None:
    """Airflow has read the loops, too."""
    airflow.wait("the loops", lambda: airflow.has_dags(DAGS))


def key_of(run: Run | RunRecord) -> RunKey:
    """Which iteration and try started this run."""
    key = RunKey.parse(run.environment[RUN_KEY_VARIABLE])
    assert key is not None
    return key


def task_of(dag_run: DagRun, way: str, iteration: int, map_index: int = -1) -> Task:
    return dag_run.task(f"{way}.run", map_index, iteration)


def check_own(task: Task, run: RunRecord) -> None:
    """A green task whose XComs tell of this run, which succeeded untouched."""
    known = task.xcoms()
    assert task.state() == "success", str(task)
    assert known.keys() >= XCOMS_AT_START | XCOMS_AT_END
    assert (known["return_value"], known["run_key"]) == (run.id, run.environment[RUN_KEY_VARIABLE]), str(task)
    assert (known["status"], run.status, run.stop_requests) == ("succeeded", "ENGINE_SUCCEEDED", 0)
    assert task.links()[LINK] == known["run_url"]


def test_each_iteration_has_a_run(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """Three iterations are three runs, one after the other, each with its own key and in its own XComs."""
    jobs = {way: declare(f"looped {way}", SHORT) for way in WAYS}
    dag_run = airflow.trigger("looped", "one", "2026-11-20T00:00:00Z")
    dag_run.wait_for_success()
    for way in WAYS:
        runs = cml.ledger.runs(jobs[way].id)
        keys = [key_of(run) for run in runs]
        assert [key.loop_index for key in keys] == [0, 1, 2]
        assert [run.environment["ITERATION"] for run in runs] == ["0", "1", "2"]
        assert [key.try_number for key in keys] == [1, 1, 1]
        assert len({key.region for key in keys}) == 1
        assert "" not in {key.region for key in keys}
        for index, run in enumerate(runs):
            check_own(task_of(dag_run, way, index), run)


def test_retry_concerns_one_iteration(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """The run of one iteration fails once: its retry starts a second one, and the others have one each."""

    def life(run: Run) -> Life:
        key = key_of(run)
        return Life(running=1.0, ending="failed") if (key.loop_index, key.try_number) == (1, 1) else SHORT

    jobs = {way: declare(f"looped_failing {way}", life) for way in WAYS}
    dag_run = airflow.trigger("looped_failing", "one")
    dag_run.wait_for_success()
    for way in WAYS:
        runs = cml.ledger.runs(jobs[way].id)
        keys = [key_of(run) for run in runs]
        assert [(key.loop_index, key.try_number) for key in keys] == [(0, 1), (1, 1), (1, 2), (2, 1)]
        first, failed, second, last = runs
        assert (failed.status, failed.stop_requests) == ("ENGINE_FAILED", 0)
        for index, run in enumerate((first, second, last)):
            check_own(task_of(dag_run, way, index), run)
        assert [task_of(dag_run, way, index).record()["try_number"] for index in range(3)] == [1, 2, 1]


def test_killed_iteration_carries_on(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """The worker of the second iteration is killed while it waits: its retry carries on with its own run."""
    names = {way: f"looped_killed {way}" for way in WAYS}
    declare(names["deferred"], SHORT)
    job = declare(names["sync"], lambda run: UNTIL_TOLD if key_of(run).loop_index == 1 else SHORT)
    dag_run = airflow.trigger("looped_killed", "one")
    task = task_of(dag_run, "sync", 1)
    task.wait_until(lambda: len(cml.ledger.runs(job.id)) == 2, "the run of iteration 1")
    task.wait_until(lambda: "run_url" in task.xcoms(), "the task that waits")
    task.kill_process()
    first, second = cml.ledger.runs(job.id)
    carried_on = f"Carrying on with run {second.id}"
    task.wait_until(lambda: any(carried_on in line for line in task.log(2)), carried_on)
    cml.workspace.set_status(second.id, "succeeded")
    dag_run.wait_for_success()
    first, second = cml.ledger.runs(job.id)
    check_own(task_of(dag_run, "sync", 0), first)
    check_own(task, second)


def test_clears(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """A clear runs one iteration again, or makes all behind a gate anew: every one that runs again has a new run."""
    jobs = {way: declare(f"looped_cleared {way}", SHORT) for way in WAYS}
    dag_run = airflow.trigger("looped_cleared", "one", "2026-11-20T00:00:00Z")
    dag_run.wait_for_success()
    before = {way: cml.ledger.runs(jobs[way].id) for way in WAYS}
    region = {way: key_of(runs[0]).region for way, runs in before.items()}

    # One iteration alone.
    dag_run.clear_exactly(*(task_of(dag_run, way, 1) for way in WAYS))
    dag_run.wait_for_success()
    current = {}
    for way in WAYS:
        *old, new = cml.ledger.runs(jobs[way].id)
        assert [run.id for run in old] == [run.id for run in before[way]]
        assert (key_of(new).loop_index, key_of(new).region, key_of(new).try_number) == (1, region[way], 2)
        current[way] = [old[0], new, old[2]]
        for index, run in enumerate(current[way]):
            check_own(task_of(dag_run, way, index), run)

    # The gate behind the first: the first stays as it is.
    dag_run.clear_exactly(*(dag_run.task(f"{way}.__loop_gate", iteration=0) for way in WAYS))
    dag_run.wait_for_success()
    for way in WAYS:
        second, third = new = cml.ledger.runs(jobs[way].id)[4:]
        assert [(key_of(run).loop_index, key_of(run).try_number) for run in new] == [(1, 1), (2, 1)]
        assert key_of(second).region == key_of(third).region != region[way]
        for index, run in enumerate((before[way][0], second, third)):
            check_own(task_of(dag_run, way, index), run)

    # The whole dag run.
    dag_run.clear_all()
    dag_run.wait_for_success()
    for way in WAYS:
        runs = cml.ledger.runs(jobs[way].id)
        first, second, third = new = runs[6:]
        assert [(key_of(run).loop_index, key_of(run).try_number) for run in new] == [(0, 2), (1, 1), (2, 1)]
        assert key_of(first).region == region[way]
        assert key_of(second).region == key_of(third).region
        assert key_of(second).region not in {key_of(run).region for run in runs[:6]}
        for index, run in enumerate(new):
            check_own(task_of(dag_run, way, index), run)
        assert {(run.status, run.stop_requests) for run in runs} == {("ENGINE_SUCCEEDED", 0)}


def test_clear_ends_what_is_underway(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """Cleared while it waits, alone or with the whole dag run, an iteration has its run stopped, and then a new one."""

    def life(run: Run) -> Life:
        return UNTIL_TOLD if key_of(run).loop_index == 1 else SHORT

    jobs = {way: declare(f"looped_underway {way}", life) for way in WAYS}
    dag_run = airflow.trigger("looped_underway", "one", "2026-11-20T00:00:00Z")

    def wait_for_runs(count: int) -> None:
        """Of these the last is the second iteration's, which waits."""
        for way in WAYS:
            task = task_of(dag_run, way, 1)
            what = f"run {count} of {way}"
            task.wait_until(lambda way=way: len(cml.ledger.executed(jobs[way].id)) == count, what)
            task.wait_until(lambda task=task: "run_url" in task.xcoms(), f"a task that waits for {what}")
        task.wait_for("deferred")
        task.wait_until(lambda: task.triggerer() is not None, "a triggerer for the deferred one")

    wait_for_runs(2)
    dag_run.clear_exactly(*(task_of(dag_run, way, 1) for way in WAYS))
    wait_for_runs(3)
    dag_run.clear_all()
    wait_for_runs(5)
    for job in jobs.values():
        cml.workspace.set_status(cml.ledger.executed(job.id)[-1].id, "succeeded")
    dag_run.wait_for_success()
    for way in WAYS:
        runs = cml.ledger.executed(jobs[way].id)
        keys = [key_of(run) for run in runs]
        assert [(key.loop_index, key.try_number) for key in keys] == [(0, 1), (1, 1), (1, 2), (0, 2), (1, 1)]
        assert [key.region == keys[0].region for key in keys] == [True] * 4 + [False]
        # The next try may ask for it before what is left of this one has.
        assert [(run.status, run.stop_requests > 0) for run in runs[1:3]] == [("ENGINE_STOPPED", True)] * 2
        assert (runs[0].status, runs[0].stop_requests) == ("ENGINE_SUCCEEDED", 0)
        assert all(one.finished_at <= other.created_at for one, other in itertools.pairwise(runs))
        check_own(task_of(dag_run, way, 0), runs[3])
        check_own(task_of(dag_run, way, 1), runs[4])


def test_mapped_task_in_a_loop(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """Two iterations of two map indexes are four runs, one at a time."""
    jobs = {way: declare(f"looped_mapped {way}", SHORT) for way in WAYS}
    dag_run = airflow.trigger("looped_mapped", "one")
    dag_run.wait_for_success()
    for way in WAYS:
        runs = cml.ledger.executed(jobs[way].id)
        assert sorted((key_of(run).loop_index, key_of(run).map_index) for run in runs) == FOUR
        assert all(one.finished_at <= other.created_at for one, other in itertools.pairwise(runs))
        for run in runs:
            key = key_of(run)
            assert run.environment["MONTH"] == str(key.map_index + 1)
            check_own(task_of(dag_run, way, key.loop_index, key.map_index), run)
