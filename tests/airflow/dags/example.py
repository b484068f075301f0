"""The example DAG with which Airflow's users begin, for the browser. Airflow finds what is made here by itself."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[3] / "example_dags" / "example_cml_run_job.py"))
