"""A model on the held-out rows of other data than its training data: rows are translated through the caller's
ids.

A model that is retrained every week meets its predecessor on the new data's candidate lists. The predecessor
treats what it does not know as it does in serving: an unknown user is answered by popularity, and an unknown
item ranks below every known one, since it would never be recommended.

Legend: B batch, C candidates, I items.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ncf.data import Csr, Dataset, HeldOut, Vocabulary
from ncf.evaluation.ranking import Scorer


class TranslatedScorer:
    """A scorer of one vocabulary that is called with the rows of another.

    `user_rows` and `item_rows` are the model's rows of the dataset's users and items, -1 for an unknown one.
    """

    def __init__(
        self,
        scorer: Scorer,
        users: Vocabulary,
        items: Vocabulary,
        popularity: npt.NDArray[np.integer],
        dataset: Dataset,
        untrained: npt.NDArray[np.integer] | None = None,
    ) -> None:
        """`scorer` knows the rows of `users` and `items`; calls bring rows of `dataset`.

        `popularity` counts the uses of each of `items`, and answers for users that the model does not know.
        `untrained` are rows of `users` without a training interaction, who count as unknown.
        """
        self._scorer = scorer
        self.user_rows = users.rows(dataset.users.series())
        if untrained is not None and len(untrained):
            self.user_rows[np.isin(self.user_rows, untrained)] = -1
        self.item_rows = items.rows(dataset.items.series())
        self._users = torch.from_numpy(self.user_rows.astype(np.int64))
        self._items = torch.from_numpy(self.item_rows.astype(np.int64))
        self._popularity = torch.from_numpy(popularity.astype(np.float32))

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Scores [B, C] of the dataset's rows; minus infinity for an item that the model does not know."""
        users, items = self._users[users_B], self._items[items_BC]
        known_items = items.clamp(min=0)
        scores = self._scorer(users.clamp(min=0), known_items)
        scores = torch.where((users >= 0)[:, None], scores, self._popularity[known_items])
        return scores.masked_fill(items < 0, -torch.inf)

    def on_record(self, seen: Csr, held_out: HeldOut) -> npt.NDArray[np.bool_]:
        """[T]: whether the held-out item is in the model's history of that user, `seen` in its rows."""
        return on_record(self.user_rows, self.item_rows, seen, held_out)

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I] of every item of the dataset for its users `users_B`."""
        everything = torch.arange(len(self._items))
        return self(users_B, everything.expand(len(users_B), -1))


def on_record(
    user_rows: npt.NDArray[np.int32], item_rows: npt.NDArray[np.int32], seen: Csr, held_out: HeldOut
) -> npt.NDArray[np.bool_]:
    """[T]: whether each held-out item is in the history of its user, `seen` in other rows.

    `user_rows` and `item_rows` have those other rows, -1 where there is none.
    """
    users, items = user_rows[held_out.user_rows], item_rows[held_out.positives]
    known = (users >= 0) & (items >= 0)
    recorded = np.zeros(len(held_out), np.bool_)
    recorded[known] = seen.contains(users[known], items[known])
    return recorded


def rows_at(held_out: HeldOut, mask: npt.NDArray[np.bool_]) -> HeldOut:
    """The rows of `held_out` where `mask` [T] is true."""
    return held_out.take(mask)
