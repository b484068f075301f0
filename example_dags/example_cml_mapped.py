"""Run one job several times with different variables: one mapped task per year.

CML lets one run of a job be active at a time. The mapped tasks start together and take turns by themselves.
"""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_cml.operators.cml import CmlRunJobOperator

YEARS = (2007, 2008, 2009)

with DAG(dag_id="example_cml_mapped", schedule=None, tags=["example", "cml"], doc_md=__doc__):
    CmlRunJobOperator.partial(
        task_id="value_at_risk",
        project="alice/risk-analysis",
        job="value at risk",
        deferrable=True,
        poll_interval=10,
        retries=1,
        retry_delay=timedelta(seconds=30),
    ).expand(
        environment=[{"START_DATE": f"{year}-01-01", "END_DATE": f"{year + 1}-01-01"} for year in YEARS],
    )
