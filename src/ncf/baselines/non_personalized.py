"""Models that know nothing of a user: items by popularity or by what is trending, and a random order.

In: training interactions, or a seed. Out: scorers. Trending are the items that were used most in the last
`window_days` before the newest interaction; of equal ones the more popular comes first. The decision worth
knowing: a random score is a hash of (seed, user, item), so any pair has the same score in a candidate list,
in the whole catalogue and in any process, and nothing is stored.

Legend: B batch, C candidates, I items.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ncf.baselines.base import Baseline, Settings, uses
from ncf.data import Csr
from ncf.data.decay import recent_uses, seconds, seconds_a_unit
from ncf.runtime import Workers, random_bits, seed_of


class PopularityScorer:
    """Items by how often training used them, the same for every user: what any model must beat."""

    def __init__(self, popularity_I: npt.NDArray[Any]) -> None:
        """`popularity_I` [I] counts the training interactions of each item, or adds their weights."""
        self._scores_I = torch.from_numpy(popularity_I.astype(np.float32))

    @property
    def bytes(self) -> int:
        """One float32 an item."""
        return self._scores_I.nbytes

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:  # noqa: ARG002 - the Scorer protocol names it
        """Scores [B, C] of the items `items_BC`; the users do not matter."""
        return self._scores_I[items_BC]

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I] of every item for each of the users `users_B`."""
        return self._scores_I.expand(len(users_B), -1).clone()


class RandomScorer:
    """Scores in [0, 1), uniform, in steps of 2^-24 (all that float32 holds)."""

    bytes = 8

    def __init__(self, items: int, seed: int) -> None:
        """`items` is the size of the catalogue."""
        self._items = torch.arange(items)
        self._seed = seed_of(seed, "random baseline")

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Scores [B, C] of the items `items_BC` for each of the users `users_B`."""
        # Hashed twice: each user's own hash is the seed of that user's items.
        bits_BC = random_bits(random_bits(self._seed, users_B)[:, None], items_BC)
        return (bits_BC >> 40).bitwise_and_(2**24 - 1).float().mul_(2.0**-24)

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I] of every item for each of the users `users_B`."""
        return self(users_B, self._items.expand(len(users_B), -1))


def _fit_popularity(
    train: Csr, items: int, _settings: Settings, _seed: int, _workers: Workers
) -> PopularityScorer:
    return PopularityScorer(uses(train, items))


def _fit_trending(
    train: Csr, items: int, settings: Settings, _seed: int, _workers: Workers
) -> PopularityScorer:
    assert train.timestamps is not None, "Baseline.fit refuses data without times"
    steps = (
        settings["window_days"] * seconds("1d") / seconds_a_unit(train.timestamps, "the baseline trending")
    )
    lately = recent_uses(train.timestamps, train.columns, train.weights, items, steps)
    # Equal pairs get equal scores: the tie rule decides between them.
    ranks_I = np.unique(np.stack([lately, uses(train, items)]), axis=1, return_inverse=True)[1]
    return PopularityScorer(ranks_I.reshape(items))


def _fit_random(_train: Csr, items: int, _settings: Settings, seed: int, _workers: Workers) -> RandomScorer:
    return RandomScorer(items, seed)


POPULARITY = Baseline(
    "popularity", "Popularity", "Cremonesi, Koren & Turrin, RecSys'10 (TopPop)", fitting=_fit_popularity
)
TRENDING = Baseline(
    "trending",
    "Trending",
    "popularity within a window of time",
    fitting=_fit_trending,
    defaults={"window_days": 7.0},
    space={"window_days": {"low": 1.0, "high": 365.0, "log": True}},
    timed=True,
)
RANDOM = Baseline(
    "random", "Random", "a random order for each user: what guessing gets", fitting=_fit_random, seeded=True
)
