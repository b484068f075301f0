"""CML's own Job Retry beside Airflow's retries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_cml.emulator import Life
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from tests.airflow_side import context_of, run_task

if TYPE_CHECKING:
    from airflow_provider_cml.emulator import Emulator, Project, Workspace


@pytest.mark.parametrize(("retry_enabled", "retries", "warnings"), [(True, 1, 1), (True, 0, 0), (False, 1, 0)])
def test_two_engines_of_retries_are_warned_of_once(
    connections: Emulator,
    workspace: Workspace,
    project: Project,
    log: pytest.LogCaptureFixture,
    retry_enabled: bool,
    retries: int,
    warnings: int,
) -> None:
    """A job that CML retries and a task that Airflow retries are told of once; one of them alone is not."""
    workspace.add_job(project, "both", number=9, life=Life(running=0.05), retry_enabled=retry_enabled)

    def make() -> CmlRunJobOperator:
        return CmlRunJobOperator(
            task_id="value_at_risk", project=project.id, job="both", retries=retries, poll_interval=1
        )

    run_task(make, context_of(make()))

    assert sum("Job Retry" in record.getMessage() for record in log.records) == warnings
