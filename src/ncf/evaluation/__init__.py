"""Evaluation: the rank of a held-out item among its candidates, with confidence intervals and paired
comparisons.
"""

from ncf.evaluation.held_out import evaluate_held_out
from ncf.evaluation.ranking import EvaluationResult, evaluate_full, evaluate_sampled
from ncf.evaluation.significance import Comparison, compare

__all__ = [
    "Comparison",
    "EvaluationResult",
    "compare",
    "evaluate_full",
    "evaluate_held_out",
    "evaluate_sampled",
]
