"""Sensors that follow what CML starts by itself: a run since the dag run began, and the child jobs below it."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_cml.sensors.cml import CmlJobRunSensor

with DAG(
    dag_id="pipeline",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    # Airflow 3.3 fails a try whose task is queued again before its executor's report of the last look has been read.
    # Looks that are seconds apart meet it now and then, and on a busy machine more than once.
    default_args={"retries": 5, "retry_delay": timedelta(seconds=5)},
):
    for task_id, waits in {"deferred": {"deferrable": True}, "rescheduled": {"mode": "reschedule"}}.items():
        CmlJobRunSensor(
            task_id=task_id,
            project="alice/risk-analysis",
            job="pipeline load",
            since="{{ dag_run.run_after }}",
            follow_children=True,
            poke_interval=10,
            timeout=600,
            **waits,
        )
