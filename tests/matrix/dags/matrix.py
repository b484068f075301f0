"""Tasks to be cleared, each with a job of its own, and one whose dag run is made twice."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_cml.operators.cml import CmlRunJobOperator


def run_job(task_id: str, **settings: object) -> None:
    CmlRunJobOperator(
        task_id=task_id,
        project="alice/risk-analysis",
        job=f"{{{{ dag.dag_id }}}} {task_id}",
        poll_interval=5,
        **settings,
    )


def scenario(dag_id: str) -> DAG:
    return DAG(
        dag_id=dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args={"retries": 1, "retry_delay": timedelta(seconds=1)},
    )


with scenario("cleared"):
    run_job("succeeded")
    run_job("failed", retries=0)
    run_job("deferred", deferrable=True)
    run_job("running")
    run_job("running_last", retries=0)
    run_job("running_unstopped", cancel_on_kill=False)

for name in ("again", "twice"):
    with scenario(name):
        run_job("sync")
