"""A model on the held-out rows of other data than it was trained on: rows are translated through the caller's ids.

A model that is retrained every week meets its predecessor on the new data's candidate lists. What the predecessor does
not know it treats as when it serves: an unknown user is answered by the popularity that it knows, and an unknown item
stands behind every known one, since it would never be shown.

Legend: B batch, C candidates.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ncf.data import Dataset, HeldOut, Vocabulary
from ncf.evaluation.ranking import Scorer


class ById:
    """`scorer` knows the rows of `users` and `items`; the calls bring rows of `dataset`."""

    def __init__(
        self,
        scorer: Scorer,
        users: Vocabulary,
        items: Vocabulary,
        popularity: npt.NDArray[np.integer],
        dataset: Dataset,
    ) -> None:
        self._scorer = scorer
        self.user_rows = users.rows(dataset.users.series())
        self.item_rows = items.rows(dataset.items.series())
        self._users = torch.from_numpy(self.user_rows.astype(np.int64))
        self._items = torch.from_numpy(self.item_rows.astype(np.int64))
        self._popularity = torch.from_numpy(popularity.astype(np.float32))

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Scores [B, C]; minus infinity for an item that the model does not know."""
        users, items = self._users[users_B], self._items[items_BC]
        known_items = items.clamp(min=0)
        scores = self._scorer(users.clamp(min=0), known_items)
        scores = torch.where((users >= 0)[:, None], scores, self._popularity[known_items])
        return scores.masked_fill(items < 0, -torch.inf)

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I] of every item of `dataset`."""
        everything = torch.arange(len(self._items))
        return self(users_B, everything.expand(len(users_B), -1))


class ByPopularity:
    """The baseline that any model must beat: items by how often training used them."""

    def __init__(self, popularity: npt.NDArray[np.integer]) -> None:
        self._popularity = torch.from_numpy(popularity.astype(np.float32))

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:  # noqa: ARG002 - a scorer is asked so
        """Scores [B, C], the same for every user."""
        return self._popularity[items_BC]

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I]."""
        return self._popularity.expand(len(users_B), -1).clone()


def rows_at(held_out: HeldOut, index: npt.NDArray[np.bool_]) -> HeldOut:
    """The held-out rows that a mask chooses."""
    return HeldOut(held_out.user_rows[index], held_out.candidates[index])
