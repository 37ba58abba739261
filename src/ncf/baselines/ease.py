"""EASE: the best linear model between items, or between users, in closed form (Steck, WWW'19).

In: training interactions X [U, I]. Out: scores of every pair that do not count a pair's own interaction. The
item side learns weights between items,

    S = X - X P diag(P)^-1,   P = (X'WX + D)^-1,   D = l2 + p / (1 - p) diag(X'WX)

where W weighs users and p is the dropout of the denoising form (Steck, NeurIPS'20); with p = 0 and W = 1 this
is plain EASE. X holds ones, or weights over their mean. The user side is the same of X'. The decision worth
knowing: only the smaller side is inverted.
By Woodbury's identity, with M = (W^-1 + X D^-1 X')^-1 [U, U],

    X P = W^-1 M X D^-1,   P_jj = 1 / D_j - x_j' M x_j / D_j^2

so every form is S = X - diag(a) X K diag(b) or X - diag(a) K X diag(b), and no users x items matrix is held.
Where both sides have more than 20,000 rows, the inverse is replaced by conjugate gradients, and the scores by
a truncated singular value decomposition, which needs products only.

Setting: `l2` is the ridge penalty (lambda of the paper).

Legend: U users, I items, R rows, C columns of the matrix whose columns get weights, D rank.
"""

from typing import Any, Literal

import numpy as np
import scipy.sparse
import torch

from ncf.baselines.base import Baseline, FittedBaseline, LinAlgError, Settings, sparse_rows, squared
from ncf.baselines.products import Factors, Floats, KernelScores
from ncf.data import Csr
from ncf.runtime import Workers, generator, seed_of, spans

Side = Literal["items", "users"]
EXACT_LIMIT = 20_000
"""Rows of the largest matrix that is inverted: 1.6 GB in float32, some minutes on one core."""
_ROWS_AT_ONCE = 256
_RANK_AT_LEAST, _RANK_AT_MOST, _FACTOR_VALUES = 64, 512, 2**27
_OVERSAMPLE, _POWER_ITERATIONS = 16, 2
_SPARSE_COST = 16.0
_SIGNS, _TOLERANCE, _STEPS_AT_MOST, _TINY = 64, 1e-3, 60, 1e-30


def is_exact(users: int, items: int) -> bool:
    """Whether the smaller side is small enough for an exact solution."""
    return min(users, items) <= EXACT_LIMIT


def ease_scores(
    histories: Any,
    l2: float,
    dropout: float = 0.0,
    exponent: float = 0.0,
    side: Side = "items",
) -> KernelScores:
    """The exact scores of one side.

    Args:
        histories: X, a float32 `csr_matrix` [U, I] of ones or weights.
        l2: the ridge penalty.
        dropout: that of the denoising form.
        exponent: the item side weighs a user by the number of the user's items (or the sum of their weights)
            to the power of -`exponent`, the user side an item by that of its users.
        side: what the weights are between.
    """
    columns = histories if side == "items" else histories.T.tocsr()
    rows, width = columns.shape
    weights_R = _weights(columns, exponent)
    ridge_C = l2 + dropout / (1.0 - dropout) * (squared(columns).T @ weights_R)
    if width <= rows:
        kernel = _inverse(columns.T.tocsr(), weights_R, ridge_C)
        inner, outer_C = np.ones(rows, np.float32), 1.0 / kernel.diagonal()
    else:
        if not np.all(ridge_C > 0.0):
            raise LinAlgError("without a ridge there are many solutions")
        kernel = _inverse(columns, 1.0 / ridge_C, 1.0 / weights_R)
        inner, outer_C = 1.0 / weights_R, 1.0 / (1.0 - _own(columns.T.tocsr(), kernel) / ridge_C)
    left, right = (inner, outer_C) if side == "items" else (outer_C, inner)
    return KernelScores(histories, kernel, left.astype(np.float32), right.astype(np.float32))


