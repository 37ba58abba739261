"""Popularity: the answer to whoever nothing is known about.

The score of an item is how often it was used in training; equal ones are in the order of their rows.

Legend: I items, k items wanted.
"""

import numpy as np
import numpy.typing as npt

from ncf.serving.network import Floats, Rows


class Popular:
    """The items by popularity, sorted once."""

    def __init__(self, popularity_I: npt.NDArray[np.integer]) -> None:
        self._scores_I = popularity_I.astype(np.float32)
        self._order = np.argsort(-self._scores_I, kind="stable").astype(np.int32)

    def top(self, k: int, hidden: Rows, allowed: Rows | None = None) -> tuple[Floats, Rows]:
        """Scores and rows of the best `k` of `allowed` (None: all) without `hidden`, or of as many as are left."""
        if allowed is not None:
            left = np.setdiff1d(allowed, hidden)
            rows = left[np.argsort(-self._scores_I[left], kind="stable")[:k]]
        else:
            rows = self._order[: k + len(hidden)]
            rows = rows[np.isin(rows, hidden, invert=True)][:k]
        return self._scores_I[rows], rows
