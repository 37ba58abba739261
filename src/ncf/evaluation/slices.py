"""Metrics by group of held-out rows: by the user's activity, and by the popularity of the held-out item.

In: one value a row for each metric (`EvaluationResult.values`), and a count a row that decides its group.
Out: a `Group` for each bucket that occurs, with means and 95% intervals. The decision worth knowing: buckets
are fixed rather than quantiles of the data, so tables of two models or data sets can be compared. Only head,
torso and tail follow the data; each holds a third of all training interactions.

`evaluate_full` sorts its values by user: sort the held-out rows with `sorted_by_user` first, and both
protocols have one order.

Arguments shared by all functions: `values` maps a metric to its values [T]; `resamples` is the size of the
bootstrap (0: no intervals); `users_T` [T] names each row's user, so that intervals are over users who have
several rows.

Legend: T held-out rows, I items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ncf.data import HeldOut
from ncf.evaluation import significance
from ncf.runtime import seed_of

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.integer[Any]]
Bucket = tuple[int, int | None]

ACTIVITY: tuple[Bucket, ...] = (
    (0, 0), (1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, 200), (201, None),
)  # fmt: skip
"""Training interactions of the user: smallest and largest count, None for no upper end."""
ITEM_COUNTS: tuple[Bucket, ...] = ((0, 0), (1, 5), (6, 20), (21, 50), (51, 200), (201, 1000), (1001, None))
"""Training interactions of the held-out item."""
_PARTS = ("head", "torso", "tail")
_RESAMPLES = 1000


@dataclass(frozen=True)
class Group:
    """The metrics of `rows` held-out rows whose count is between `low` and `high` (None: no upper end)."""

    label: str
    low: int
    high: int | None
    rows: int
    means: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    def to_json(self) -> dict[str, object]:
        """What `--json` holds."""
        return {
            "group": self.label,
            "low": self.low,
            "high": self.high,
            "rows": self.rows,
            "metrics": self.means,
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
        }


def by_activity(
    counts_T: Counts, values: Mapping[str, Floats], resamples: int = _RESAMPLES, users_T: Counts | None = None
) -> list[Group]:
    """Groups by `counts_T` [T], the training interactions of each row's user: 1, 2, 3-5, 6-10, … 201+."""
    return by_counts(counts_T, values, ACTIVITY, resamples, users_T)


def by_item_count(
    counts_T: Counts, values: Mapping[str, Floats], resamples: int = _RESAMPLES, users_T: Counts | None = None
) -> list[Group]:
    """Groups by `counts_T` [T], the training interactions of each row's held-out item; 0 and 1-5 are cold."""
    return by_counts(counts_T, values, ITEM_COUNTS, resamples, users_T)


def by_counts(
    counts_T: Counts,
    values: Mapping[str, Floats],
    buckets: Sequence[Bucket],
    resamples: int = _RESAMPLES,
    users_T: Counts | None = None,
) -> list[Group]:
    """Groups by `counts_T` [T] in these `buckets` (low, high); empty buckets are left out.

    So are metrics whose values are not one a row (`recall@k`, where users have several rows).
    """
    return [
        _group(label_of((low, high)), (low, high), inside_T, values, resamples, users_T)
        for low, high in buckets
        if (inside_T := (counts_T >= low) & (counts_T <= (np.inf if high is None else high))).any()
    ]


def by_popularity(
    items_T: Counts,
    popularity_I: Counts,
    values: Mapping[str, Floats],
    resamples: int = _RESAMPLES,
    users_T: Counts | None = None,
) -> list[Group]:
    """Head, torso and tail, each with a third of all training interactions, from the most popular items down.

    `items_T` [T] are the held-out items and `popularity_I` [I] the training interactions of every item; a
    group's `low` and `high` are the counts of its items. Equally popular items are in the same group: that of
    the first of them.
    """
    parts_I = parts_of(popularity_I)
    groups = []
    for number, name in enumerate(_PARTS):
        inside_T = parts_I[items_T] == number
        if inside_T.any():
            uses = popularity_I[parts_I == number]
            bucket = int(uses.min()), int(uses.max())
            label = f"{name} ({(parts_I == number).sum():,} items, {label_of(bucket)} uses)"
            groups.append(_group(label, bucket, inside_T, values, resamples, users_T))
    return groups


def parts_of(popularity_I: Counts) -> npt.NDArray[np.int64]:
    """[I]: 0 for an item of the head, 1 of the torso, 2 of the tail; `popularity_I` [I] as above."""
    uses = np.sort(popularity_I.astype(np.int64))[::-1]
    before = np.cumsum(uses) - uses  # interactions of all items before this one
    ascending = uses[::-1]
    more_used_I = len(uses) - np.searchsorted(ascending, popularity_I, side="right")
    before_I = np.append(before, uses.sum())[more_used_I]
    total = max(1, int(uses.sum()))
    return np.asarray(np.minimum(3 * before_I // total, 2), np.int64)


def label_of(bucket: Bucket) -> str:
    """A `bucket` (low, high) in print: 1, 3-5, 201+."""
    low, high = bucket
    if high is None:
        return f"{low:,}+"
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def sorted_by_user(held_out: HeldOut) -> HeldOut:
    """The rows of `held_out` in the order of the values of `evaluate_full`."""
    return held_out.take(np.argsort(held_out.user_rows, kind="stable"))


def sample(rows: int, most: int, seed: int = 0, purpose: str = "report-rows") -> npt.NDArray[np.int64]:
    """Positions of at most `most` of so many held-out `rows`, ascending, by the seed and the `purpose`."""
    if rows <= most:
        return np.arange(rows)
    random = np.random.default_rng(seed_of(seed, purpose))
    return np.sort(random.choice(rows, most, replace=False))


def _group(
    label: str,
    bucket: Bucket,
    inside_T: npt.NDArray[np.bool_],
    values: Mapping[str, Floats],
    resamples: int,
    users_T: Counts | None,
) -> Group:
    own = {name: row[inside_T] for name, row in values.items() if len(row) == len(inside_T)}
    pairs = np.zeros((0, 2))
    if resamples and own:
        users = None if users_T is None else users_T[inside_T]
        pairs = significance.intervals(np.stack(list(own.values())), resamples, users=users)
    return Group(
        label,
        *bucket,
        int(inside_T.sum()),
        {name: float(row.mean()) for name, row in own.items()},
        {name: (float(low), float(high)) for name, (low, high) in zip(own, pairs, strict=False)},
    )
