"""Candidate lists: the items among which a model must rank a held-out positive.

In: held-out positives and every known positive of each user. Out: `HeldOut` lists and their audit.
The decision worth knowing: a negative is drawn as a rank among the items that its user does not have, and the
rank is turned into an item by bisection. Every draw is therefore verified by construction, uniform and
without replacement, with no rejection.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ncf.data.interactions import Csr, HeldOut, Int32, Int64, count_before
from ncf.data.options import PrepareOptions
from ncf.data.splits import generator_for
from ncf.data.tables import STAGES, SplitTables, Stage
from ncf.errors import DataError

CHUNK = 1_024
"""Lists that are drawn at once."""


def with_candidates(
    tables: SplitTables, options: PrepareOptions, stages: tuple[Stage, ...] = STAGES
) -> SplitTables:
    """Draw `options.negatives` negatives for each held-out positive of `stages`."""
    for stage in stages:
        held_out = tables.validation if stage == "validation" else tables.test
        generator = generator_for(options.seed, f"{stage} candidates")
        lists = draw(
            held_out.user_rows,
            held_out.positives,
            tables.known,
            len(tables.items),
            options.negatives,
            generator,
        )
        tables = _with_lists(tables, stage, replace(held_out, candidates=lists.candidates), "drawn")
    return tables


def _with_lists(tables: SplitTables, stage: Stage, lists: HeldOut, origin: str) -> SplitTables:
    how = {**tables.how, f"{stage}_lists": origin}
    if stage == "validation":
        return replace(tables, validation=lists, how=how)
    return replace(tables, test=lists, how=how)


def draw(
    user_rows: Int32, positives: Int32, known: Csr, items: int, count: int, generator: np.random.Generator
) -> HeldOut:
    """Lists of a positive and `count` distinct items that its user is not known to have.

    `user_rows`, `positives`: [T], held-out pairs; `known`: every positive of each user; `items`: how many
    items there are. A user with fewer than `count` unseen items is refused. Draws come from `generator`.
    """
    least = int(_n_unseen(user_rows, known, items).min(initial=items))
    if len(user_rows) and least < count:
        raise DataError(
            f"A user has interacted with so many of the {items:,} items that {count} negatives do not exist: "
            f"use --negatives {max(1, least)} or fewer."
        )
    candidates = np.empty((len(user_rows), 1 + count), np.int32)
    candidates[:, 0] = positives
    for start in range(0, len(user_rows), CHUNK):
        part = slice(start, start + CHUNK)
        candidates[part, 1:] = _negatives(user_rows[part], known, items, count, generator)
    return HeldOut(np.asarray(user_rows, np.int32), candidates)


def _n_unseen(user_rows: Int32, known: Csr, items: int) -> Int64:
    """How many items each of the users is not known to have: [T]."""
    return items - (known.offsets[user_rows + 1] - known.offsets[user_rows])


def _negatives(
    user_rows: Int32, known: Csr, items: int, count: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    available = _n_unseen(user_rows, known, items)
    ranks = np.empty((len(user_rows), count), np.int64)
    sparse = available >= 4 * count
    ranks[sparse] = _distinct_by_redrawing(available[sparse], count, generator)
    if not bool(sparse.all()):
        ranks[~sparse] = _distinct_by_shuffling(available[~sparse], count, generator)
    return _missing_item(known, user_rows, ranks)


def _distinct_by_redrawing(available: Int64, count: int, generator: np.random.Generator) -> Int64:
    """[T, count] distinct numbers below `available`, a row each; fast where they are few among many."""
    ranks = generator.integers(0, available[:, None], size=(len(available), count))
    pending = np.arange(len(available))
    while len(pending):
        block = np.sort(ranks[pending], axis=1)
        repeated = np.zeros(block.shape, bool)
        repeated[:, 1:] = block[:, 1:] == block[:, :-1]
        again = repeated.any(axis=1)
        limits = np.broadcast_to(available[pending][:, None], block.shape)[repeated]
        block[repeated] = generator.integers(0, limits)
        ranks[pending] = block
        pending = pending[again]
    return ranks


def _distinct_by_shuffling(available: Int64, count: int, generator: np.random.Generator) -> Int64:
    """As `_distinct_by_redrawing`, by a shuffle of all numbers; fast if there are few more than `count`."""
    keys = generator.random((len(available), int(available.max(initial=0))))
    keys[np.arange(keys.shape[1]) >= available[:, None]] = 2.0
    return np.argsort(keys, axis=1)[:, :count]


def _missing_item(known: Csr, users: Int32, ranks: Int64) -> Int64:
    """The item at `ranks` (from 0) among those that the user does not have, ascending.

    Before the item at position j of a user's sorted items are `column - j` missing ones, a number that rises
    with j, so the position is found by bisection.
    """
    return ranks + count_before(known, users, ranks, unused=True) if len(known.columns) else ranks


def with_published_lists(tables: SplitTables, negatives: Int32) -> SplitTables:
    """Give the test published lists: `negatives` is [T, N], kept in order, defects included."""
    candidates = np.concatenate([tables.test.positives[:, None], negatives], axis=1).astype(np.int32)
    return _with_lists(tables, "test", replace(tables.test, candidates=candidates), "as published")


def audit(lists: HeldOut, known: Csr, train: Csr) -> dict[str, int]:
    """How many lists have a defect of each kind, among `lists` lists of `negatives` negatives.

    `known`: every positive of each user; `train`: those of training, a part of `known`.
    """
    counts = {
        "lists": len(lists),
        "negatives": lists.candidates.shape[1] - 1,
        "with_duplicates": 0,
        "positive_among_negatives": 0,
        "training_positives_among_negatives": 0,
        "known_positives_among_negatives": 0,
    }
    for start in range(0, len(lists), CHUNK):
        users = lists.user_rows[start : start + CHUNK]
        block = lists.candidates[start : start + CHUNK]
        positive, others = block[:, :1], np.sort(block[:, 1:], axis=1)
        is_positive = others == positive
        is_known = known.contains_lists(users, others)
        in_train = train.contains_lists(users, others) if bool(is_known.any()) else is_known
        other_known = is_known & ~is_positive
        counts["with_duplicates"] += _lists(others[:, 1:] == others[:, :-1])
        counts["positive_among_negatives"] += _lists(is_positive)
        counts["training_positives_among_negatives"] += _lists(in_train)
        counts["known_positives_among_negatives"] += _lists(other_known)
    return counts


def _lists(defects: npt.NDArray[np.bool_]) -> int:
    return int(defects.any(axis=1).sum())
