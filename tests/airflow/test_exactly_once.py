"""Between two clears a job runs to success once, whatever dies on the way; a clear runs it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.emulator import Life
from tests.airflow.conftest import SCENARIO, UNTIL_TOLD, XCOMS_AT_END, XCOMS_AT_START, wait_for_look

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job
    from airflow_provider_cml.emulator.ledger import RunRecord
    from tests.airflow.deployment import Deployment, Task

pytestmark = SCENARIO

ANSWER_HELD = 90.0
"""Seconds CML keeps the answer to a start back, so that the task can be killed before it comes."""


def wait_for_runs(cml: Emulator, task: Task, job: Job, count: int) -> RunRecord:
    """The newest of a job's executed runs, once there are that many."""
    task.wait_until(lambda: len(cml.ledger.executed(job.id)) >= count, f"run {count} of {job.name}")
    return cml.ledger.executed(job.id)[-1]


def test_killed_task_carries_on(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """SIGKILL between a start and its answer, or while waiting: the next try carries on with the one run."""
    names = ("while_starting", "while_starting_deferrable", "while_waiting")
    jobs = {name: declare(f"killed {name}") for name in names}
    for name in names[:2]:
        cml.fault("CreateJobRun", "delay_answer", seconds=ANSWER_HELD, match=jobs[name].id, count=1)
    dag_run = airflow.trigger("killed", "one")
    runs = {}
    for name in names:
        task = dag_run.task(name)
        runs[name] = wait_for_runs(cml, task, jobs[name], 1)
        if name == "while_waiting":
            task.wait_until(lambda task=task: "run_url" in task.xcoms(), "the task that waits")
        else:
            assert "return_value" not in task.xcoms(), "the answer came before the kill"
        task.kill_process()
    for name in names:
        task = dag_run.task(name)
        carried_on = f"Carrying on with run {runs[name].id}"
        task.wait_until(lambda task=task, text=carried_on: any(text in line for line in task.log(2)), carried_on)
        cml.workspace.set_status(runs[name].id, "succeeded")
    dag_run.wait_for_success()
    for name in names:
        (run,) = cml.ledger.runs(jobs[name].id)
        known = dag_run.task(name).xcoms()
        assert known.keys() >= XCOMS_AT_START | XCOMS_AT_END
        assert (known["return_value"], known["status"]) == (run.id, "succeeded")
        assert known["run_key"] == run.environment["AIRFLOW_RUN_KEY"]
        assert "try=1" in known["run_key"]
        assert run.stop_requests == 0


def test_killed_triggerer(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """A triggerer that dies stops no run; the next one goes on where it was."""
    job = declare("watched deferred")
    dag_run = airflow.trigger("watched", "killed")
    task = dag_run.task("deferred")
    task.wait_for("deferred")
    task.wait_until(lambda: task.triggerer() is not None, "a triggerer for the task")
    (run,) = cml.ledger.runs(job.id)
    wait_for_look(cml, task, run)
    (dead,) = [triggerer for triggerer in airflow.triggerers if triggerer.job_id == task.triggerer()]
    airflow.kill_triggerer(dead)
    airflow.start_triggerer()
    task.wait_until(lambda: task.triggerer() not in {None, dead.job_id}, "another triggerer for the task")
    wait_for_look(cml, task, run)
    cml.workspace.set_status(run.id, "succeeded")
    dag_run.wait_for_success()
    (run,) = cml.ledger.runs(job.id)
    assert run.stop_requests == 0
    assert task.xcoms()["return_value"] == run.id


def test_execution_timeout(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """The run is stopped, and only when it is over, 20 seconds later, does the second try start one that succeeds."""
    names = ("sync", "deferred")
    jobs = {name: declare(f"hurried {name}", [UNTIL_TOLD, Life(running=8.0)]) for name in names}
    for job in jobs.values():
        cml.fault("StopJobRun", "slow_stopping", seconds=20.0, match=job.id)
    dag_run = airflow.trigger("hurried", "one")
    dag_run.wait_for_success()
    for name in names:
        first, second = cml.ledger.runs(jobs[name].id)
        assert (first.status, first.stop_requests) == ("ENGINE_STOPPED", 1)
        assert (second.status, second.stop_requests) == ("ENGINE_SUCCEEDED", 0)
        assert first.finished_at <= second.created_at
        assert dag_run.task(name).record()["try_number"] == 2


def test_clear_runs_the_job_again(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """A succeeded, a failed, a deferred and a running task start anew; what is left of the old run is stopped first."""
    names = ("succeeded", "failed", "deferred", "running")
    jobs = {name: declare(f"cleared {name}") for name in names}
    dag_run = airflow.trigger("cleared", "one")
    first = {name: wait_for_runs(cml, dag_run.task(name), jobs[name], 1) for name in names}
    cml.workspace.set_status(first["succeeded"].id, "succeeded")
    cml.workspace.set_status(first["failed"].id, "failed")
    dag_run.task("succeeded").wait_for("success")
    dag_run.task("failed").wait_for("failed")
    dag_run.task("deferred").wait_for("deferred")
    running = dag_run.task("running")
    running.wait_until(lambda: "run_url" in running.xcoms(), "the task that waits")

    dag_run.clear(*names)
    for name in names:
        run = wait_for_runs(cml, dag_run.task(name), jobs[name], 2)
        cml.workspace.set_status(run.id, "succeeded")
    dag_run.wait_for_success()
    for name in names:
        old, new = cml.ledger.runs(jobs[name].id)
        is_left = name in ("deferred", "running")
        assert old.id == first[name].id
        assert old.status == ("ENGINE_STOPPED" if is_left else f"ENGINE_{name.upper()}")
        assert old.stop_requests == (1 if is_left else 0)
        assert old.finished_at <= new.created_at
        assert (new.status, new.stop_requests) == ("ENGINE_SUCCEEDED", 0)
        assert dag_run.task(name).xcoms()["return_value"] == new.id


def test_dag_run_made_again(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """A dag run that is deleted and created again under its old id runs the job again."""
    job = declare("again sync", Life(running=1.0))
    returned = []
    for _ in range(2):
        dag_run = airflow.trigger("again", "same", "2026-11-20T00:00:00Z")
        dag_run.wait_for_success()
        returned.append(dag_run.task("sync").xcoms()["return_value"])
        dag_run.delete()
    runs = cml.ledger.runs(job.id)
    assert [run.id for run in runs] == returned
    assert [run.status for run in runs] == ["ENGINE_SUCCEEDED"] * 2
