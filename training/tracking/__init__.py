"""What was trained is told to MLflow: a run for each version, and a registry that mirrors a bucket of models.

The bucket is the truth, and MLflow may be away or not installed at all: training goes on (docs/decisions/0012).
`mlflow_store.py` alone imports mlflow, and only when something is to be told.
"""
