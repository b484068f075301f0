"""Task groups that are looped over, in the worker and deferred; only where Airflow has loops (3.4).

Each group has one task and a job of its own, named after DAG and group.
"""

from datetime import UTC, datetime, timedelta

from airflow import __version__
from airflow.sdk import DAG, task_group
from packaging.version import Version

from airflow_provider_cml.operators.cml import CmlRunJobOperator

WAYS = {"sync": {"deferrable": False}, "deferred": {"deferrable": True}}


def loop(group_id: str, max_iterations: int, months: tuple[int, ...] = (), **settings: object) -> None:
    """Loop over one task, mapped over the months where there are any."""
    settings |= {
        "task_id": "run",
        "project": "alice/risk-analysis",
        "job": f"{{{{ dag.dag_id }}}} {group_id}",
        "poll_interval": 5,
    }

    @task_group(group_id=group_id)
    def body() -> None:
        if months:
            CmlRunJobOperator.partial(**settings).expand(environment=[{"MONTH": month} for month in months])
        else:
            CmlRunJobOperator(**settings, environment={"ITERATION": "{{ loop.index }}"})

    body.loop(max_iterations=max_iterations)


if Version(__version__) >= Version("3.4.0b1"):
    for dag_id, iterations, months in (
        ("looped", 3, ()),
        ("looped_failing", 3, ()),
        ("looped_killed", 2, ()),
        ("looped_cleared", 3, ()),
        ("looped_underway", 2, ()),
        ("looped_mapped", 2, (1, 2)),
    ):
        with DAG(
            dag_id=dag_id,
            schedule=None,
            start_date=datetime(2026, 1, 1, tzinfo=UTC),
            default_args={"retries": 1, "retry_delay": timedelta(0)},
        ):
            for group_id, way in WAYS.items():
                loop(group_id, iterations, months, **way)
