"""Tasks that tell others of their runs: assets, OpenLineage, and whoever reads why one failed."""

from datetime import UTC, datetime

from airflow.sdk import DAG, Asset

from airflow_provider_cml.operators.cml import CmlRunJobOperator

NAMES = {"project": "alice/risk-analysis", "poll_interval": 5}

with DAG(dag_id="told", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), default_args={"retries": 0}):
    CmlRunJobOperator(
        task_id="deferred",
        job="told deferred",
        environment={"DAY": "{{ ds }}"},
        deferrable=True,
        outlets=[Asset("told_deferred")],
        **NAMES,
    )
    CmlRunJobOperator.partial(task_id="mapped", job="told mapped", outlets=[Asset("told_mapped")], **NAMES).expand(
        environment=[{"YEAR": "2007"}, {"YEAR": "2008"}]
    )
    CmlRunJobOperator(task_id="failing", job="told failing", outlets=[Asset("told_failing")], **NAMES)
