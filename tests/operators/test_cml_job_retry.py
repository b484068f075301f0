"""CML's own Job Retry beside Airflow's retries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_cml.emulator import Life
from airflow_provider_cml.failures import CmlRunFailedError
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from tests.airflow_side import context_of, run_task

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Job, Project, Workspace

RETRIED = {"retry_enabled": True, "max_retry": 2, "retry_for_script_failure": True}


def operator(job: Job, **arguments: Any) -> CmlRunJobOperator:
    return CmlRunJobOperator(
        task_id="value_at_risk", project=job.project_id, job=job.id, **{"poll_interval": 0.05, **arguments}
    )


@pytest.mark.parametrize(
    ("retry_enabled", "retries", "warning"),
    [
        (True, 1, "use one of them"),
        (True, 0, "the task fails while CML goes on to run it again"),
        (False, 1, ""),
        (False, 0, ""),
    ],
)
def test_job_retry_is_warned_of_once(
    connections: Emulator,
    workspace: Workspace,
    project: Project,
    log: pytest.LogCaptureFixture,
    retry_enabled: bool,
    retries: int,
    warning: str,
) -> None:
    """A job that CML retries is warned of once, whether Airflow retries the task or not."""
    job = workspace.add_job(project, "both", number=9, life=Life(running=0.05), retry_enabled=retry_enabled)

    run_task(lambda: operator(job, retries=retries), context_of(operator(job, retries=retries)))

    warned = [record.getMessage() for record in log.records if "Job Retry" in record.getMessage()]
    assert len(warned) == retry_enabled
    assert all(warning in text for text in warned)


def test_task_that_does_not_wait_is_not_warned(
    connections: Emulator, workspace: Workspace, project: Project, log: pytest.LogCaptureFixture
) -> None:
    """Without retries it ends before its run does, so no request is spent on the job."""
    job = workspace.add_job(project, "both", number=9, **RETRIED)

    run_task(lambda: operator(job, wait_for_completion=False), context_of(operator(job)))

    assert "Job Retry" not in log.text
    assert connections.ledger.count("GetJob") == 0


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_the_first_run_decides(connections: Emulator, workspace: Workspace, project: Project, deferrable: bool) -> None:
    """A run that fails fails its try, even where CML runs the job again."""
    lives = [Life(running=0.1, ending="failed"), Life(running=0.1)]
    job = workspace.add_job(project, "retried", number=9, life=lives, **RETRIED)

    with pytest.raises(CmlRunFailedError) as caught:
        run_task(lambda: operator(job, deferrable=deferrable), context_of(operator(job)))

    assert caught.value.run_id == connections.ledger.executed(job.id)[0].id


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_next_try_adopts_the_run_of_job_retry(
    connections: Emulator, workspace: Workspace, project: Project, deferrable: bool
) -> None:
    """CML has run the job again, with the task's key, after the first try's run failed: nothing is started."""
    lives = [Life(running=0.1, ending="failed"), Life(running=1.0)]
    job = workspace.add_job(project, "retried", number=9, life=lives, **RETRIED)
    given = {"retries": 1, "deferrable": deferrable}
    with pytest.raises(CmlRunFailedError):
        run_task(lambda: operator(job, **given), context_of(operator(job, **given)))
    deadline = time.monotonic() + 20
    while len(connections.ledger.executed(job.id)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)

    ran = run_task(lambda: operator(job, **given), context_of(operator(job, **given), try_number=2))

    assert ran.value == connections.ledger.executed(job.id)[1].id
    assert connections.ledger.count("CreateJobRun") == 1
