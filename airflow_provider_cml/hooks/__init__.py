"""Airflow's hooks for Cloudera Machine Learning."""
