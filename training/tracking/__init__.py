"""Optional tracking in MLflow: a run for each version, and a registry that mirrors a bucket of models.

The bucket is the source of truth, and training goes on without MLflow (docs/decisions/0012). Only `mlflow_store.py`
imports mlflow, and only when it is first used.
"""
