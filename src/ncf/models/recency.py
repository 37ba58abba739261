"""Recency: histories in order of time, in which an item's weight halves after a half-life of later items.

In: the training interactions with their times. Out: for each positive what its user had used before it, and
for each user the whole history. The weight of an item is w = 2^(-r / half-life), where r is how many of the
user's items are later than it and earlier than the positive (or later at all). The sum of the weighted rows
is divided by (sum of w)^a.

Two decisions worth knowing. An age is a number of items, not of days, so users who come once a year and users
who come every day share one half-life. Items of one moment share one age, and none of them is before another.
And a positive is predicted only from what came before it; weights that look back from the end of a history,
with the positive left out, bring nothing (docs/experiments.md). Such sums differ for each positive, so each
group adds up its own, over the latest `window` items; an item that is left out of it weighs less than 1/256.

Legend: B groups, n items of their windows, N interactions, U users, I items, D factors.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ncf.config import ModelConfig
from ncf.data import Interactions
from ncf.errors import ConfigError

Ages = npt.NDArray[np.int32]
_HALVINGS = 8
_IN_ORDER = "history_half_life", "history_places"


def require_times(train: Interactions, config: ModelConfig) -> None:
    """Raise `ConfigError` for a model that needs times where the interactions have none."""
    if train.timestamps is not None or not (config.reads_sequences or config.history_half_life):
        return
    name = next((name for name in _IN_ORDER if getattr(config, name)), None)
    value, other = (
        (f"model.{name} = {getattr(config, name):g}", f"set model.{name} = 0")
        if name
        else (f"model.kind = '{config.kind}'", "choose another kind")
    )
    raise ConfigError(
        f"{value} needs the times of interactions, and these data have none: prepare them with a time column "
        f"(--time), or {other}."
    )


def ages(train: Interactions) -> Ages:
    """[N]: how many of its user's items are strictly later than each interaction, in the order of `train`."""
    assert train.timestamps is not None, "require_times comes first"
    users, times = train.user_rows, train.timestamps
    ages_N = np.empty(len(train), np.int32)
    order = np.lexsort((times, users))[::-1]  # a user's latest first
    users, times = users[order], times[order]
    starts = _starts(users[1:] != users[:-1])
    ages_N[order] = _starts((users[1:] != users[:-1]) | (times[1:] != times[:-1])) - starts
    return ages_N


def _starts(differs: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """[N]: where the run of equal values around a position begins; `differs` [N - 1] compares neighbours."""
    positions = np.arange(len(differs) + 1)
    return np.maximum.accumulate(np.where(np.append(True, differs), positions, 0))


@dataclass(frozen=True)
class Bags:
    """B bags of items: `rows` [n] of the items, `owners` [n] of the bags, `offsets` [B + 1], `weights` [n]
    float32.

    Weights are divided by their bag's sum to the power that was asked for.
    """

    rows: Tensor
    owners: Tensor
    offsets: Tensor
    weights: Tensor

    def sums(self, table_ID: Tensor) -> Tensor:
        """[B, D]: each bag's sum of weighted rows."""
        return nn.functional.embedding_bag(
            self.rows,
            table_ID,
            self.offsets,
            mode="sum",
            include_last_offset=True,
            per_sample_weights=self.weights,
        )

    def back(self, values_BD: Tensor, out_ID: Tensor) -> None:
        """Add to `out_ID` the gradients of the rows that follow from `values_BD`, those of the sums."""
        out_ID.index_add_(0, self.rows, values_BD.index_select(0, self.owners).mul_(self.weights[:, None]))


@dataclass(frozen=True)
class RecentHistory:
    """`items` [N], user by user at `offsets` [U + 1], oldest first.

    `begins` and `ends` [N] are where the items of the same user and moment begin and end. `pairs` [N] are
    user and item as one ascending number, and `places` [N] where each is in `items`. All are int64.
    `catalogue` is I.
    """

    catalogue: int
    half_life: float
    offsets: Tensor
    items: Tensor
    begins: Tensor
    ends: Tensor
    pairs: Tensor
    places: Tensor

    @classmethod
    def of(cls, train: Interactions, users: int, items: int, half_life: float) -> "RecentHistory":
        """The histories of `users` and `items` in `train`, which has times."""
        age = ages(train)
        order = np.lexsort((train.item_rows, -age, train.user_rows))
        age, owners = age[order], train.user_rows[order].astype(np.int64)
        columns = train.item_rows[order].astype(np.int64)
        offsets = np.append(0, np.cumsum(train.user_counts(users)))
        begins = _starts((owners[1:] != owners[:-1]) | (age[1:] != age[:-1]))
        pairs = owners * items + columns
        places = np.argsort(pairs)
        arrays = (offsets, columns, begins, offsets[owners + 1] - age, pairs[places], places)
        return cls(items, half_life, *map(torch.from_numpy, arrays))

    def to(self, device: torch.device) -> "RecentHistory":
        """A copy on `device`."""
        moved = {
            field.name: getattr(self, field.name).to(device) for field in fields(self) if field.type is Tensor
        }
        return replace(self, **moved)

    @property
    def window(self) -> int:
        """How many items before a positive are used."""
        return math.ceil(_HALVINGS * self.half_life)

    def vectors(self, table_ID: Tensor, exponent: float) -> Tensor:
        """[U, D]: the scaled sums of whole histories; `exponent` is a."""
        return self._bags(self.offsets[:-1], self.offsets[1:], exponent).sums(table_ID)

    def vectors_without(self, table_ID: Tensor, exponent: float, users_B: Tensor, items_B: Tensor) -> Tensor:
        """[B, D]: the scaled sums of what each user had used before one of its positives, as in training."""
        return self.before(users_B, items_B, exponent).sums(table_ID)

    def before(self, users_B: Tensor, items_B: Tensor, exponent: float) -> Bags:
        """The latest `window` items that each user had used before one of its positives."""
        at_B = self.places.index_select(0, torch.searchsorted(self.pairs, users_B * self.catalogue + items_B))
        stops_B = self.begins.index_select(0, at_B)
        firsts_B = torch.maximum(self.offsets.index_select(0, users_B), stops_B - self.window)
        return self._bags(firsts_B, stops_B, exponent)

    def _bags(self, firsts_B: Tensor, stops_B: Tensor, exponent: float) -> Bags:
        lengths_B = stops_B - firsts_B
        offsets = torch.zeros(len(lengths_B) + 1, dtype=torch.int64, device=lengths_B.device)
        torch.cumsum(lengths_B, 0, out=offsets[1:])
        owners_n = torch.repeat_interleave(lengths_B)
        places_n = torch.arange(len(owners_n), device=owners_n.device)
        places_n += (firsts_B - offsets[:-1]).index_select(0, owners_n)
        ages_n = stops_B.index_select(0, owners_n).sub_(self.ends.index_select(0, places_n))
        weights_n = ages_n.float().mul_(-1.0 / self.half_life).exp2_()
        totals_B = torch.segment_reduce(weights_n, "sum", lengths=lengths_B, initial=0.0)
        scale_B = scale(totals_B, exponent)
        weights_n *= scale_B.index_select(0, owners_n)
        return Bags(self.items.index_select(0, places_n), owners_n, offsets, weights_n)

    def __deepcopy__(self, _: dict[int, Any]) -> "RecentHistory":
        return self


def scale(totals: Tensor, exponent: float) -> Tensor:
    """n^-a for numbers of items, or for sums of their weights; one for an empty history."""
    return totals.clamp(min=1).pow(-exponent)
