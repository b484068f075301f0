"""Jobs for every day, half of them waited for by workers, half by triggerers."""

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_cml.operators.cml import CmlRunJobOperator

with DAG(
    dag_id="chaos",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    end_date=datetime(2025, 12, 31, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 12, "retry_delay": timedelta(seconds=5)},
):
    for number in range(1, int(os.environ["CHAOS_JOBS"]) + 1):
        CmlRunJobOperator(
            task_id=f"report_{number}",
            project="alice/risk-analysis",
            job=f"report {number}",
            environment={"DAY": "{{ ds }}"},
            deferrable=number % 2 == 0,
            poll_interval=10,
        )
