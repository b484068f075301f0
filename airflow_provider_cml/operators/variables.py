"""The variables a run is given, from all who have a say: the DAG's author, Airflow and OpenLineage.

The law: what the DAG's author gives wins, or is refused by name; nothing is overwritten in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.api.environment import risky_names
from airflow_provider_cml.lineage import parent_variables
from airflow_provider_cml.task_context import run_variables

if TYPE_CHECKING:
    from airflow_provider_cml.compat import Context
    from airflow_provider_cml.operators.cml import CmlRunJobOperator


def given_variables(task: CmlRunJobOperator, context: Context) -> dict[str, str]:
    """All variables of the run but its key. The private ones are rendered here, and known to nobody else."""
    private = task.render_template(task.private_environment, context, task.get_template_env())
    variables = run_variables(context, task.environment, private)
    variables |= parent_variables(task, context, variables)
    risky = risky_names(variables)
    if risky:
        task.log.warning("environment: overriding %s may break the run; CML sets it itself.", ", ".join(risky))
    return variables
