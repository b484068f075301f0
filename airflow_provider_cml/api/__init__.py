"""Cloudera Machine Learning's REST APIs, and nothing of Airflow: no module below this one imports it."""
