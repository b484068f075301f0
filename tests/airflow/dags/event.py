"""DAGs that the ends of a job's runs start: one watcher, two DAGs."""

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_cml.triggers.event import CmlJobRunEventTrigger

endings = Asset(
    "watched endings",
    watchers=[
        AssetWatcher(
            "watched job",
            trigger=CmlJobRunEventTrigger(project="alice/risk-analysis", job="watched endings", poll_interval=3),
        )
    ],
)

for dag_id in ("ending_first", "ending_second"):
    with DAG(dag_id=dag_id, schedule=[endings], start_date=datetime(2026, 1, 1, tzinfo=UTC)):

        @task
        def tell(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
            return [event.extra["payload"] for event in triggering_asset_events[endings]]

        tell()
