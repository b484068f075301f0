"""Every way to run a job and to wait for a run, side by side."""

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.sensors.cml import CmlJobRunSensor

PRIVATE = {"TEMPLATED": "{{ conn.warehouse.password }}", "LITERAL": os.environ["SCENARIO_LITERAL"]}

with DAG(
    dag_id="everyday",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"retries": 1, "retry_delay": timedelta(seconds=5)},
):
    CmlRunJobOperator(
        task_id="deferred",
        project="Risk Analysis",
        job="everyday deferred",
        environment={"DAY": "{{ ds }}", "SUM": "{{ 40 + 2 }}", "COUNT": 3, "FLAG": True, "MARK": "told-to-everybody"},
        private_environment=PRIVATE,
        arguments="--window {{ 200 + 50 }}",
        deferrable=True,
        poll_interval=5,
    )
    CmlRunJobOperator(
        task_id="sync",
        project="alice/risk-analysis",
        job="everyday sync",
        environment={"DAY": "{{ ds }}"},
        private_environment=PRIVATE,
        poll_interval=5,
    )
    CmlRunJobOperator.partial(
        task_id="mapped",
        project="alice/risk-analysis",
        job="everyday mapped",
        # A literal would stand in clear in the serialized DAG.
        private_environment={"TEMPLATED": PRIVATE["TEMPLATED"]},
        deferrable=True,
        poll_interval=5,
    ).expand(environment=[{"YEAR": str(year)} for year in (2007, 2008, 2009)])

    start = CmlRunJobOperator(
        task_id="start",
        project="alice/risk-analysis",
        job="208",
        environment={"DAY": "{{ ds }}"},
        private_environment=PRIVATE,
        wait_for_completion=False,
        cml_conn_id="cml_v1",
        retries=0,
    )
    for task_id, waits in {"wait_deferred": {"deferrable": True}, "wait_rescheduled": {"mode": "reschedule"}}.items():
        start >> CmlJobRunSensor(
            task_id=task_id,
            project="alice/risk-analysis",
            job="everyday v1",
            run_key="{{ ti.xcom_pull(task_ids='start', key='run_key') }}",
            poke_interval=10,
            timeout=600,
            # Airflow 3.3 fails a try whose task is queued again before its executor's report of the last look has been
            # read. Looks that are seconds apart meet it now and then, and on a busy machine more than once.
            retries=5,
            **waits,
        )
