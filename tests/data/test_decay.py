"""Weights that halve with age, against the formula; times in every unit, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from ncf.data import Dataset
from ncf.data.decay import decayed, seconds, seconds_a_unit, with_trending
from ncf.errors import ConfigError

NOW = 1_700_000_000


def at(dataset: Dataset, times: np.ndarray, unit: str = "as given") -> Dataset:
    train = replace(dataset.train, timestamps=times.astype(np.int64))
    return replace(dataset, train=train, description={"time_unit": unit}, digest="times")


@pytest.mark.parametrize(
    ("half_life", "wanted"), [("12h", 43_200), ("1.5d", 129_600), ("2w", 1_209_600), (".5h", 1_800)]
)
def test_durations(half_life: str, wanted: float) -> None:
    assert seconds(half_life) == wanted


@pytest.mark.parametrize("steps", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_halve_with_age(dataset: Dataset, steps: int, weighted: bool) -> None:
    draws = np.random.default_rng(0)
    ages = draws.integers(0, 100 * 86_400, len(dataset.train))
    ages[3] = 0
    data = at(dataset, (NOW - ages) * steps)
    factors = draws.random(len(ages)).astype(np.float32) if weighted else None
    data = replace(data, train=replace(data.train, weights=factors))
    got = decayed(data, "30d").train.weights
    assert got is not None
    assert got.dtype == np.float32
    slow = [0.5 ** (age / (30 * 86_400)) for age in ages.tolist()]
    np.testing.assert_allclose(got, np.array(slow) * (1 if factors is None else factors), rtol=1e-6)
    assert decayed(data, "") is data
    assert decayed(data, "30d").digest == data.digest


def test_dates_are_microseconds_whatever_their_size(dataset: Dataset) -> None:
    assert seconds_a_unit(np.array([5]), "train.half_life", microseconds=True) == 1e-6
    data = at(dataset, dataset.train.item_rows * 60_000_000, "microseconds")
    newest = int(dataset.train.item_rows.max())
    trending = with_trending(data, "1h").item_columns["trending"].to_numpy()
    assert (np.flatnonzero(trending) > newest - 60).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_trending_is_what_was_used_in_the_window(dataset: Dataset, weighted: bool) -> None:
    draws = np.random.default_rng(0)
    ages = draws.integers(0, 20, len(dataset.train)) * 3600
    ages[3] = 0
    data = at(dataset, NOW - ages)
    weights = draws.random(len(ages)).astype(np.float32) if weighted else None
    data = replace(data, train=replace(data.train, weights=weights))
    slow = np.zeros(len(dataset.items))
    for place, (item, age) in enumerate(zip(data.train.item_rows, ages, strict=True)):
        slow[item] += (age < 5 * 3600) * (1 if weights is None else weights[place])
    found = with_trending(data, "5h")
    np.testing.assert_allclose(found.item_columns["trending"].to_numpy(), slow)
    assert found.item_columns.columns[:2] == ["id", "popularity"]
    assert 0 < slow.sum() < len(ages)
    assert with_trending(data, "") is data


def test_what_has_no_age_is_refused(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"train.half_life is a duration, .* 7, is no Unix time: prepare"):
        decayed(at(dataset, np.full(len(dataset.train), 7)), "30d")
    timeless = replace(dataset, train=replace(dataset.train, timestamps=None))
    with pytest.raises(ConfigError, match=r"train.half_life needs the times .* have none: prepare them with"):
        decayed(timeless, "30d")
