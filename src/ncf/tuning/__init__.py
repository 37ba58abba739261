"""The search for good settings: a space of settings, a study of trials, and a page that shows it.

Only this wing imports Optuna, and only when a study starts; SageMaker's tuner reads the same `Space` without
it.
"""

from ncf.tuning.space import Parameter, Space

__all__ = ["Parameter", "Space"]
