"""Models that any new one must beat, each behind one interface: fit to training interactions, then score.

In: the training interactions as `Csr`. Out: a `FittedBaseline`, which is evaluated like a trained model. The
decision worth knowing: a model that knows users by their history alone gives equal scores to a user without
one. The tie rule then counts that as guessing; no model silently falls back to popularity.
"""

from ncf.baselines.base import Baseline, FittedBaseline
from ncf.baselines.bpr import BPR
from ncf.baselines.ease import EASE
from ncf.baselines.ials import IALS
from ncf.baselines.knn import ITEM_KNN, USER_KNN
from ncf.baselines.non_personalized import POPULARITY, RANDOM, TRENDING

_ALL = (POPULARITY, TRENDING, RANDOM, ITEM_KNN, USER_KNN, IALS, BPR, EASE)
BASELINES: dict[str, Baseline] = {baseline.name: baseline for baseline in _ALL}

__all__ = ["BASELINES", "Baseline", "FittedBaseline"]
