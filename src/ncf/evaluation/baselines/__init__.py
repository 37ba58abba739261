"""Models that any new one must beat, each behind one interface: fit to training interactions, then score.

In: the training interactions as `Csr`. Out: a `FittedBaseline`, which the protocol judges as it does a trained model. The
decision worth knowing: a model that knows a user by the history alone gives a user without one equal scores, which the
tie rule then judges as guessing; nothing falls back to popularity behind the reader's back.
"""

from ncf.evaluation.baselines.baseline import Baseline, FittedBaseline
from ncf.evaluation.baselines.bpr import BPR
from ncf.evaluation.baselines.chance import RANDOM
from ncf.evaluation.baselines.ease import EASE
from ncf.evaluation.baselines.ials import IALS
from ncf.evaluation.baselines.neighbours import ITEM_KNN, USER_KNN
from ncf.evaluation.baselines.popularity import POPULARITY

BASELINES: dict[str, Baseline] = {
    baseline.name: baseline for baseline in (POPULARITY, RANDOM, ITEM_KNN, USER_KNN, IALS, BPR, EASE)
}

__all__ = ["BASELINES", "Baseline", "FittedBaseline"]
