"""Where a run is reported: the console, its own files, MLflow."""
