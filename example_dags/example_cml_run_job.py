"""Run one CML job, with variables of its own, and wait for its end.

The job is found by its name in the project `alice/risk-analysis`. What is passed as `environment` overrides
the variables of project and job, for this run alone; the form behind *Trigger* asks for the days.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_provider_cml.operators.cml import CmlRunJobOperator

with DAG(
    dag_id="example_cml_run_job",
    schedule=None,
    params={
        "start_date": Param("2018-01-01", type="string", format="date", title="First day"),
        "end_date": Param("2019-01-01", type="string", format="date", title="Day after the last"),
    },
    tags=["example", "cml"],
    doc_md=__doc__,
):
    CmlRunJobOperator(
        task_id="value_at_risk",
        project="alice/risk-analysis",
        job="value at risk",
        environment={
            "START_DATE": "{{ params.start_date }}",
            "END_DATE": "{{ params.end_date }}",
            "CONFIDENCE": "0.95,0.99",
        },
        arguments="--window 250 --position 1000000",
        poll_interval=10,
        retries=1,
        retry_delay=timedelta(seconds=30),
    )
