"""What a new model must reach to be registered. By itself, so that commands can say it without loading torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PromotionCriteria:
    """What the new model must reach."""

    minimum_gain: float = 0.0
    """NDCG@10 must rise by more than this."""
    alpha: float = 0.05
    """The paired test's p-value must be below this."""
    floor: float = 0.0
    """NDCG@10 must be at least this, whatever the rival does."""
