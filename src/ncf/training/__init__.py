"""Training: verified negatives, losses, fused steps, optimisers, checkpoints, and the loop around them."""

from ncf.training.fitting import Fit, Judging, fit
from ncf.training.trainer import Trainer

__all__ = ["Fit", "Judging", "Trainer", "fit"]
