"""The fixtures of the Airflow side."""

from tests.airflow_side import connections, job, log, quick

__all__ = ["connections", "job", "log", "quick"]
