"""A job for every day, to be backfilled while its workspace is away; each day has a job of its own."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_cml.operators.cml import CmlRunJobOperator


def choose_where_to_wait(context: Any) -> None:
    """Even days wait in the triggerer, odd ones in the worker."""
    context["task"].deferrable = context["logical_date"].day % 2 == 0


with DAG(
    dag_id="outage",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    end_date=datetime(2025, 12, 31, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=60)},
):
    CmlRunJobOperator(
        task_id="report",
        project="alice/risk-analysis",
        job="outage {{ ds }}",
        cml_conn_id="outage",
        poll_interval=5,
        pre_execute=choose_where_to_wait,
    )
