"""Sequences: what each user used, oldest first, and the models that predict the next item from all before it.

In: the training interactions with their times. Out: windows of items for training, whole histories for users.
The decision worth knowing: a model of this file encodes a window once and predicts each of its items from
those before it, so a step costs one pass over its windows, not one over a history for each positive.

Interactions of one user and moment come in an order that follows from the seed, never from ids.

Legend: B windows, L their length, U users, I items, N interactions, D factors.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from ncf.data import Interactions
from ncf.models.gmf import MF
from ncf.models.layers import DropoutMasks, zeros
from ncf.runtime import seed_of

Places = npt.NDArray[np.int64]
_POSITIONS_AT_ONCE = 2**14


def oldest_first(train: Interactions, seed: int) -> Places:
    """[N]: the places of the interactions, which have times, in order of users and of a user's times."""
    assert train.timestamps is not None, "require_times comes first"
    ties = np.random.default_rng(seed_of(seed, "ties")).random(len(train))
    return np.lexsort((ties, train.timestamps, train.user_rows))


def ages_in_order(train: Interactions, seed: int) -> npt.NDArray[np.int32]:
    """[N]: how many of its user's items come after each interaction, in the order of `train`."""
    order = oldest_first(train, seed)
    stops = np.cumsum(train.user_counts(int(train.user_rows.max(initial=-1)) + 1))
    ages_N = np.empty(len(train), np.int32)
    ages_N[order] = stops[train.user_rows[order]] - 1 - np.arange(len(train))
    return ages_N


@dataclass(frozen=True)
class Sequences:
    """`items` [N] int64, user by user at `offsets` [U + 1], oldest first; `weights` [N] of mean 1, if any."""

    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(cls, train: Interactions, users: int, seed: int) -> "Sequences":
        """The sequences of `users` in `train`; `seed` orders what has the same time."""
        order = oldest_first(train, seed)
        offsets = np.append(0, np.cumsum(train.user_counts(users)))
        weights = None
        if train.weights is not None:
            weights = (train.weights[order] / max(float(train.weights.mean()), 1e-30)).astype(np.float32)
        return cls(offsets, train.item_rows[order].astype(np.int64), weights)

    def windows(self, firsts_B: Places, stops_B: Places) -> npt.NDArray[np.int64]:
        """[B, L] places of the windows between these bounds, -1 behind the end of a shorter one."""
        lengths_B = stops_B - firsts_B
        within_L = np.arange(int(lengths_B.max(initial=0)))
        return np.where(within_L < lengths_B[:, None], firsts_B[:, None] + within_L, -1)

    def items_at(self, places_BL: npt.NDArray[np.int64], fill: int) -> Tensor:
        """[B, L]: the items at these places, `fill` for those of -1."""
        return torch.from_numpy(np.where(places_BL >= 0, self.items[places_BL], fill))

    def __deepcopy__(self, _: dict[int, Any]) -> "Sequences":
        return self


class SequenceModel(MF, ABC):
    """An MF whose users follow from their sequences, which are attached to it; `length` items count at most.

    Subclasses encode windows. These begin at the left, and the number of items (I) fills up what is shorter.
    """

    sequences: Sequences | None = None

    def __init__(
        self, users: int, items: int, factors: int, init_std: float, length: int, dropout: float
    ) -> None:
        super().__init__(users, items, factors, init_std)
        self.history_table = zeros(items, factors)
        self.length, self.dropout = length, dropout

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values of all tables from N(0, init_std²); the items' biases start at zero."""
        super().reset(generator)
        nn.init.normal_(self.history_table, std=self.init_std, generator=generator)

    @abstractmethod
    def encode(self, items_BL: Tensor, users_B: Tensor, drop: DropoutMasks | None = None) -> Tensor:
        """[B, L, D]: the vectors that predict what follows each item of windows of these users.

        `drop` is given in training.
        """

    def last(self, items_BL: Tensor, users_B: Tensor, lengths_B: Tensor) -> Tensor:
        """[B, D]: the vectors after the last items of windows, none of which is empty."""
        every_B = torch.arange(len(items_BL), device=items_BL.device)
        return self.encode(items_BL, users_B)[every_B, lengths_B - 1]

    def history_vectors(self, items_BL: Tensor) -> Tensor:
        """[B, L, D]: what the items of windows say of what follows; anything where they are filled up."""
        return embedding(items_BL.clamp(max=len(self.history_table) - 1), self.history_table)

    def attach(self, sequences: Sequences) -> None:
        """Give the model its users' sequences."""
        self.sequences = sequences

    @property
    def attached(self) -> Sequences:
        """The sequences that were attached."""
        assert self.sequences is not None, "SequenceModel.attach gives the model its users' sequences"
        return self.sequences

    def users(self) -> Tensor:
        """[U, D]: the vectors of users after the latest `length` of their items; without any, their own."""
        offsets, device = self.attached.offsets, self.item_table.device
        lengths_U = np.minimum(np.diff(offsets), self.length)
        vectors_UD = self.own_vectors(len(lengths_U))
        by_length = np.argsort(lengths_U, kind="stable")
        for rows_B in _parts(by_length[lengths_U[by_length] > 0], lengths_U):
            stops_B = offsets[1:][rows_B]
            places_BL = self.attached.windows(stops_B - lengths_U[rows_B], stops_B)
            items_BL = self.attached.items_at(places_BL, len(self.item_table)).to(device)
            users_B, lengths_B = (torch.from_numpy(rows).to(device) for rows in (rows_B, lengths_U[rows_B]))
            vectors_UD = vectors_UD.index_copy(0, users_B, self.last(items_BL, users_B, lengths_B))
        return vectors_UD

    def own_vectors(self, users: int) -> Tensor:
        """[U, D]: what users have without a history."""
        return self.item_table.new_zeros(users, self.item_table.shape[1])


def _parts(rows: Places, lengths_U: Places) -> list[Places]:
    """`rows`, which come in order of their length, in parts of a bounded number of positions."""
    before = np.cumsum(lengths_U[rows]) - lengths_U[rows]
    parts = np.split(rows, np.flatnonzero(np.diff(before // _POSITIONS_AT_ONCE)) + 1)
    return parts if len(rows) else []
