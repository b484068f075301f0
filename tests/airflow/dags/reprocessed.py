"""Tasks of a date that is over, to be run again; each has a job of its own."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_cml.operators.cml import CmlRunJobOperator

with DAG(
    dag_id="reprocessed",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    end_date=datetime(2025, 12, 31, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=1)},
):
    for task_id, deferrable in {"sync": False, "deferred": True}.items():
        CmlRunJobOperator(
            task_id=task_id,
            project="alice/risk-analysis",
            job=f"reprocessed {task_id}",
            deferrable=deferrable,
            poll_interval=5,
        )
