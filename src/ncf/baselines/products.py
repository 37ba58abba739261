"""Scorers that are products: sparse rows times a matrix, a kernel times sparse rows, two tables of factors.

In: the matrices of a fitted baseline. Out: scores. Both compute only the users of the call.

Legend: B batch, C candidates, U users, I items, N inner rows, D factors.
"""

from typing import Any

import numpy as np
import torch
from scipy.sparse import diags
from torch import Tensor

from ncf.runtime import spans

Floats = np.ndarray[Any, np.dtype[np.float32]]
_SCORES_AT_ONCE = 2**22
_VALUES_AT_ONCE = 2**24


class SparseRows:
    """Row u of a sparse matrix times another matrix; a user with an empty row has equal scores."""

    def __init__(self, left: Any, right: Any) -> None:
        """`left` [U, N] is a `csr_matrix`, `right` [N, I] a `csr_matrix` or a NumPy array; both float32."""
        self._left, self._right = left, right

    @property
    def bytes(self) -> int:
        """Size of both matrices."""
        return _bytes(self._left) + _bytes(self._right)

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Scores [B, C] of the items `items_BC` for the users `users_B`, picked from the catalogue's."""
        return _picked(self, users_B, items_BC, self._right.shape[1])

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I] of every item for the users `users_B`."""
        scores = self._left[users_B.numpy()] @ self._right
        return torch.from_numpy(scores.toarray() if hasattr(scores, "toarray") else scores)


class KernelScores:
    """X - diag(a) X K diag(b), or X - diag(a) K X diag(b) where K is between users; see `ease.py`.

    A user without interactions has equal scores.
    """

    def __init__(self, histories: Any, kernel: Any, left_U: Any, right_I: Any) -> None:
        """`histories` X [U, I] is a `csr_matrix`, `kernel` K symmetric, [I, I] or [U, U]; all float32."""
        self._histories, self._kernel, self._left_U = histories, kernel, left_U
        self._between_items = len(kernel) == histories.shape[1]
        self._scaled = histories if self._between_items else (histories @ diags(right_I)).T.tocsr()
        self._right_I = right_I

    @property
    def bytes(self) -> int:
        """Size of all matrices."""
        return _bytes(self._histories) + _bytes(self._kernel)

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Scores [B, C] of the items `items_BC` for the users `users_B`, picked from the catalogue's."""
        return _picked(self, users_B, items_BC, self._histories.shape[1])

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I] of every item for the users `users_B`."""
        return torch.from_numpy(self.rows(users_B.numpy()))

    def weights_between_items(self) -> Floats:
        """[I, I]: what row i adds to the scores of a user who has used item i; for a K between items."""
        weights: Floats = -self._kernel * self._right_I
        np.fill_diagonal(weights, 0.0)
        return weights

    def rows(self, users: Any) -> Floats:
        """[B, I]: scores of the `users`, an array of rows or a slice."""
        own = self._histories[users]
        if self._between_items:
            scores: Floats = own @ self._kernel
            scores *= self._right_I
        else:
            scores = np.ascontiguousarray((self._scaled @ np.ascontiguousarray(self._kernel[:, users])).T)
        scores *= -self._left_U[users, None]
        scores[np.repeat(np.arange(len(scores)), np.diff(own.indptr)), own.indices] += own.data
        return scores

    def times(self, values: Floats) -> Floats:
        """[U, D]: the scores times `values` [I, D], without the scores."""
        if self._between_items:
            inner = self._histories @ _product(self._kernel, self._right_I[:, None] * values)
        else:
            inner = _product(self._kernel, self._scaled.T @ values)
        return np.asarray(self._histories @ values - self._left_U[:, None] * inner)

    def transposed_times(self, values: Floats) -> Floats:
        """[I, D]: the transposed scores times `values` [U, D], without the scores."""
        scaled = self._left_U[:, None] * values
        if self._between_items:
            inner = self._right_I[:, None] * _product(self._kernel, self._histories.T @ scaled)
        else:
            inner = self._scaled @ _product(self._kernel, scaled)
        return np.asarray(self._histories.T @ values - inner)


class Factors:
    """Dot products of `users_UD` and `items_ID`, float32; a user with a zero vector has equal scores."""

    def __init__(self, users_UD: Tensor, items_ID: Tensor) -> None:
        self.users_UD, self.items_ID = users_UD, items_ID

    @property
    def bytes(self) -> int:
        """Size of both tables."""
        return self.users_UD.nbytes + self.items_ID.nbytes

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Scores [B, C] of the items `items_BC` for the users `users_B`, in parts of bounded size."""
        rows = max(1, _VALUES_AT_ONCE // max(1, items_BC.shape[1] * self.items_ID.shape[1]))
        scores = torch.empty(items_BC.shape)
        for part in spans(len(users_B), -(-len(users_B) // rows)):
            users_BD, items_BCD = self.users_UD[users_B[part]], self.items_ID[items_BC[part]]
            scores[part] = (items_BCD @ users_BD[:, :, None])[:, :, 0]
        return scores

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I] of every item for the users `users_B`."""
        return self.users_UD[users_B] @ self.items_ID.T


def _product(left: Floats, right: Floats) -> Floats:
    """A product of dense matrices by torch, whose threads we set: NumPy's sums depend on its threads."""
    return np.asarray(torch.mm(torch.from_numpy(left), torch.from_numpy(np.ascontiguousarray(right))).numpy())


def _picked(scorer: SparseRows | KernelScores, users_B: Tensor, items_BC: Tensor, items: int) -> Tensor:
    scores = torch.empty(items_BC.shape)
    for part in spans(len(users_B), -(-len(users_B) * items // _SCORES_AT_ONCE)):
        scores[part] = scorer.catalogue(users_B[part]).gather(1, items_BC[part])
    return scores


def _bytes(matrix: Any) -> int:
    arrays = (matrix,) if isinstance(matrix, np.ndarray) else (matrix.data, matrix.indices, matrix.indptr)
    return int(sum(array.nbytes for array in arrays))
