"""Airflow's sensors for Cloudera Machine Learning."""
