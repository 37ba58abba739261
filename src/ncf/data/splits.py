"""Which interactions are held out, and which users and items are kept.

In: interactions sorted by user and item. Out: positions (int64) of those that are held out, or a mask of
those that stay. The decision worth knowing: a hold-out is "the row with the highest score of its user", so
the schemes (by time, at random, at random against popularity) differ only in the score, and each is one
vectorised pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from ncf.data.interactions import Bool, Int64, Interactions
from ncf.errors import DataError

Scheme = Literal["last", "random"]
Times = TypeVar("Times")


def as_scheme(name: str) -> Scheme:
    """`name` as a scheme of `hold_out`."""
    if name == "last":
        return "last"
    if name == "random":
        return "random"
    raise ValueError(f"there is no hold-out scheme '{name}'")


def hold_out(
    interactions: Interactions,
    users: int,
    scheme: Scheme,
    eligible: Bool,
    generator: np.random.Generator,
    popularity_exponent: float = 0.0,
    popularity: Int64 | None = None,
) -> Int64:
    """One position for each eligible user that has interactions, ascending by user.

    "last" takes the latest interaction; ties in time go to the highest item row. "random" takes item i with
    probability proportional to popularity(i) ** -popularity_exponent; 0 is uniform. `eligible` is [users].
    `popularity` [I] is counted here unless it is given, for interactions that are a part of all: of some users.
    Parts one after the other draw from the same generator what the whole draws.
    """
    if scheme == "last":
        return _highest(times_of(interactions.timestamps), interactions, users, eligible)
    noise = generator.gumbel(size=len(interactions))
    if popularity_exponent:
        counts = interactions.item_counts(0) if popularity is None else popularity
        noise -= popularity_exponent * np.log(counts[interactions.item_rows])
    return _highest(noise, interactions, users, eligible)


def times_of(times: Times | None) -> Times:
    """The times of interactions, which a split by time needs."""
    if times is None:
        raise DataError(
            "A split by time needs a time column, and there is none: name it with --time, or use "
            "--split random."
        )
    return times


def _highest(
    score: npt.NDArray[np.int64] | npt.NDArray[np.float64],
    interactions: Interactions,
    users: int,
    eligible: Bool,
) -> Int64:
    """The last position of each eligible user's highest score."""
    counts = interactions.user_counts(users)
    present = np.flatnonzero(counts)
    starts = (np.cumsum(counts) - counts)[present]
    if not len(present):
        return np.zeros(0, np.int64)
    best = np.repeat(np.maximum.reduceat(score, starts), counts[present])
    positions = np.where(score == best, np.arange(len(score)), -1)
    chosen = np.maximum.reduceat(positions, starts)
    return chosen[eligible[present]]


@dataclass(frozen=True)
class TemporalCut:
    """Masks over the interactions, [N] each; a row that is in none of them is dropped."""

    train: Bool
    validation: Bool
    test: Bool


def temporal_cut(
    interactions: Interactions, users: int, items: int, test: float, validation: float
) -> TemporalCut:
    """Cut all interactions at one moment: the last `test` share is the test, the `validation` share before
    it.

    Interactions after a cut count only if training knows both their user and their item.
    """
    times = times_of(interactions.timestamps)
    ranks = cut_ranks(len(times), test, validation)
    low, high = np.partition(times, ranks)[ranks]
    in_train = times < low
    train = interactions.take(in_train)
    known_user = train.user_counts(users) > 0
    known_item = train.item_counts(items) > 0
    known = known_user[interactions.user_rows] & known_item[interactions.item_rows]
    return TemporalCut(in_train, known & (times >= low) & (times < high), known & (times >= high))


def cut_ranks(size: int, test: float, validation: float) -> list[int]:
    """Which of `size` sorted times begin the validation and the test."""
    high = math.ceil((size - 1) * (1 - test))
    return [math.ceil((size - 1) * (1 - test - validation)) if validation else high, high]


def k_core(interactions: Interactions, users: int, items: int, min_user: int, min_item: int) -> Bool:
    """The rows that stay when users and items with too few interactions go, again and again until none is
    left.
    """
    keep = np.ones(len(interactions), bool)
    while True:
        user_counts = np.bincount(interactions.user_rows[keep], minlength=users)
        item_counts = np.bincount(interactions.item_rows[keep], minlength=items)
        enough = (user_counts >= min_user)[interactions.user_rows] & (item_counts >= min_item)[
            interactions.item_rows
        ]
        enough &= keep
        if int(enough.sum()) == int(keep.sum()):
            return keep
        keep = enough
