"""The smallest job: it says which day it is for, and which task of Airflow has started it.

Reads from its environment END_DATE, given by the DAG, and the variables every run gets from Airflow.
"""

import os

print(f"Hello. This run is for {os.environ['END_DATE']}.")
print(f"Airflow's task {os.environ['AIRFLOW_CTX_TASK_ID']} of DAG {os.environ['AIRFLOW_CTX_DAG_ID']} started it.")
