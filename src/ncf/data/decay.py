"""Decay: a training interaction weighs less the older it is.

In: a data set with times and a half-life such as "30d". Out: the same data with weights, which halve with
each half-life of age before the newest training interaction. Weights that the data have are multiplied by
them. The decision worth knowing: nothing else knows of decay. Whatever knows weights knows it too.
"""

from dataclasses import replace

import numpy as np

from ncf.data.dataset import Dataset
from ncf.errors import ConfigError

_SECONDS = {"h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_UNITS = ((1e8, 1.0), (1e11, 1e-3), (1e14, 1e-6), (1e17, 1e-9))
"""From which time on Unix times are in seconds, milliseconds, microseconds or nanoseconds: since 1973, for
the next 3,000 years."""
_ROWS = 2**20


def seconds(duration: str) -> float:
    """How many seconds a duration of hours, days or weeks has, such as 12h, 30d or 2w."""
    return float(duration[:-1]) * _SECONDS[duration[-1]]


def seconds_a_unit(dataset: Dataset, what: str) -> float:
    """How many seconds one step of the training times is; `what` needs it, such as train.half_life.

    Raises `ConfigError` where there are no times, or where they are neither dates nor Unix times.
    """
    times = dataset.train.timestamps
    if times is None:
        raise ConfigError(
            f"{what} needs the times of interactions, and these data have none: prepare them with a time "
            f"column (--time), or leave {what} out."
        )
    if dataset.description.get("time_unit") == "microseconds":
        return 1e-6
    newest = int(times.max(initial=0))
    unit = next((unit for least, unit in reversed(_UNITS) if newest >= least), None)
    if unit is None:
        raise ConfigError(
            f"{what} is a duration, and the latest time of these data, {newest}, is no Unix time: prepare "
            "them with dates or Unix times."
        )
    return unit


def decayed(dataset: Dataset, half_life: str) -> Dataset:
    """The data with weights that halve with each `half_life` (see `seconds`); as it is where that is empty.

    Raises what `seconds_a_unit` raises.
    """
    if not half_life:
        return dataset
    period = seconds(half_life) / seconds_a_unit(dataset, "train.half_life")
    train = dataset.train
    assert train.timestamps is not None
    newest, weights = train.timestamps.max(initial=0), np.empty(len(train), np.float32)
    for start in range(0, len(train), _ROWS):
        part = slice(start, start + _ROWS)
        weights[part] = np.exp2((train.timestamps[part] - newest) / period)
    if train.weights is not None:
        weights *= train.weights
    return replace(dataset, train=replace(train, weights=weights))
