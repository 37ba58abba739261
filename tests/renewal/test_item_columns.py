"""What columns say of vectors: features and the regression against slow versions."""

import math
import re

import numpy as np
import polars as pl
import pytest

from ncf.renewal import item_columns
from ncf.renewal.item_columns import from_columns, item_features

ITEMS = 40
WORDS = ["Space", "war", "Ö3", "space-ship", "the", "love", "cat's", "Night", "Paris", "1984"]


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    random = np.random.default_rng(0)
    titles = [" ".join(random.choice(WORDS, random.integers(0, 5))) for _ in range(ITEMS)]
    return pl.DataFrame(
        {
            "id": [f"i{n}" for n in range(ITEMS)],
            "popularity": random.integers(0, 50, ITEMS),
            "title": [None, *titles[1:]],
            "year": [None if n % 7 == 0 else 1950 + n for n in range(ITEMS)],
            "genres": random.choice(["Drama War", "Comedy", "War"], ITEMS),
            "price": random.normal(size=ITEMS),
            "in_stock": random.random(ITEMS) < 0.5,
            "same": [3.0] * ITEMS,
            "nothing": pl.Series([None] * ITEMS, dtype=pl.Float64),
        }
    )


def slow_features(table: pl.DataFrame, most: int) -> np.ndarray:
    """[I, F], one value at a time."""
    columns: list[list[float]] = []
    for name in ("year", "price", "in_stock"):
        values = [None if value is None else float(value) for value in table[name]]
        there = [value for value in values if value is not None]
        mean = sum(there) / len(there)
        spread = math.sqrt(sum((value - mean) ** 2 for value in there) / len(there))
        columns.append([0.0 if value is None else (value - mean) / spread for value in values])
        if len(there) < len(values):
            columns.append([float(value is None) for value in values])
    words = [
        [set(re.findall(r"[^\W_]+", (text or "").lower())) for text in table[name]]
        for name in ("title", "genres")
    ]
    items: dict[tuple[int, str], int] = {}
    for number, column in enumerate(words):
        for found in column:
            for word in found:
                items[number, word] = items.get((number, word), 0) + 1
    kept = sorted((pair for pair in items if items[pair] >= 2), key=lambda pair: (-items[pair], *pair))[:most]
    for number, word in kept:
        weight = math.log(ITEMS / items[number, word]) + 1
        column = []
        for own in words[number]:
            others = [
                math.log(ITEMS / items[pair]) + 1 for pair in kept if pair[0] == number and pair[1] in own
            ]
            length = math.sqrt(sum(value**2 for value in others))
            column.append(weight / length if word in own else 0.0)
        columns.append(column)
    return np.array(columns).T


@pytest.mark.parametrize("most", [500, 4])
def test_features_are_those_of_a_slow_version(
    most: int, table: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_columns, "_MOST_WORDS", most)
    np.testing.assert_allclose(item_features(table), slow_features(table, most), atol=1e-5)


def test_id_and_popularity_are_no_content(table: pl.DataFrame) -> None:
    assert item_features(table.select("id", "popularity", "same", "nothing")) is None
    rare = pl.DataFrame({"id": [1, 2], "title": ["one", "two"]})
    assert item_features(rare) is None  # a word of one item says nothing of others
    other = table.with_columns(pl.lit("x").alias("id"), pl.lit(7).alias("popularity"))
    assert np.array_equal(item_features(other), item_features(table))


def slow_regression(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray, wanted: np.ndarray
) -> tuple[float, np.ndarray]:
    """The penalty with the least generalised cross-validation error, by the hat matrix, and the answer."""
    weights = weights / weights.sum()
    root = np.sqrt(weights)[:, None]
    mean_x, mean_y, spread = weights @ x, weights @ y, y.std(0)
    a, b = root * (x - mean_x), root * (y - mean_y) / spread
    scores = {}
    for penalty in item_columns._PENALTIES / len(x):
        inverse = np.linalg.inv(a.T @ a + penalty * np.eye(x.shape[1]))
        hat = a @ inverse @ a.T
        scores[penalty] = ((b - hat @ b) ** 2).sum() / (len(x) - 1 - np.trace(hat)) ** 2
    best = min(scores, key=lambda penalty: scores[penalty])
    slopes = np.linalg.solve(a.T @ a + best * np.eye(x.shape[1]), a.T @ b)
    return best, mean_y + (wanted - mean_x) @ slopes * spread


@pytest.mark.parametrize("noise", [0.01, 1.0, 30.0])
def test_the_regression_is_that_of_a_slow_version(noise: float) -> None:
    """At each level of noise another penalty is the best."""
    random = np.random.default_rng(3)
    features = random.normal(size=(60, 8)).astype(np.float32)
    values = features @ random.normal(size=(8, 3)) + noise * random.normal(size=(60, 3)) + 5
    known, wanted = random.permutation(60)[:45], np.array([1, 7])
    weights = random.random(45).astype(np.float32)
    given = values[known].astype(np.float32)
    penalty, slow = slow_regression(
        features[known].astype(float), given, weights.astype(float), features[wanted]
    )
    assert (penalty < 0.01) == (noise < 1)
    placed = from_columns(features, known, given, weights, wanted)
    np.testing.assert_allclose(placed, slow, rtol=1e-3, atol=1e-3)
    # Neither the order of known items nor the unit of the weights matters.
    order = random.permutation(45)
    again = from_columns(features, known[order], given[order], 9 * weights[order], wanted)
    np.testing.assert_allclose(again, placed, rtol=1e-4, atol=1e-4)


def test_a_single_known_item_and_a_constant_value_are_what_is_placed() -> None:
    features = np.eye(4, dtype=np.float32)
    ones = np.ones(1, np.float32)
    alone = from_columns(features, np.array([2]), np.array([[3.0, 4.0]], np.float32), ones, np.array([0, 1]))
    assert alone.tolist() == [[3.0, 4.0]] * 2
    constant = np.full((3, 1), 7.0, np.float32)
    placed = from_columns(features, np.arange(3), constant, np.ones(3, np.float32), np.array([3]))
    np.testing.assert_allclose(placed, [[7.0]], atol=1e-5)
