"""Tasks that know secrets, on connections that each have a trouble of their own; and two that are killed.

A private literal in `default_args` would stand in clear in the serialized DAG.
"""

import os
from datetime import UTC, datetime

from airflow.sdk import DAG

from airflow_provider_cml.api import v1
from airflow_provider_cml.api.conversations import history
from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.sensors.cml import CmlJobRunSensor

# The troubles last: no need to wait ten minutes for their end. A task's process reads this file.
history.OUTAGE_PATIENCE = 30.0
v1.UNSENT_PATIENCE = 30.0

PROJECT = "alice/risk-analysis"
PRIVATE = {"TEMPLATED": "{{ conn.warehouse.password }}", "LITERAL": os.environ["SCENARIO_LITERAL"]}
AT_ONCE = ("refused", "broken", "untrusted", "silent", "lost")
LATER = ("refused_later", "broken_later")

with DAG(
    dag_id="troubled",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"retries": 0, "poll_interval": 5},
):
    for trouble in AT_ONCE + LATER:
        here = {"project": PROJECT, "cml_conn_id": f"troubled_{trouble}"}
        CmlRunJobOperator(task_id=f"{trouble}_sync", job="sync", private_environment=PRIVATE, **here)
        CmlRunJobOperator(
            task_id=f"{trouble}_deferred", job="deferred", private_environment=PRIVATE, deferrable=True, **here
        )
        CmlJobRunSensor(
            task_id=f"{trouble}_sensor",
            job="seen",
            since="2026-01-01T00:00:00Z",
            deferrable=True,
            poke_interval=5,
            timeout=10,
            **here,
        )
    for trouble in AT_ONCE:
        CmlRunJobOperator(
            task_id=f"{trouble}_v1",
            project=PROJECT,
            job="208",
            private_environment=PRIVATE,
            wait_for_completion=False,
            cml_conn_id=f"troubled_{trouble}_v1",
        )

with DAG(
    dag_id="killed_with_secrets",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"retries": 0, "project": PROJECT, "poll_interval": 5},
):
    CmlRunJobOperator(task_id="sync", job="killed with secrets sync", private_environment=PRIVATE)
    CmlRunJobOperator(
        task_id="deferred", job="killed with secrets deferred", private_environment=PRIVATE, deferrable=True
    )
