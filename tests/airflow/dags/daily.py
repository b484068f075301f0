"""A job for every day, to be backfilled."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_cml.operators.cml import CmlRunJobOperator

with DAG(
    dag_id="daily",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    end_date=datetime(2025, 12, 31, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
):
    CmlRunJobOperator(
        task_id="report",
        project="alice/risk-analysis",
        job="daily report",
        environment={
            "START_DATE": "{{ data_interval_start | ds }}",
            "END_DATE": "{{ data_interval_end | ds }}",
        },
        deferrable=True,
        poll_interval=10,
    )
