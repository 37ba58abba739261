from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ncf.data.encode import item_columns
from ncf.errors import DataError

POPULARITY = np.array([3, 0, 5], np.int64)


def test_shape_and_dtype_without_a_table() -> None:
    columns = item_columns(pl.Series([10, 20, 30]), POPULARITY)
    assert columns.columns == ["id", "popularity"]
    assert columns.dtypes == [pl.Int64, pl.Int64]
    assert columns["popularity"].to_list() == [3, 0, 5]


def test_titles_are_joined_in_row_order() -> None:
    table = pl.DataFrame(
        {"class": ["x", "y", "z"], "movie_title": ["C", "?", "A"], "item_id": ["30", "99", "10"]}
    )
    columns = item_columns(pl.Series([10, 20, 30]), POPULARITY, table)
    assert columns.columns == ["id", "popularity", "title", "genres"]
    assert columns["title"].to_list() == ["A", None, "C"]
    assert columns["id"].to_list() == [10, 20, 30]


def test_string_ids_find_integers_of_the_table() -> None:
    table = pl.DataFrame(
        {"id": [7, 8], "name": ["seven", "eight"], "popularity": [1, 1], "brand": ["a", "b"]}
    )
    columns = item_columns(pl.Series(["7", "x"]), POPULARITY[:2], table)
    assert columns.columns == ["id", "popularity", "title", "brand"]
    assert columns.rows() == [("7", 3, "seven", "a"), ("x", 0, None, None)]


def test_the_first_of_repeated_ids_counts() -> None:
    table = pl.DataFrame({"item": [1, 1], "title": ["first", "second"]})
    assert item_columns(pl.Series([1]), POPULARITY[:1], table)["title"].to_list() == ["first"]


def test_lists_and_structs_become_text() -> None:
    table = pl.DataFrame({"item": [1], "genres": [["Drama", "War"]], "more": [{"a": 1}]})
    assert item_columns(pl.Series([1]), POPULARITY[:1], table).row(0) == (1, 3, "Drama War", '{"a":1}')


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            None,
            "no column that looks like the item id in the table of items: "
            "name it with --items-id; the columns are a",
        ),
        ("sku", "no column 'sku' in the table of items"),
    ],
)
def test_no_id_column(name: str | None, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        item_columns(pl.Series([1]), POPULARITY[:1], pl.DataFrame({"a": [1]}), name)


def test_named_id_column() -> None:
    table = pl.DataFrame({"SKU": [1], "title": ["one"]})
    assert item_columns(pl.Series([1]), POPULARITY[:1], table, "sku")["title"].to_list() == ["one"]
