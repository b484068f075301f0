"""Start a job through the legacy API, wait for it through API v2.

The legacy Jobs API can start a job and nothing else. So the operator does not wait; it leaves in XCom the key
that it put into the run's environment, and the sensor finds the run by this key, over a connection to API v2.
On `cml_v1` a job is named by the number in its URL, on `cml_default` by its name or id. The legacy API cannot
tell when a busy job is free again: a start that is refused beside an active run is sent again after a while.
"""

from airflow.sdk import DAG

from airflow_provider_cml.operators.cml import CmlRunJobOperator
from airflow_provider_cml.sensors.cml import CmlJobRunSensor

with DAG(dag_id="example_cml_v1", schedule=None, tags=["example", "cml"], doc_md=__doc__):
    start = CmlRunJobOperator(
        task_id="start",
        project="alice/risk-analysis",
        job="208",
        environment={"START_DATE": "2018-01-01", "END_DATE": "2018-07-01"},
        wait_for_completion=False,
        cml_conn_id="cml_v1",
    )
    wait = CmlJobRunSensor(
        task_id="wait",
        project="alice/risk-analysis",
        job="value at risk",
        run_key="{{ ti.xcom_pull(task_ids='start', key='run_key') }}",
        cml_conn_id="cml_default",
        poke_interval=10,
        timeout=3600,
    )
    start >> wait
