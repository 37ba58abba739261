from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ncf.data.encode import encode_columns, filter_table, refuse_trivial
from ncf.data.interactions import Interactions
from ncf.data.options import PrepareOptions
from ncf.data.readers import Columns
from ncf.data.tables import Table
from ncf.data.vocabulary import Vocabulary
from ncf.errors import DataError


def columns(user: list[object], item: list[object], time: list[int] | None = None,
            rating: list[float] | None = None) -> Columns:  # fmt: skip
    return Columns(
        pl.Series(user),
        pl.Series(item),
        None if time is None else pl.Series(time),
        None if rating is None else pl.Series(rating, dtype=pl.Float32),
        None,
        "as given",
        {"user": "user", "item": "item"},
    )


def test_shapes_dtypes_and_order() -> None:
    table = encode_columns(columns([2, 1, 2], ["b", "a", "a"], [5, 6, 7]), PrepareOptions())
    assert table.interactions.user_rows.dtype == table.interactions.item_rows.dtype == np.int32
    assert table.interactions.user_rows.tolist() == [0, 1, 1]
    assert table.interactions.item_rows.tolist() == [0, 0, 1]
    assert table.interactions.timestamps is not None
    assert table.interactions.timestamps.tolist() == [6, 7, 5]
    assert table.users.ids.tolist() == [1, 2]
    assert table.dropped == {"duplicates": 0}


def test_the_latest_of_a_pair_counts_before_its_rating() -> None:
    source = columns([1, 1, 1, 2], [7, 7, 8, 7], [1, 2, 1, 1], [5, 1, 5, 4])
    table = encode_columns(source, PrepareOptions(min_rating=4))
    assert table.dropped == {"duplicates": 1, "below_min_rating": 1}
    pairs = [
        (table.users.ids[user], table.items.ids[item])
        for user, item in zip(table.interactions.user_rows, table.interactions.item_rows, strict=True)
    ]
    assert pairs == [(1, 8), (2, 7)]


def test_weights_of_repeated_pairs_are_added() -> None:
    draws = np.random.default_rng(0)
    source = columns(list(draws.integers(0, 4, 60)), list(draws.integers(0, 3, 60)),
                     list(draws.integers(0, 9, 60)), list(draws.integers(1, 6, 60)))  # fmt: skip
    source.weight = pl.Series(draws.random(60), dtype=pl.Float32)
    assert source.rating is not None
    rows = list(zip(source.user, source.item, source.time, source.rating, source.weight, strict=True))
    sums: dict[tuple[int, int], float] = {}
    ratings = {}
    for user, item, _, rating, weight in sorted(rows, key=lambda row: row[2]):
        sums[user, item] = sums.get((user, item), 0.0) + weight
        ratings[user, item] = rating
    slow = {pair: total for pair, total in sums.items() if ratings[pair] >= 3}
    table = encode_columns(source, PrepareOptions(repeats="sum", min_rating=3))
    kept = table.interactions
    assert kept.weights is not None
    assert kept.weights.dtype == np.float32
    pairs = zip(table.users.ids[kept.user_rows], table.items.ids[kept.item_rows], strict=True)
    assert dict(zip(pairs, kept.weights, strict=True)) == pytest.approx(slow)
    assert 0 < len(slow) < len(sums)
    assert table.dropped == {"repeats_summed": 60 - len(sums), "below_min_rating": len(sums) - len(slow)}


def test_min_rating_needs_ratings() -> None:
    with pytest.raises(
        DataError, match="--min-rating needs a rating column, and there is none: name it with --rating"
    ):
        encode_columns(columns([1], [2]), PrepareOptions(min_rating=4))


def test_select_leaves_only_what_is_marked() -> None:
    interactions = Interactions(np.array([0, 1, 2], np.int32), np.array([3, 2, 1], np.int32))
    table = Table(Vocabulary.build("abc"), Vocabulary.build([10, 11, 12, 13]), interactions, dropped={"x": 1})
    table = table.select(np.array([True, False, True]), np.array([False, True, True, True]))
    assert table.users.ids.tolist() == ["a", "c"]
    assert table.items.ids.tolist() == [11, 12, 13]
    assert table.interactions.user_rows.tolist() == [0, 1]
    assert table.interactions.item_rows.tolist() == [2, 0]
    assert table.interactions.item_rows.dtype == np.int32
    assert table.dropped == {"x": 1}
    assert table.select(np.ones(2, bool), np.ones(3, bool)) is table


def test_ids_that_do_not_occur_are_left_out() -> None:
    interactions = Interactions(np.array([0, 2], np.int32), np.array([3, 1], np.int32))
    table = Table(Vocabulary.build("abc"), Vocabulary.build([10, 11, 12, 13]), interactions)
    table = filter_table(table, PrepareOptions())
    assert (table.users.ids.tolist(), table.items.ids.tolist()) == (["a", "c"], [11, 13])
    assert table.dropped == {}


def test_k_core_reports_users_and_items() -> None:
    table = encode_columns(columns([1, 1, 2, 2, 3], [7, 8, 7, 8, 9]), PrepareOptions())
    kept = filter_table(table, PrepareOptions(min_user=2, min_item=2))
    assert kept.dropped == {"duplicates": 0, "k_core_interactions": 1, "k_core_users": 1, "k_core_items": 1}
    assert kept.users.ids.tolist() == [1, 2]
    assert filter_table(table, PrepareOptions()).interactions is table.interactions


@pytest.mark.parametrize(
    ("users", "items", "sentence"),
    [
        ([1, 1], [1, 2], "There is only one user, so nothing can be ranked"),
        ([1, 2], [1, 1], "There is only one item, so nothing can be ranked"),
        ([], [], "No interaction is left after the filters: lower --min-rating"),
    ],
)
def test_one_user_or_one_item_is_refused(users: list[int], items: list[int], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        refuse_trivial(len(set(users)), len(set(items)))
