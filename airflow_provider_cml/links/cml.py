"""The button that leads from a task to its run in CML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_cml.compat import BaseOperatorLink, xcom_value

if TYPE_CHECKING:
    from airflow_provider_cml.compat import BaseOperator, TaskInstanceKey

RUN_URL = "run_url"
"""The XCom the operator pushes right after the start, so that the button works while the run is active."""


class CmlJobRunLink(BaseOperatorLink):
    """To the project's jobs in CML: API v2 gives no address of a run, and not the number in a job's."""

    name = "Cloudera Machine Learning"

    @property
    def xcom_key(self) -> str:
        """Where Airflow 3 finds the address without asking this class."""
        return RUN_URL

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address; "" as long as there is none."""
        del operator  # the address is an XCom of the task instance
        return xcom_value(ti_key, RUN_URL)