def ease_factors(
    histories: Any, l2: float, dropout: float, exponent: float, seed: int, width: int = 0
) -> Factors:
    """The item side's scores at low rank, for any number of users and items.

    The arguments are those of `ease_scores`; `seed` draws random projections, and the rank is at least
    `width`. The rank is spent on scores over n_u^1/2 n_i^1/4, or long histories and popular items would take
    most of it.
    """
    users, items = histories.shape
    rank = int(np.clip(_FACTOR_VALUES // (users + items), _RANK_AT_LEAST, _RANK_AT_MOST))
    rank = min(max(rank, width), users, items)
    scores = _IterativeScores(histories, l2, dropout, exponent, seed)
    scale_U = (np.maximum(np.diff(histories.indptr), 1) ** 0.5).astype(np.float32)[:, None]
    scale_I = (np.maximum(scores.counts, 1) ** 0.25).astype(np.float32)[:, None]
    size = min(rank + _OVERSAMPLE, users, items)
    basis = torch.randn(items, size, generator=generator(seed, "low rank"))
    for _ in range(_POWER_ITERATIONS):
        image = scores.times(basis.numpy() / scale_I) / scale_U
        basis = torch.linalg.qr(torch.from_numpy(scores.transposed_times(image / scale_U) / scale_I)).Q
    image = torch.from_numpy(scores.times(basis.numpy() / scale_I) / scale_U)
    orthogonal, triangle = torch.linalg.qr(image)
    left, values, right = torch.linalg.svd(triangle, full_matrices=False)
    users_UD = (orthogonal @ left)[:, :rank] * values[:rank] * torch.from_numpy(scale_U)
    return Factors(users_UD, (basis @ right.T)[:, :rank] * torch.from_numpy(scale_I))


class _IterativeScores:
    """Products with the item side's scores, by conjugate gradients instead of an inverse.

    With N = W^1/2 X D^-1/2 the inverse P is D^-1/2 (I + N'N)^-1 D^-1/2, whose systems are well conditioned.
    Its diagonal is estimated with random signs z: the mean of z * P z (Hutchinson '89).
    """

    def __init__(self, histories: Any, l2: float, dropout: float, exponent: float, seed: int) -> None:
        weights_U = _weights(histories, exponent)
        self._histories, self._transposed = histories, histories.T.tocsr()
        self.counts = np.diff(self._transposed.indptr)
        ridge_I = (l2 + dropout / (1.0 - dropout) * (squared(self._transposed) @ weights_U)).astype(
            np.float32
        )
        self._scale = (ridge_I**-0.5)[:, None]
        diags = scipy.sparse.diags
        self._scaled = (diags(weights_U**0.5) @ histories @ diags(ridge_I**-0.5)).tocsr().astype(np.float32)
        self._scaled_transposed = self._scaled.T.tocsr()
        random = np.random.default_rng(seed_of(seed, "diagonal"))
        signs = random.choice(np.array([-1.0, 1.0], np.float32), (len(ridge_I), _SIGNS))
        shares_I = np.clip((signs * self._solve(signs)).mean(1), 0.05, 1.0)
        self._diagonal = (ridge_I / shares_I)[:, None]

    def times(self, values: Floats) -> Floats:
        """[U, D]: the scores times `values` [I, D]."""
        return np.asarray(self._histories @ (values - self._inverse_times(self._diagonal * values)))

    def transposed_times(self, values: Floats) -> Floats:
        """[I, D]: the transposed scores times `values` [U, D]."""
        product = self._transposed @ values
        return np.asarray(product - self._diagonal * self._inverse_times(product))

    def _inverse_times(self, values: Floats) -> Floats:
        return np.asarray(self._scale * self._solve(self._scale * values))

    def _solve(self, values: Floats) -> Floats:
        """(I + N'N)^-1 times `values` [I, D], every column on its own."""
        solution, residual, direction = np.zeros_like(values), values.copy(), values.copy()
        squares_D = np.einsum("id,id->d", residual, residual)
        wanted_D = squares_D * _TOLERANCE**2
        for _ in range(_STEPS_AT_MOST):
            image = direction + self._scaled_transposed @ (self._scaled @ direction)
            step_D = squares_D / (np.einsum("id,id->d", direction, image) + _TINY)
            solution += step_D * direction
            residual -= step_D * image
            before_D, squares_D = squares_D, np.einsum("id,id->d", residual, residual)
            if np.all(squares_D <= wanted_D):
                break
            direction *= squares_D / (before_D + _TINY)
            direction += residual
        return solution


def _weights(rows: Any, exponent: float) -> Any:
    """[R] float32: weights of `rows`, their sums (1 at least) over the mean of sums, to the -`exponent`."""
    numbers = np.maximum(rows @ np.ones(rows.shape[1], np.float32), np.float32(1.0))
    return (numbers / numbers.mean()) ** -np.float32(exponent)


def _inverse(rows: Any, weights: Any, diagonal: Any) -> Any:
    """[N, N] float32: the inverse of `rows` diag(`weights`) `rows`' + diag(`diagonal`), N rows."""
    columns = rows.T.tocsr()
    weighted = scipy.sparse.diags(weights.astype(np.float32)) @ columns
    total = np.zeros((rows.shape[0], rows.shape[0]), np.float32)
    # A sparse product costs about 16 times as much per term as adding whole dense rows.
    if _SPARSE_COST * (np.diff(columns.indptr).astype(float) ** 2).sum() < rows.nnz * len(total):
        for part in spans(len(total), -(-len(total) // _ROWS_AT_ONCE)):
            total[part] = (rows[part] @ weighted).toarray()
    else:
        for part in spans(columns.shape[0], -(-columns.shape[0] // _ROWS_AT_ONCE)):
            total += weighted[part].T @ columns[part].toarray()
    total.reshape(-1)[:: len(total) + 1] += diagonal
    factor = torch.linalg.cholesky(torch.from_numpy(total))
    # The inverse comes in columns, which SciPy would copy at each product. It is symmetric: read in rows.
    return torch.cholesky_inverse(factor).T.contiguous().numpy()


def _own(rows: Any, kernel: Any) -> Any:
    """[N]: x K x' of each row x of a sparse matrix."""
    own = np.empty(rows.shape[0], np.float32)
    for part in spans(len(own), -(-len(own) // _ROWS_AT_ONCE)):
        block = rows[part]
        row_of = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        inner = (block @ kernel)[row_of, block.indices] * block.data
        own[part] = np.bincount(row_of, inner, block.shape[0])
    return own


def _fit(train: Csr, items: int, settings: Settings, seed: int, _workers: Workers) -> FittedBaseline:
    histories = sparse_rows(train, items)
    if is_exact(train.users, items):
        return ease_scores(histories, settings["l2"])
    return ease_factors(histories, settings["l2"], 0.0, 0.0, seed)


EASE = Baseline(
    "ease",
    "EASE",
    "Steck, WWW'19",
    fitting=_fit,
    defaults={"l2": 1000.0},
    space={"l2": {"low": 50.0, "high": 5000.0, "log": True}},
)
