"""Pipelines and the model registry: definition, executions, schedules."""
