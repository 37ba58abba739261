"""EASE: the best linear item-item model, in closed form (Steck, WWW'19).

In: training interactions. Out: item-item weights, and a scorer that sums the weights of a user's items. Its diagonal is zero,
so a used item's score does not count its own use. The decision worth knowing: the weights are I x I float32 numbers,
so catalogues above 20,000 items (1.6 GB) are refused.

Legend: I items.
"""

import numpy as np
import torch
from torch import Tensor

from ncf.data import Csr
from ncf.errors import ConfigError
from ncf.evaluation.baselines.baseline import Baseline, Settings
from ncf.evaluation.baselines.matrix import dense_rows, sparse_rows
from ncf.evaluation.baselines.products import SparseRows
from ncf.runtime import Workers, spans

ITEMS_LIMIT = 20_000
_USERS_AT_ONCE = 512


def ease_weights(
    train: Csr, items: int, workers: Workers, l2: float, dropout: float = 0.0, user_exponent: float = 0.0
) -> Tensor:
    """[I, I] float32 with a zero diagonal; with `dropout` and `user_exponent` zero, equation 8 of EASE.

    `dropout` is that of the denoising form (Steck, NeurIPS'20); users weigh as their number of items to the power
    of -`user_exponent`.
    """
    counts = torch.from_numpy(np.maximum(train.counts, 1).astype(np.float32))
    user_weights = (counts / counts.mean()) ** -user_exponent

    def gram(part: slice) -> Tensor:
        total = torch.zeros(items, items)
        for inner in spans(part.stop - part.start, -(-(part.stop - part.start) // _USERS_AT_ONCE)):
            users = slice(part.start + inner.start, part.start + inner.stop)
            rows = dense_rows(train, items, users)
            total.addmm_(rows.T, rows * user_weights[users, None])
        return total

    grams = workers.map(gram, spans(train.users, workers.threads))
    total = torch.stack(grams).sum(0) if len(grams) > 1 else grams[0]
    diagonal = total.diagonal()
    diagonal.mul_(1.0 + dropout / (1.0 - dropout)).add_(l2)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(total))
    weights = inverse.div_(-inverse.diagonal().clone())
    weights.diagonal().zero_()
    return weights


def _fit(train: Csr, items: int, settings: Settings, seed: int, workers: Workers) -> SparseRows:  # noqa: ARG001 - all fits are called so
    if items > ITEMS_LIMIT:
        raise ConfigError(
            f"EASE inverts an items x items matrix, which for {items:,} items is too much "
            f"(at most {ITEMS_LIMIT:,}): leave it out of the comparison."
        )
    weights_II = ease_weights(train, items, workers, settings["l2"])
    return SparseRows(sparse_rows(train, items), weights_II.numpy())


EASE = Baseline(
    "ease",
    "EASE",
    "Steck, WWW'19",
    fitting=_fit,
    defaults={"l2": 1000.0},
    space={"l2": {"low": 50.0, "high": 5000.0, "log": True}},
)
