"""What the assets a task declares as its outlets are told about its run.

Airflow makes an event of every declared asset when the task succeeds; the event's extra is for whoever is woken by it.

The law: named facts only, never a variable of the run; and what the DAG's author has put there stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_cml import events
from airflow_provider_cml.compat import is_asset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_cml.api.models import JobRun
    from airflow_provider_cml.compat import BaseOperator, Context


def run_facts(watched: events.Watched, run: JobRun) -> dict[str, str]:
    """What an event tells of a run: its ids, key, status, link and times, under the names they have as XComs."""
    facts = {
        "run_id": run.id,
        "status": str(run.status),
        "run_url": watched.run_url,
        "run_key": run.run_key or watched.run_key,
        "project_id": watched.project_id,
        "job_id": watched.job_id,
        **events.run_times(run),
    }
    return {name: value for name, value in facts.items() if value}


def tell_outlets(task: BaseOperator, context: Context, facts: Mapping[str, str]) -> None:
    """Add `facts` to the event of each asset among the task's outlets.

    An alias gets none: its events are those that the DAG's author adds to it. Whatever Airflow makes of an outlet, the
    run has succeeded, and the task with it.
    """
    for outlet in filter(is_asset, task.outlets or ()):
        try:
            extra: dict[str, Any] = context["outlet_events"][outlet].extra
        except Exception as error:  # noqa: BLE001 - a reference to an asset is looked up in Airflow's database
            task.log.warning("The event of %r will not tell which run it was: %s", outlet, error)
        else:
            extra.update({name: value for name, value in facts.items() if name not in extra})
