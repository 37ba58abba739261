"""The same list for everybody: items by how often training used them.

In: training interactions. Out: a scorer of counts. Counts above 2^24 round in float32, which can tie neighbours there.
"""

import numpy as np
import torch

from ncf.data import Csr
from ncf.evaluation.baselines.baseline import Baseline, Settings
from ncf.evaluation.by_ids import ByPopularity
from ncf.runtime import Workers


class Popularity(ByPopularity):
    """`ByPopularity` with its size."""

    @property
    def bytes(self) -> int:
        """One float32 an item."""
        return len(self._popularity) * torch.float32.itemsize


def _fit(train: Csr, items: int, settings: Settings, seed: int, workers: Workers) -> Popularity:  # noqa: ARG001 - all fits are called so
    return Popularity(np.bincount(train.columns, minlength=items))


POPULARITY = Baseline(
    "popularity", "Popularity", "Cremonesi, Koren & Turrin, RecSys'10 (TopPop)", fitting=_fit
)
