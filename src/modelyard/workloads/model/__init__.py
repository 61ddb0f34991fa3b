"""Any MLflow model as a workload: no code of the user's is needed."""
