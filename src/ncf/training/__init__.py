"""Training: verified negatives, losses, fused steps, optimisers, checkpoints, and the loop around them."""

from ncf.training.trainer import Fit, Trainer, fit

__all__ = ["Fit", "Trainer", "fit"]
