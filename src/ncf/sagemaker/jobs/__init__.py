"""Training, tuning and transform jobs: requests, start, logs, results."""
