"""Judging: where the held-out item stands among its candidates, with which certainty, and against which other model."""

from ncf.evaluation.ranking import EvaluationResult, evaluate_full, evaluate_sampled
from ncf.evaluation.significance import Comparison, compare

__all__ = ["Comparison", "EvaluationResult", "compare", "evaluate_full", "evaluate_sampled"]
