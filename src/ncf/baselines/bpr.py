"""BPR: matrix factorisation with item biases that ranks used items above unused ones (Rendle et al., UAI'09).

In: training interactions. Out: `Factors`, fitted by the library `implicit`. The decision worth knowing: the
fit uses one thread on any machine, because the library's threads race for rows and no two fits would be
alike.

Settings:
- `factors`: width of a vector.
- `learning_rate`: step of plain gradient descent; the fit diverges where it is too large.
- `l2`: weight of the squared vectors and biases in the loss.
- `iterations`: passes over the interactions.
"""

import numpy as np
import torch

from ncf.baselines.base import Baseline, Settings, sparse_rows
from ncf.baselines.products import Factors
from ncf.data import Csr
from ncf.errors import ConfigError, imported
from ncf.runtime import Workers, seed_of


def _fit(train: Csr, items: int, settings: Settings, seed: int, _workers: Workers) -> Factors:
    """Raises `ConfigError` where the fit diverges."""
    library, errors = (imported("evaluate", f"implicit.{name}") for name in ("cpu.bpr", "recommender_base"))
    model = library.BayesianPersonalizedRanking(
        factors=settings["factors"],
        learning_rate=settings["learning_rate"],
        regularization=settings["l2"],
        iterations=settings["iterations"],
        num_threads=1,
        random_state=seed_of(seed, "bpr"),
    )
    try:
        model.fit(sparse_rows(train, items), show_progress=False)
    except errors.ModelFitError:
        raise ConfigError(
            f"BPR diverged with learning_rate = {settings['learning_rate']:g}: lower it."
        ) from None
    users, item_vectors = np.array(model.user_factors), np.array(model.item_factors)
    # A user without interactions keeps the random vector that it began with; zero gives equal scores.
    users[train.counts == 0] = 0.0
    return Factors(torch.from_numpy(users), torch.from_numpy(item_vectors))


BPR = Baseline(
    "bpr",
    "BPR",
    "Rendle et al., UAI'09",
    fitting=_fit,
    defaults={"factors": 64, "learning_rate": 0.01, "l2": 0.01, "iterations": 100},
    space={
        "factors": {"values": [32, 64, 128]},
        "learning_rate": {"low": 0.003, "high": 0.1, "log": True},
        "l2": {"low": 0.001, "high": 0.1, "log": True},
        "iterations": {"low": 25, "high": 150, "step": 25},
    },
    seeded=True,
    weighs=False,
    needs=("implicit",),
)
