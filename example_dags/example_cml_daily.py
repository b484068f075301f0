"""Run a CML job for every trading day: the DAG to backfill.

Each run hands its own data interval to the job as START_DATE and END_DATE (excluded). This takes a timetable
that *has* intervals: with a plain cron string Airflow 3 gives a run a single instant, and both dates would be
the same day. `0 0 * * 1-5` cuts the week at the midnight before each weekday, so that every interval holds
one trading day, and the last of a week reaches over the weekend.

A year at once, with never more than one run of the job active:

    airflow backfill create --dag-id example_cml_daily --from-date 2018-01-01 --to-date 2018-12-31

The tasks are deferred: while they wait for CML, or for their turn, they hold no worker slot.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_cml.operators.cml import CmlRunJobOperator

with DAG(
    dag_id="example_cml_daily",
    schedule=CronDataIntervalTimetable("0 0 * * 1-5", timezone="UTC"),
    start_date=datetime(2000, 1, 3, tzinfo=UTC),
    end_date=datetime(2018, 12, 31, tzinfo=UTC),  # the example's prices end here; a DAG of today has no end
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["example", "cml"],
    doc_md=__doc__,
):
    CmlRunJobOperator(
        task_id="value_at_risk",
        project="alice/risk-analysis",
        job="value at risk",
        environment={
            "START_DATE": "{{ data_interval_start | ds }}",
            "END_DATE": "{{ data_interval_end | ds }}",
        },
        deferrable=True,
        poll_interval=10,
    )
