"""Age: a training interaction weighs less the older it is, and what is used lately is trending.

In: a data set with times, and a half-life or a window such as "30d". Out: the same data with weights, which
halve with each half-life of age before the newest training interaction, or with a column `trending` of the
items. Weights that the data have are multiplied and added up. The decision worth knowing: nothing else knows
of decay. Whatever knows weights knows it too.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from ncf.data.dataset import Dataset
from ncf.data.interactions import Int64
from ncf.errors import ConfigError

_SECONDS = {"h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_UNITS = ((1e8, 1.0), (1e11, 1e-3), (1e14, 1e-6), (1e17, 1e-9))
"""From which time on Unix times are in seconds, milliseconds, microseconds or nanoseconds: since 1973, for
the next 3,000 years."""
_ROWS = 2**20
TRENDING = "trending"
"""The column of items."""


def seconds(duration: str) -> float:
    """How many seconds a duration of hours, days or weeks has, such as 12h, 30d or 2w."""
    return float(duration[:-1]) * _SECONDS[duration[-1]]


def seconds_a_unit(times: Int64 | None, what: str, microseconds: bool = False) -> float:
    """How many seconds one step of `times` is, by their size; `what` needs it, such as train.half_life.

    `microseconds`: the source had dates. Raises `ConfigError` where there are no times, or no Unix times.
    """
    if times is None:
        raise ConfigError(
            f"{what} needs the times of interactions, and these data have none: prepare them with a time "
            f"column (--time), or leave {what} out."
        )
    newest = int(times.max(initial=0))
    unit = next((unit for least, unit in reversed(_UNITS) if newest >= least), None)
    if unit is None and not microseconds:
        raise ConfigError(
            f"{what} is a duration, and the latest time of these data, {newest}, is no Unix time: prepare "
            "them with dates or Unix times."
        )
    return 1e-6 if microseconds or unit is None else unit


def period(dataset: Dataset, duration: str, what: str) -> float:
    """The `duration` (see `seconds`) in steps of the times of `dataset`; raises as `seconds_a_unit` does."""
    has_dates = dataset.description.get("time_unit") == "microseconds"
    return seconds(duration) / seconds_a_unit(dataset.train.timestamps, what, has_dates)


def decayed(dataset: Dataset, half_life: str) -> Dataset:
    """The data with weights that halve with each `half_life` (see `seconds`); as it is where that is empty.

    Raises what `seconds_a_unit` raises.
    """
    if not half_life:
        return dataset
    steps, train = period(dataset, half_life, "train.half_life"), dataset.train
    assert train.timestamps is not None
    newest, weights = train.timestamps.max(initial=0), np.empty(len(train), np.float32)
    for start in range(0, len(train), _ROWS):
        part = slice(start, start + _ROWS)
        weights[part] = np.exp2((train.timestamps[part] - newest) / steps)
    if train.weights is not None:
        weights *= train.weights
    return replace(dataset, train=replace(train, weights=weights))


def recent_uses(times: Int64, item_rows: Any, weights: Any, items: int, steps: float) -> Any:
    """[`items`]: how many interactions of the last `steps` before the newest each item has, or their weights.

    `times`, `item_rows` and `weights` (None: all count alike) are [N].
    """
    recent = times > times.max(initial=0) - steps
    return np.bincount(item_rows[recent], None if weights is None else weights[recent], minlength=items)


def with_trending(dataset: Dataset, window: str) -> Dataset:
    """The data with a column `trending` of the items: their uses in the `window` before the newest.

    As it is where `window` is empty. Raises what `seconds_a_unit` raises.
    """
    if not window:
        return dataset
    train, steps = dataset.train, period(dataset, window, "train.trending")
    assert train.timestamps is not None
    uses = recent_uses(train.timestamps, train.item_rows, train.weights, len(dataset.items), steps)
    return replace(dataset, item_columns=dataset.item_columns.with_columns(pl.Series(TRENDING, uses)))
