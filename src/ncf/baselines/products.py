"""Scorers that are a product of two matrices: sparse rows times another matrix, or two tables of factors.

In: the matrices of a fitted baseline. Out: scores. Both compute only the users of the call.

Legend: B batch, C candidates, U users, I items, N inner rows, D factors.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncf.runtime import spans

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
        scores = torch.empty(items_BC.shape)
        for part in spans(len(users_B), -(-len(users_B) * self._right.shape[1] // _SCORES_AT_ONCE)):
            scores[part] = self.catalogue(users_B[part]).gather(1, items_BC[part])
        return scores

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I] of every item for the users `users_B`."""
        scores = self._left[users_B.numpy()] @ self._right
        return torch.from_numpy(scores.toarray() if hasattr(scores, "toarray") else scores)


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


def _bytes(matrix: Any) -> int:
    arrays = (matrix,) if isinstance(matrix, np.ndarray) else (matrix.data, matrix.indices, matrix.indptr)
    return int(sum(array.nbytes for array in arrays))
