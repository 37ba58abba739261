"""EASE: the best linear item-item model, in closed form (Steck, WWW'19).

In: training interactions. Out: item-item weights, and a scorer that sums the weights of a user's items. The
diagonal of the weights is zero, so an item's score never counts its own use. The decision worth knowing: the
weights are I x I float32 numbers, so catalogues above 20,000 items (1.6 GB) are refused.

Setting: `l2` is the ridge penalty (lambda of the paper).

Legend: U users, I items.
"""

import numpy as np
import torch
from torch import Tensor

from ncf.baselines.base import Baseline, Settings, dense_rows, sparse_rows
from ncf.baselines.products import SparseRows
from ncf.data import Csr
from ncf.errors import ConfigError
from ncf.runtime import Workers, spans

ITEMS_LIMIT = 20_000
_USERS_AT_ONCE = 512


def ease_weights(
    train: Csr, items: int, workers: Workers, l2: float, dropout: float = 0.0, user_exponent: float = 0.0
) -> Tensor:
    """Item-item weights [I, I], float32 with a zero diagonal (equation 8 of EASE).

    `train` are the interactions over a catalogue of `items`, `workers` the threads, `l2` the ridge penalty.
    `dropout` is that of the denoising form (Steck, NeurIPS'20). A user's weight is the number of the user's
    items to the power of -`user_exponent`. With both zero this is plain EASE.
    """
    total = _gram(train, items, _weights(train.counts, user_exponent), workers)
    diagonal = total.diagonal()
    diagonal.mul_(1.0 + dropout / (1.0 - dropout)).add_(l2)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(total))
    weights = inverse.div_(-inverse.diagonal().clone())
    weights.diagonal().zero_()
    return weights


def user_side_scores(
    train: Csr, items: int, workers: Workers, l2: float, dropout: float = 0.0, item_exponent: float = 0.0
) -> Tensor:
    """Scores [U, I], float32, of EASE on the transposed interactions: users have weights for users.

    Arguments as for `ease_weights`; an item's weight is the number of its users to the power of
    -`item_exponent`.

    With X the interactions, W the items' weights and P = (X W X' + D)^-1, D diagonal, the scores are X -
    diag(P)^-1 P X. No users x users matrix is needed. By Woodbury's identity, with the I x I matrix M = (W^-1
    + X' D^-1 X)^-1, P X = D^-1 X M W^-1 and P_uu = 1 / D_u - x_u M x_u' / D_u^2.
    """
    counts = np.bincount(train.columns, minlength=items)
    weights_I = _weights(counts, item_exponent)
    ones = torch.from_numpy(train.columns.astype(np.int64))
    user_of = torch.from_numpy(np.repeat(np.arange(train.users), train.counts))
    diagonal_U = torch.zeros(train.users).index_add_(0, user_of, weights_I[ones])
    diagonal_U.mul_(dropout / (1.0 - dropout)).add_(l2)
    inner = _gram(train, items, 1.0 / diagonal_U, workers)
    inner.diagonal().add_(1.0 / weights_I)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(inner))
    scores = torch.empty(train.users, items)

    def score(part: slice) -> None:
        rows = dense_rows(train, items, part)
        product = torch.mm(rows, inverse, out=scores[part])
        own_u1 = 1.0 - (product * rows).sum(1, keepdim=True) / diagonal_U[part, None]
        product.div_(own_u1).div_(weights_I).neg_().add_(rows)

    workers.map(score, spans(train.users, -(-train.users // _USERS_AT_ONCE)))
    return scores


def _weights(counts: np.ndarray, exponent: float) -> Tensor:
    """Weights of rows: `counts` (1 at least) over their mean, to the power of -`exponent`."""
    numbers = torch.from_numpy(np.maximum(counts, 1).astype(np.float32))
    return (numbers / numbers.mean()) ** -exponent


def _gram(train: Csr, items: int, weights_U: Tensor, workers: Workers) -> Tensor:
    """[I, I]: X' diag(weights) X."""

    def gram(part: slice) -> Tensor:
        total = torch.zeros(items, items)
        for inner in spans(part.stop - part.start, -(-(part.stop - part.start) // _USERS_AT_ONCE)):
            users = slice(part.start + inner.start, part.start + inner.stop)
            rows = dense_rows(train, items, users)
            total.addmm_(rows.T, rows * weights_U[users, None])
        return total

    grams = workers.map(gram, spans(train.users, workers.threads))
    return torch.stack(grams).sum(0) if len(grams) > 1 else grams[0]


def _fit(train: Csr, items: int, settings: Settings, _seed: int, workers: Workers) -> SparseRows:
    if items > ITEMS_LIMIT:
        raise ConfigError(
            f"EASE inverts an items x items matrix, and {items:,} items are too many for that "
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
