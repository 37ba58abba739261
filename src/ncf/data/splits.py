"""The splits that ncf makes: which interactions are held out, and for which users.

In: an `InteractionTable` and the options. Out: `SplitTables` (`split_table`), or for a table on the disk a
`SplitPlan`, which marks the rows of one part after the other. The decisions worth knowing: a user gives up
positives only if one is left for training and enough unseen items exist for full lists, so all lists have the
same length; any other user stays in training whole, and is counted. A hold-out is "the row with the highest
score of its user", so its schemes differ in the score only, and each is one vectorised pass.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
import numpy.typing as npt

from ncf.data.encode import AnyTable
from ncf.data.interactions import Bool, HeldOut, Int64, Interactions
from ncf.data.options import PrepareOptions
from ncf.data.tables import InteractionTable, SplitTables, Table, times_of
from ncf.errors import DataError

Labels = npt.NDArray[np.int8]
"""TRAIN, VALIDATION or TEST for each row."""
TRAIN, VALIDATION, TEST = range(3)


def generator_for(seed: int, purpose: str) -> np.random.Generator:
    """A stream of its own for each `purpose`, so that one more draw here changes nothing there."""
    number = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return np.random.default_rng([seed, number])


@dataclass(frozen=True)
class SplitPlan(Generic[AnyTable]):
    """A split that knows its users but has not looked at its rows.

    `table`: what is left to split. `label`: the label of each row of a part that `table.parts()` gives. It
    draws from one generator, so it wants every part once, in order; then it draws for the parts what it would
    for the whole. `how`: the split in words.
    """

    table: AnyTable
    label: Callable[[slice, Interactions], Labels]
    how: dict[str, Any]


def split_table(table: Table, options: PrepareOptions) -> SplitTables:
    """Split a table in memory as `options` ask."""
    plan = plan_split(table, options)
    table = plan.table
    ((users, rows),) = table.parts()
    labels = plan.label(users, rows)
    validation, test = (rows.take(labels == label) for label in (VALIDATION, TEST))
    refuse_no_test(len(test), options)
    return SplitTables(
        table.users,
        table.items,
        train=rows.take(labels == TRAIN),
        validation=HeldOut.without_lists(validation),
        test=HeldOut.without_lists(test),
        known=rows.csr(len(table.users)),
        how=plan.how,
        dropped=table.dropped,
    )


def plan_split(table: AnyTable, options: PrepareOptions) -> SplitPlan[AnyTable]:
    """Decide who gives up what; refuses a table of which nothing can be held out."""
    return _plan_time_cut(table, options) if options.split == "time" else _plan_leave_one_out(table, options)


def _plan_leave_one_out(table: AnyTable, options: PrepareOptions) -> SplitPlan[AnyTable]:
    """One test positive a user and, unless "none", one validation positive."""
    scheme, eligible, how = eligible_users(table.user_counts(), len(table.items), options)
    exponent = options.validation_popularity_exponent if scheme == "random" else 0.0
    popularity = _popularity_without_test(table, options, eligible) if exponent else None
    test_draws = generator_for(options.seed, "test split")
    validation_draws = generator_for(options.seed, "validation split")

    def label(users: slice, rows: Interactions) -> Labels:
        rows, eligible_here = rows.from_user(users.start), eligible[users]
        if options.split == "last":
            how["tied_users"] = how.get("tied_users", 0) + tied_users(rows, len(eligible_here), eligible_here)
        labels = np.zeros(len(rows), np.int8)
        labels[hold_out(rows, len(eligible_here), options.split, eligible_here, test_draws)] = TEST
        rest = labels == TRAIN
        draw = (eligible_here, validation_draws, exponent, popularity)
        at = hold_out(rows.take(rest), len(eligible_here), scheme, *draw)
        labels[np.flatnonzero(rest)[at]] = VALIDATION
        return labels

    return SplitPlan(table, label, how)


def _popularity_without_test(table: InteractionTable, options: PrepareOptions, eligible: Bool) -> Int64:
    """How often each item [I] occurs without the test: a pass of its own, which draws the same test."""
    counts, draws = np.zeros(len(table.items), np.int64), generator_for(options.seed, "test split")
    for users, rows in table.parts():
        rows, eligible_here = rows.from_user(users.start), eligible[users]
        test_at = hold_out(rows, len(eligible_here), options.split, eligible_here, draws)
        counts += rows.item_counts(len(counts)) - rows.take(test_at).item_counts(len(counts))
    return counts


def _plan_time_cut(table: AnyTable, options: PrepareOptions) -> SplitPlan[AnyTable]:
    """The last `test_fraction` of all time is the test, the `validation_fraction` before it the validation.

    After the cut, interactions whose user or item training does not know are dropped.
    """
    share = 0.0 if options.validation == "none" else options.validation_fraction
    low, high = table.times_at(_cut_ranks(len(table), options.test_fraction, share))
    known_users, known_items = np.zeros(len(table.users), bool), np.zeros(len(table.items), bool)
    for _, rows in table.parts():
        before = times_of(rows.timestamps) < low
        known_users[rows.user_rows[before]] = True
        known_items[rows.item_rows[before]] = True
    kept = table.select(known_users, known_items)
    if len(kept.users) < 2 or len(kept.items) < 2:
        raise DataError(
            "Before the cut in time there are no two users and two items: use --split last or random."
        )
    enough = len(kept.items) - kept.user_counts() >= options.negatives

    def label(_users: slice, rows: Interactions) -> Labels:
        times = times_of(rows.timestamps)
        labels = (times >= low).astype(np.int8) + (times >= high)
        return np.where(enough[rows.user_rows], labels, np.int8(TRAIN))

    how = {
        "test": f"the last {options.test_fraction:.0%} of time",
        "validation": f"the {share:.0%} before" if share else "none",
        "notes": describe_ineligible(np.ones(len(enough), bool), enough, 0, options),
    }
    return SplitPlan(kept.with_dropped({"unknown_after_cut": len(table) - len(kept)}), label, how)


def _cut_ranks(size: int, test: float, validation: float) -> list[int]:
    """Which of `size` sorted times begin the validation and the test, whose shares of all time are given."""
    high = math.ceil((size - 1) * (1 - test))
    return [math.ceil((size - 1) * (1 - test - validation)) if validation else high, high]


def refuse_no_test(tests: int, options: PrepareOptions) -> None:
    """Raise `DataError` if a wanted test has no interaction, which only a cut in time can lead to."""
    if not tests and options.split != "none":
        raise DataError(
            "No interaction after the cut in time belongs to a known user and item with enough unseen "
            "items: use a larger test fraction, fewer --negatives, or --split last."
        )


def hold_out(
    interactions: Interactions,
    users: int,
    scheme: str,
    eligible: Bool,
    generator: np.random.Generator,
    popularity_exponent: float = 0.0,
    popularity: Int64 | None = None,
) -> Int64:
    """One position for each eligible user that has interactions, ascending by user.

    `users`: how many users there are; `eligible`: a mask of them. The scheme "last" takes the latest
    interaction, and among equal times draws one from `generator`. "random" draws and takes item i with
    probability proportional to popularity(i) ** -popularity_exponent. "none" takes nothing. `popularity` [I]
    is counted here unless it is given, which parts of a table need.
    """
    if scheme == "none":
        return np.zeros(0, np.int64)
    score = _scores(interactions, scheme, generator, popularity_exponent, popularity)
    if scheme == "last":
        latest, _ = _is_highest(score, interactions, users)
        score = np.where(latest, generator.random(len(score)), -1.0)
    return _highest(score, interactions, users, eligible)


def tied_users(interactions: Interactions, users: int, eligible: Bool) -> int:
    """How many of the eligible users have their latest time more than once, so that a draw decides."""
    times = times_of(interactions.timestamps)
    latest, _ = _is_highest(times, interactions, users)
    several = np.bincount(interactions.user_rows[latest], minlength=users) > 1
    return int((several & eligible).sum())


def hold_out_share(
    interactions: Interactions,
    users: int,
    scheme: str,
    share: float,
    generator: np.random.Generator,
    popularity_exponent: float = 0.0,
) -> Int64:
    """Positions, ascending, of a `share` of each user's interactions, rounded half up; one always stays.

    The other arguments are those of `hold_out`: "last" takes the latest ones.
    """
    counts = interactions.user_counts(users)
    taken = np.minimum((counts * share + 0.5).astype(np.int64), np.maximum(counts - 1, 0))
    score = _scores(interactions, scheme, generator, popularity_exponent)
    ties = (generator.random(len(score)),) if scheme == "last" else ()
    order = np.lexsort((*ties, score, interactions.user_rows))
    left_behind = np.repeat(np.cumsum(counts), counts) - 1 - np.arange(len(order))
    return np.sort(order[left_behind < np.repeat(taken, counts)])


Scores = npt.NDArray[np.int64] | npt.NDArray[np.float64]


def _scores(
    interactions: Interactions,
    scheme: str,
    generator: np.random.Generator,
    popularity_exponent: float,
    popularity: Int64 | None = None,
) -> Scores:
    """One score for each interaction: a hold-out takes each user's highest."""
    if scheme == "last":
        return times_of(interactions.timestamps)
    if scheme != "random":
        raise ValueError(f"there is no hold-out scheme '{scheme}'")
    noise = generator.gumbel(
        size=len(interactions)
    )  # the highest of logits with Gumbel noise is a softmax draw
    if popularity_exponent:
        counts = interactions.item_counts(0) if popularity is None else popularity
        noise -= popularity_exponent * np.log(counts[interactions.item_rows])
    return noise


