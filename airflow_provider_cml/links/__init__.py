"""Airflow's links for Cloudera Machine Learning."""
