"""The search for good settings: a space of settings, a study of trials, a page that shows it.

Optuna is imported in this wing alone, when a study begins; SageMaker's tuner reads the same `Space` without it.
"""

from ncf.tuning.space import Parameter, Space

__all__ = ["Parameter", "Space"]
