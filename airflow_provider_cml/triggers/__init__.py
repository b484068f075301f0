"""Airflow's triggers for Cloudera Machine Learning."""
