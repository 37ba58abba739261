"""The floor: a random order of the catalogue for each user.

In: a seed. Out: a scorer. The decision worth knowing: a score is a hash of (seed, user, item), so any pair has the same score
in a candidate list, in the whole catalogue and in any process, and nothing is stored. The hash is the finaliser of
SplitMix64 (Steele, Lea & Flood, OOPSLA'14), once for the user and once for the item.

Legend: B batch, C candidates, I items.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ncf.baselines.base import Baseline, Settings
from ncf.data import Csr
from ncf.evaluation.cross_dataset import ByPopularity
from ncf.runtime import Workers, seed_of


class PopularityScorer(ByPopularity):
    """`ByPopularity` with its size."""

    @property
    def bytes(self) -> int:
        """One float32 an item."""
        return len(self._popularity) * torch.float32.itemsize


def _fit(train: Csr, items: int, settings: Settings, seed: int, workers: Workers) -> PopularityScorer:  # noqa: ARG001 - all fits are called so
    return PopularityScorer(np.bincount(train.columns, minlength=items))


POPULARITY = Baseline(
    "popularity", "Popularity", "Cremonesi, Koren & Turrin, RecSys'10 (TopPop)", fitting=_fit
)


Bits = npt.NDArray[np.uint64]
_STEP = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))


class RandomRanker:
    """Scores in [0, 1), uniform, in steps of 2^-24."""

    bytes = 8

    def __init__(self, items: int, seed: int) -> None:
        self._items = torch.arange(items)
        self._seed = np.array([seed_of(seed, "random baseline")], np.uint64)

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Scores [B, C]."""
        of_users = _mixed(self._seed, users_B.numpy())
        bits = _mixed(of_users[:, None], items_BC.numpy())
        return torch.from_numpy((bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24))

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I]."""
        return self(users_B, self._items.expand(len(users_B), -1))


def _mixed(state: Bits, rows: npt.NDArray[np.int64]) -> Bits:
    """64 random bits for each row, from each state. Overflow is meant."""
    mixed = state + (rows.astype(np.uint64) + np.uint64(1)) * _STEP
    for shift, factor in _ROUNDS:
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)


def _fit_random(train: Csr, items: int, settings: Settings, seed: int, workers: Workers) -> RandomRanker:  # noqa: ARG001 - all fits are called so
    return RandomRanker(items, seed)


RANDOM = Baseline(
    "random", "Random", "a random order for each user: what guessing gets", fitting=_fit_random, seeded=True
)
