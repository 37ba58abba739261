"""History-aware matrix factorization: a user is an own vector and what the items of the history say.

    v_u = p_u + n_u^-a * sum over the history's items j of y_j
    y_ui = a( h^T (v_u * q_i) + b_i + b )

The form is that of SVD++ (Koren, KDD'08) and of FISM (Kabbur et al., KDD'13), under GMF's output layer. In
training, the positive of a group is left out of its user's history, as the sum would hold the answer: v_u
then has n_u - 1 items. A user who comes later has a vector without training: the sum is a look-up, and p_u is
estimated (`serving/fold_in.py`).

The decision worth knowing: the sums of all users are one product of the history (a sparse matrix of ones)
with the history's table, which takes much longer than a step. So that table stays as it is for some steps, in
which the sums are exact. Then it moves once with the mean of their gradients, one product with the transposed
history (`training/history_table.py`).

With a half-life the latest items count most, and a positive is predicted only from what came before it:
`recency.py`.

Legend: B batch, C candidates of a user, U users, I items, N interactions, D factors.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ncf.data import Csr, Dataset
from ncf.models.gmf import GMF
from ncf.models.layers import zeros
from ncf.models.recency import RecentHistory, scale


@dataclass(frozen=True)
class History:
    """The items of each user and the users of each item: offsets [U + 1] or [I + 1], rows [N]; all int64."""

    offsets: Tensor
    items: Tensor
    item_offsets: Tensor
    users: Tensor

    @classmethod
    def of(cls, seen: Csr, items: int) -> "History":
        """The history of users who have `seen` these items, of `items` in all."""
        offsets = torch.from_numpy(seen.offsets.astype("int64"))
        columns = torch.from_numpy(seen.columns.astype("int64"))
        rows = torch.repeat_interleave(torch.arange(seen.users), offsets.diff())
        item_offsets = torch.zeros(items + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(columns, minlength=items), 0, out=item_offsets[1:])
        return cls(offsets, columns, item_offsets, rows[columns.argsort(stable=True)])

    def to(self, device: torch.device) -> "History":
        """A copy on `device`."""
        return History(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    @property
    def counts(self) -> Tensor:
        """[U] float32: how many items each user has used."""
        return self.offsets.diff().float()

    def vectors(self, table_ID: Tensor, exponent: float) -> Tensor:
        """[U, D]: the scaled sums of whole histories; `exponent` is a."""
        return scale(self.counts, exponent)[:, None] * self.sums(table_ID)

    def vectors_without(self, table_ID: Tensor, exponent: float, users_B: Tensor, items_B: Tensor) -> Tensor:
        """[B, D]: the same for B users, each without one item."""
        scale_B1 = scale(self.counts - 1, exponent)[users_B, None]
        return scale_B1 * (self.sums(table_ID)[users_B] - table_ID[items_B])

    def sums(self, table_ID: Tensor, part: slice = slice(None), weights_N: Tensor | None = None) -> Tensor:
        """[users in `part`, D]: the sum of the rows of each user's items, times `weights_N`."""
        return _sums(self.offsets, self.items, table_ID, part, weights_N)

    def back(self, values_UD: Tensor, part: slice = slice(None), weights_N: Tensor | None = None) -> Tensor:
        """[items in `part`, D]: the sum over each item's users; `weights_N` in the order of `users`."""
        return _sums(self.item_offsets, self.users, values_UD, part, weights_N)

    def __deepcopy__(self, _: dict[int, Any]) -> "History":
        return self


def _sums(offsets: Tensor, rows: Tensor, table: Tensor, part: slice, weights: Tensor | None) -> Tensor:
    """Each bag is summed in the order of its rows, so that threads do not change the last bit of a sum."""
    first, end, _ = part.indices(len(offsets) - 1)
    cut = offsets[first : end + 1]
    if len(cut) < 2:
        return table.new_zeros(0, table.shape[1])
    inside = slice(int(cut[0]), int(cut[-1]))
    return nn.functional.embedding_bag(
        rows[inside],
        table,
        cut - cut[0],
        mode="sum",
        include_last_offset=True,
        per_sample_weights=None if weights is None else weights[inside],
    )


def history_of(dataset: Dataset, half_life: float = 0.0) -> History | RecentHistory:
    """The users' histories in training; a `half_life` needs times."""
    users, items = len(dataset.users), len(dataset.items)
    if half_life:
        return RecentHistory.of(dataset.train, users, items, half_life)
    return History.of(dataset.seen_in_training, items)


class HistoryGMF(GMF):
    """A GMF with `history_table` [I, D] and `item_bias` [I]; the users' histories are attached to it."""

    history: History | RecentHistory | None = None

    def __init__(
        self,
        users: int,
        items: int,
        factors: int,
        init_std: float = 0.1,
        exponent: float = 0.5,
        dropout: float = 0.0,
        half_life: float = 0.0,
    ) -> None:
        super().__init__(users, items, factors, init_std)
        self.history_table = zeros(items, factors)
        self.item_bias = zeros(items)
        self.exponent, self.dropout, self.half_life = exponent, dropout, half_life

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values as a GMF does; the history's are ten times smaller, as many add up."""
        super().reset(generator)
        nn.init.normal_(self.history_table, std=self.init_std / 10, generator=generator)
        assert self.item_bias is not None
        nn.init.zeros_(self.item_bias)

    def attach(self, history: History | RecentHistory) -> None:
        """Give the model its users' histories."""
        self.history = history.to(self.user_table.device)

    @property
    def attached(self) -> History | RecentHistory:
        """The histories that were attached."""
        assert self.history is not None, "HistoryGMF.attach gives the model its users' histories"
        return self.history

    def users(self) -> Tensor:
        """[U, D]: the users' own vectors plus their whole histories."""
        return self.user_table + self.attached.vectors(self.history_table, self.exponent)

    def without_positive(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Logits [B, C] as training sees them: the positive, in column 0, is not in its user's history."""
        positives_B = items_BC[:, 0]
        others_BD = self.attached.vectors_without(self.history_table, self.exponent, users_B, positives_B)
        return self.logits(self.user_table[users_B] + others_BD, items_BC)
