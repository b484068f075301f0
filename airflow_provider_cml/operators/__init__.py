"""Airflow's operators for Cloudera Machine Learning."""
