"""An `async` task that talks to CML by itself."""

from datetime import UTC, datetime

from airflow.sdk import DAG, task

from airflow_provider_cml.api.job_fields import JobFields
from airflow_provider_cml.hooks.cml import CmlHook

JOB = ("alice/risk-analysis", "asked awaited")


@task(retries=0)
async def awaited() -> list[str]:
    """Change a job, run it, and tell how the run ended."""
    async with CmlHook() as hook:
        changed = await hook.aupdate_job(*JOB, JobFields(timeout=60, environment={"DAYS": 7}))
        run = await hook.acreate_job_run(*JOB, environment={"DAY": "2026-11-20"})
        run = await hook.await_for_job_run(*JOB, run.id, poll_interval=1)
        return [changed.name, str(changed.timeout), run.id, str(run.status)]


with DAG(dag_id="asked", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    awaited()
