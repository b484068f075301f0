"""The fixtures of the Airflow side."""

from tests.airflow_side import cml, connections, job, log, project, quick, workspace

__all__ = ["cml", "connections", "job", "log", "project", "quick", "workspace"]
