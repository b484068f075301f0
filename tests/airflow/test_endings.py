"""What a user does to a task reaches its run once; what happens to a triggerer does not reach it at all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.airflow.conftest import SCENARIO, wait_for_look

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_cml.emulator import Emulator, Job
    from tests.airflow.deployment import Deployment

pytestmark = SCENARIO

FROZEN = 40.0
"""Seconds: longer than the 30 after which Airflow gives a triggerer's tasks to another one."""


def test_marked_and_cleared(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """Mark failed, mark success and clear, of a running and of a deferred task: its run gets one stop request."""
    names = [f"{way}_{state}" for way in ("fail", "succeed", "clear") for state in ("running", "deferred")]
    jobs = {name: declare(f"ended {name}") for name in names}
    dag_run = airflow.trigger("ended", "one")
    tasks = {name: dag_run.task(name) for name in names}
    for name, task in tasks.items():
        task.wait_for(name.partition("_")[2])
        task.wait_until(lambda task=task: "run_url" in task.xcoms(), f"the run of {name}")
    for name, task in tasks.items():
        if name.endswith("deferred"):
            task.wait_until(lambda task=task: task.triggerer() is not None, f"a triggerer for {name}")
    # Airflow cancels the stop of a deferred task's run again each second; here it takes longer.
    cml.fault("GetJobRun", "delay_answer", seconds=3.0, match=jobs["fail_deferred"].id)

    for name, task in tasks.items():
        match name.partition("_")[0]:
            case "fail":
                task.mark("failed")
            case "succeed":
                task.mark("success")
            case "clear":
                dag_run.clear(name)
    first = {name: cml.ledger.runs(job.id)[0].id for name, job in jobs.items()}
    for name, task in tasks.items():
        stopped = lambda name=name: cml.workspace.runs[first[name]].status == "ENGINE_STOPPED"  # noqa: E731
        task.wait_until(stopped, f"the end of the run of {name}")
    for name in ("clear_running", "clear_deferred"):
        job, task = jobs[name], tasks[name]
        task.wait_until(lambda job=job: len(cml.ledger.executed(job.id)) == 2, f"the second run of {name}")
        cml.workspace.set_status(cml.ledger.runs(job.id)[1].id, "succeeded")
        task.wait_for("success")

    time.sleep(10)  # whatever still wanted to stop a run has had its time
    for name, task in tasks.items():
        runs = cml.ledger.runs(jobs[name].id)
        # A second request would have met a run that was STOPPING or over.
        assert [1, 0][: len(runs)] == [run.stop_requests for run in runs], name
        assert len(runs) == (2 if name.startswith("clear") else 1)
        assert task.state() == ("failed" if name.startswith("fail") else "success")


def test_frozen_triggerer(airflow: Deployment, cml: Emulator, declare: Callable[..., Job]) -> None:
    """Of two triggerers the one that holds the task stands still for 40 seconds: nothing is stopped, all is green."""
    job = declare("frozen deferred")
    second = airflow.start_triggerer()
    dag_run = airflow.trigger("frozen", "one")
    task = dag_run.task("deferred")
    task.wait_for("deferred")
    task.wait_until(lambda: task.triggerer() is not None, "a triggerer for the task")
    (run,) = cml.ledger.runs(job.id)
    wait_for_look(cml, task, run)
    frozen, other = sorted(airflow.triggerers, key=lambda each: each.job_id != task.triggerer())
    frozen.freeze()
    begin = time.monotonic()
    task.wait_until(lambda: task.triggerer() == other.job_id, "the other triggerer for the task")
    time.sleep(max(begin + FROZEN - time.monotonic(), 0.0))
    frozen.thaw()
    time.sleep(15)  # its first heartbeat tells it that it has lost the task
    (run,) = cml.ledger.runs(job.id)
    assert (run.status, run.stop_requests) == ("ENGINE_RUNNING", 0)
    cml.workspace.set_status(run.id, "succeeded")
    dag_run.wait_for_success()
    airflow.kill_triggerer(second)
    (run,) = cml.ledger.runs(job.id)
    assert run.stop_requests == 0
