"""The splits that we make ourselves: who gives up what, and why.

In: a `Table` and the options. Out: `SplitParts`: training, and the held-out pairs of validation and test. The
decision worth knowing: a user gives up its held-out positives only if it keeps at least one for training and
enough unseen items exist for a full list; any other user stays in training whole, and is counted, so that
every list has the same length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from ncf.data.candidates import generator_for, n_unseen
from ncf.data.encode import Table, compact
from ncf.data.interactions import Bool, Int64, Interactions
from ncf.data.options import PrepareOptions
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


@dataclass(frozen=True)
class SplitParts:
    """What a split makes of a table: training and the held-out pairs (as interactions). `how` is for the
    report.
    """

    train: Interactions
    validation: Interactions
    test: Interactions
    how: dict[str, Any]


def split_table(table: Table, options: PrepareOptions) -> tuple[SplitParts, Table, dict[str, int]]:
    if options.split == "time":
        return _split_at_a_moment(table, options)
    return _leave_one_out(table, options), table, {}


def _leave_one_out(table: Table, options: PrepareOptions) -> SplitParts:
    """One test positive a user and, unless "none", one validation positive."""
    interactions, users, items = table.interactions, len(table.users), len(table.items)
    scheme, eligible, how = eligible_users(interactions.user_counts(users), items, options)
    test_at = hold_out(
        interactions, users, as_scheme(options.split), eligible, generator_for(options.seed, "test split")
    )
    rest = interactions.take(all_but(test_at, len(interactions)))
    validation_at = np.zeros(0, np.int64)
    if scheme != "none":
        validation_at = hold_out(
            rest, users, as_scheme(scheme), eligible, generator_for(options.seed, "validation split"),
            options.validation_popularity_exponent,
        )  # fmt: skip
    train = rest.take(all_but(validation_at, len(rest)))
    return SplitParts(train, rest.take(validation_at), interactions.take(test_at), how)


def eligible_users(counts: Int64, items: int, options: PrepareOptions) -> tuple[str, Bool, dict[str, Any]]:
    """The scheme of validation, which users give something up by `counts` [U], and how it is told."""
    scheme = options.split if options.validation == "auto" else options.validation
    least = 2 if scheme == "none" else 3
    long_enough = counts >= least
    eligible = long_enough & (items - counts >= options.negatives)
    _refuse_no_test(long_enough, eligible, counts, items, least)
    how = {
        "test": f"leave one out, {_SCHEMES[options.split]}",
        "validation": validation_name(scheme, options),
        "notes": describe_ineligible(long_enough, eligible, least, options),
    }
    return scheme, eligible, how


_SCHEMES = {"last": "the latest of each user", "random": "one at random of each user", "none": "none"}


def validation_name(scheme: str, options: PrepareOptions) -> str:
    if scheme == "random" and options.validation_popularity_exponent:
        return (
            f"{_SCHEMES[scheme]}, by popularity to the power of -{options.validation_popularity_exponent:g}"
        )
    return _SCHEMES[scheme]


def all_but(positions: Int64, size: int) -> Bool:
    keep = np.ones(size, bool)
    keep[positions] = False
    return keep


def describe_ineligible(long_enough: Bool, eligible: Bool, least: int, options: PrepareOptions) -> list[str]:
    notes = []
    short = int((~long_enough).sum())
    full = int((long_enough & ~eligible).sum())
    if short:
        notes.append(f"{short:,} users have fewer than {least} interactions and stay in training only")
    if full:
        notes.append(
            f"{full:,} users leave fewer than {options.negatives} items unseen and stay in training only"
        )
    return notes


def _refuse_no_test(long_enough: Bool, eligible: Bool, counts: Int64, items: int, least: int) -> None:
    if bool(eligible.any()):
        return
    if not bool(long_enough.any()):
        raise DataError(
            f"No user has {least} interactions or more, so none can be held out: give more data"
            + (", or use --validation none." if least == 3 else ".")
        )
    most = int((items - counts[long_enough]).max())
    if most < 1:
        raise DataError(
            "Every user has interacted with every item, so nothing can be ranked: give more items."
        )
    raise DataError(
        f"There are only {items:,} items, so lists with this many negatives do not exist: "
        f"use --negatives {most} or fewer."
    )


def _split_at_a_moment(table: Table, options: PrepareOptions) -> tuple[SplitParts, Table, dict[str, int]]:
    """The last part of all time is the test; what training does not know is dropped, with its users and
    items.
    """
    interactions = table.interactions
    share = validation_share(options)
    cut = temporal_cut(interactions, len(table.users), len(table.items), options.test_fraction, share)
    kept = cut.train | cut.validation | cut.test
    compacted = compact(Table(table.users, table.items, interactions.take(kept)))
    refuse_empty_past(len(compacted.users), len(compacted.items))
    enough = (
        n_unseen(compacted.interactions.csr(len(compacted.users)), len(compacted.items)) >= options.negatives
    )
    enough_here = enough[compacted.interactions.user_rows]
    test, validation = cut.test[kept] & enough_here, cut.validation[kept] & enough_here
    refuse_no_test_after(int(test.sum()))
    train = ~(test | validation)
    how = how_cut(enough, options)
    rows = compacted.interactions
    parts = SplitParts(rows.take(train), rows.take(validation), rows.take(test), how)
    return parts, compacted, {"unknown_after_cut": int((~kept).sum())}


def validation_share(options: PrepareOptions) -> float:
    """The share of all time that is validation, with `--split time`."""
    return 0.0 if options.validation == "none" else options.validation_fraction


def refuse_empty_past(users: int, items: int) -> None:
    if users < 2 or items < 2:
        raise DataError(
            "Before the cut in time there are no two users and two items: use --split last or random."
        )


def refuse_no_test_after(tests: int) -> None:
    if not tests:
        raise DataError(
            "No interaction after the cut in time belongs to a known user and item with enough unseen "
            "items: use a larger test fraction, fewer --negatives, or --split last."
        )


def how_cut(enough: Bool, options: PrepareOptions) -> dict[str, Any]:
    """How a cut in time is told; `enough` [U]: who leaves items enough for a list."""
    share = validation_share(options)
    return {
        "test": f"the last {options.test_fraction:.0%} of time",
        "validation": f"the {share:.0%} before" if share else "none",
        "notes": _crowded(enough, options),
    }


def _crowded(enough: Bool, options: PrepareOptions) -> list[str]:
    full = int((~enough).sum())
    if not full:
        return []
    return [f"{full:,} users leave fewer than {options.negatives} items unseen and stay in training only"]