def _highest(
    score: Scores,
    interactions: Interactions,
    users: int,
    eligible: Bool,
) -> Int64:
    """The last position of each eligible user's highest score."""
    highest, counts = _is_highest(score, interactions, users)
    present = np.flatnonzero(counts)
    if not len(present):
        return np.zeros(0, np.int64)
    positions = np.where(highest, np.arange(len(score)), -1)
    chosen = np.maximum.reduceat(positions, (np.cumsum(counts) - counts)[present])
    return chosen[eligible[present]]


def _is_highest(score: Scores, interactions: Interactions, users: int) -> tuple[Bool, Int64]:
    """Which scores are the highest of their user, [N], and how many interactions each user has, [users]."""
    counts = interactions.user_counts(users)
    present = np.flatnonzero(counts)
    if not len(present):
        return np.zeros(0, bool), counts
    starts = (np.cumsum(counts) - counts)[present]
    return score == np.repeat(np.maximum.reduceat(score, starts), counts[present]), counts


def eligible_users(counts: Int64, items: int, options: PrepareOptions) -> tuple[str, Bool, dict[str, Any]]:
    """Who gives something up when `options` leave one out.

    `counts`: interactions of each user, [U]; `items`: how many items there are. Returns the scheme of the
    validation ("last", "random" or "none"), the mask of eligible users [U], and the split in words; refuses
    if nobody is eligible.
    """
    scheme = options.split if options.validation == "auto" else options.validation
    least = 1 + (options.split != "none") + (scheme != "none")
    if least == 1:
        how = {"test": "nothing is held out", "validation": "none", "notes": []}
        return scheme, np.ones(len(counts), bool), how
    long_enough = counts >= least
    eligible = long_enough & (items - counts >= options.negatives)
    _refuse_nobody(long_enough, eligible, counts, items, least)
    how = {
        "test": f"leave one out, {_SCHEMES[options.split]}" if options.split != "none" else "no test",
        "validation": validation_name(scheme, options),
        "notes": describe_ineligible(long_enough, eligible, least, options),
    }
    return scheme, eligible, how


_SCHEMES = {"last": "the latest of each user", "random": "one at random of each user", "none": "none"}


def validation_name(scheme: str, options: PrepareOptions) -> str:
    """The scheme of the validation in words, with its power of popularity."""
    if scheme == "random" and options.validation_popularity_exponent:
        return (
            f"{_SCHEMES[scheme]}, by popularity to the power of -{options.validation_popularity_exponent:g}"
        )
    return _SCHEMES[scheme]


def describe_ineligible(long_enough: Bool, eligible: Bool, least: int, options: PrepareOptions) -> list[str]:
    """Notes for the report on users who give nothing up.

    `long_enough` [U]: who has `least` interactions; `eligible` [U]: who also leaves items enough for a list.
    """
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


def _refuse_nobody(long_enough: Bool, eligible: Bool, counts: Int64, items: int, least: int) -> None:
    if bool(eligible.any()):
        return
    if not bool(long_enough.any()):
        raise DataError(
            f"No user has {least} interactions or more, so none can be held out: give more data, or use "
            + ("--validation none." if least == 3 else "--split none to train on everything.")
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
