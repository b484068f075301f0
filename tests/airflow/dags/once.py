"""Tasks to be disturbed: killed, cleared, marked, hurried. Each has a job of its own, named after both."""

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


def scenario(dag_id: str, **defaults: object) -> DAG:
    return DAG(
        dag_id=dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        default_args={"retries": 1, "retry_delay": timedelta(seconds=1), **defaults},
    )


with scenario("killed", retries=2):
    run_job("while_starting")
    run_job("while_starting_deferrable", deferrable=True)
    run_job("while_waiting")

for dag_id in ("watched", "frozen"):
    with scenario(dag_id):
        run_job("deferred", deferrable=True)

with scenario("hurried", execution_timeout=timedelta(seconds=30)):
    run_job("sync")
    run_job("deferred", deferrable=True)

with scenario("cleared"):
    run_job("succeeded")
    run_job("failed", retries=0)
    run_job("deferred", deferrable=True)
    run_job("running")

with scenario("again"):
    run_job("sync")

with scenario("ended"):
    for way in ("fail", "succeed", "clear"):
        run_job(f"{way}_running")
        run_job(f"{way}_deferred", deferrable=True)
