"""What a new model must reach to be registered; apart, so that commands need not load torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PromotionCriteria:
    """What the new model must reach; all three must hold."""

    minimum_gain: float = 0.0
    """NDCG@10 must rise by more than this."""
    alpha: float = 0.05
    """The paired test's p-value must be below this."""
    floor: float = 0.0
    """NDCG@10 must be at least this, whatever the rival reaches."""
