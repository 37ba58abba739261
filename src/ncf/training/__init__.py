"""Training: verified negatives, losses, fused steps, optimisers, checkpoints, and the loop around them."""

from ncf.training.loop import EvaluationPlan, FitResult, evaluator, fit
from ncf.training.trainer import Trainer

__all__ = ["EvaluationPlan", "FitResult", "Trainer", "evaluator", "fit"]
