from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ncf.data.item_table import GENRES, ItemTable, item_columns, read_items
from ncf.errors import DataError

POPULARITY = np.array([3, 0, 5], np.int64)


def joined(ids: list[object], table: pl.DataFrame, name: str | None = None) -> pl.DataFrame:
    popularity = POPULARITY[: len(ids)]
    return item_columns(pl.Series(ids), popularity, ItemTable(table, "items.csv"), name)[0]


def test_shape_and_dtype_without_a_table() -> None:
    columns, note = item_columns(pl.Series([10, 20, 30]), POPULARITY)
    assert note is None
    assert columns.columns == ["id", "popularity"]
    assert columns.dtypes == [pl.Int64, pl.Int64]
    assert columns["popularity"].to_list() == [3, 0, 5]


def test_titles_are_joined_in_row_order() -> None:
    table = pl.DataFrame(
        {"class": ["x", "y", "z"], "movie_title": ["C", "?", "A"], "item_id": ["30", "99", "10"]}
    )
    columns = joined([10, 20, 30], table)
    assert columns.columns == ["id", "popularity", "title", "genres"]
    assert columns["title"].to_list() == ["A", None, "C"]
    assert columns["id"].to_list() == [10, 20, 30]


def test_string_ids_find_integers_of_the_table() -> None:
    table = pl.DataFrame(
        {"id": [7, 8], "name": ["seven", "eight"], "popularity": [1, 1], "brand": ["a", "b"]}
    )
    columns = joined(["7", "x"], table)
    assert columns.columns == ["id", "popularity", "title", "brand"]
    assert columns.rows() == [("7", 3, "seven", "a"), ("x", 0, None, None)]


def test_the_first_of_repeated_ids_counts() -> None:
    table = pl.DataFrame({"item": [1, 1], "title": ["first", "second"]})
    assert joined([1], table)["title"].to_list() == ["first"]


def test_lists_and_structs_become_text() -> None:
    table = pl.DataFrame({"item": [1], "genres": [["Drama", "War"]], "more": [{"a": 1}]})
    assert joined([1], table).row(0) == (1, 3, "Drama War", '{"a":1}')


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            None,
            "no column that looks like the item id in items.csv: name it with --items-id; the columns are a",
        ),
        ("sku", "no column 'sku' in items.csv"),
    ],
)
def test_no_id_column(name: str | None, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        joined([1], pl.DataFrame({"a": [1]}), name)


def test_named_id_column() -> None:
    table = pl.DataFrame({"SKU": [1], "title": ["one"]})
    assert joined([1], table, "sku")["title"].to_list() == ["one"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("items.csv", "item_id,title,ean,price\n0042,007,0001,1.50\n7,8,1,1.5\n"),
        (
            "items.jsonl",
            '{"item_id": "0042", "title": "007", "ean": "0001", "price": "1.50"}\n'
            '{"item_id": 7, "title": 8}\n',
        ),
    ],
)
def test_text_stays_as_it_is_written(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    columns, note = item_columns(pl.Series(["0042", "7", "x"]), POPULARITY, read_items(tmp_path / name))
    assert columns["title"].to_list() == ["007", "8", None]
    assert columns["ean"][0] == "0001"
    assert columns["price"][0] == "1.50"
    assert note == f"titles for 2 of 3 items from {name} (column item_id)"


def test_numbers_that_lose_nothing_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item,year,price\n1,1999,2.5\n2,,0.25\n")
    columns, note = item_columns(pl.Series([1, 2]), POPULARITY[:2], read_items(tmp_path / "items.csv"))
    assert columns["year"].to_list() == [1999, None]
    assert columns["price"].to_list() == [2.5, 0.25]
    assert note == "rows for 2 of 2 items from items.csv (column item)"


@pytest.mark.parametrize("ids", [["1.0", "2.0"], [1.0, 2.0], [Decimal(1), Decimal(2)], ["1", "2"]])
def test_ids_are_read_as_those_of_interactions(ids: list[object]) -> None:
    assert joined([1, 2], pl.DataFrame({"item": ids, "title": ["a", "b"]}))["title"].to_list() == ["a", "b"]


def test_the_column_whose_ids_are_found_is_the_key() -> None:
    table = pl.DataFrame({"item": ["sku-1"], "id": [1], "title": ["one"]})
    assert joined([1], table)["title"].to_list() == ["one"]


def test_a_table_that_matches_nothing() -> None:
    with pytest.raises(
        DataError, match=r"None of the 2 items is in items\.csv: its column 'item' .* 'SKU1'.* 1\."
    ):
        joined([1, 2], pl.DataFrame({"item": ["SKU1"], "title": ["one"]}))


def test_what_cannot_be_shown_is_left_out(tmp_path: Path) -> None:
    day = date(2024, 1, 2)
    columns = {
        "item": [1],
        "cover": [b"\xff"],
        "length": [timedelta(1)],
        "day": [day],
        "score": [float("nan")],
    }
    pl.DataFrame(columns).write_parquet(tmp_path / "items.parquet")
    shown, note = item_columns(pl.Series([1]), POPULARITY[:1], read_items(tmp_path / "items.parquet"))
    assert shown.select("day", "score").rows() == [("2024-01-02", None)]
    assert note is not None
    assert note.endswith("; not shown: cover, length")


def test_movielens_pairs(tmp_path: Path) -> None:
    (tmp_path / "movies.dat").write_bytes(
        "1::Misérables, Les (1995)::Drama|War\n2::Toy Story\n".encode("latin-1")
    )
    flags = "|".join("1" if genre in ("Drama", "War") else "0" for genre in GENRES)
    (tmp_path / "u.item").write_bytes(
        f"1|Misérables, Les (1995)|01-Jan-1995||http://x|{flags}\n".encode("latin-1")
    )
    for name in ("movies.dat", "u.item"):
        columns, _ = item_columns(pl.Series([1]), POPULARITY[:1], read_items(tmp_path / name))
        assert columns.rows() == [(1, 3, "Misérables, Les", 1995, "Drama War")]


def test_json_lists_are_words(tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text('[{"item": 1, "genres": ["a", "b"]}]')
    columns, _ = item_columns(pl.Series([1]), POPULARITY[:1], read_items(tmp_path / "items.json"))
    assert columns["genres"].to_list() == ["a b"]


def test_headings_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("Item_ID,Title,Release_Year,GENRE\n1,One,1999,a\n")
    columns, _ = item_columns(pl.Series([1]), POPULARITY[:1], read_items(tmp_path / "items.csv"))
    assert columns.rows(named=True) == [
        {"id": 1, "popularity": 3, "title": "One", "year": 1999, "genres": "a"}
    ]


def test_a_table_without_a_header_is_read_by_position(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("1,One,a\n2,Two,b\n")
    columns, note = item_columns(pl.Series([1, 2]), POPULARITY[:2], read_items(tmp_path / "items.csv"))
    assert columns["title"].to_list() == ["One", "Two"]
    assert note == "titles for 2 of 2 items from items.csv (column item_id)"


def test_another_delimiter_is_named(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item;title\n1;One\n")
    with pytest.raises(
        DataError, match=r"The fields of items\.csv are separated by ';': write it with commas"
    ):
        item_columns(pl.Series([1]), POPULARITY[:1], read_items(tmp_path / "items.csv"))


def test_keys_of_inner_objects_are_no_columns(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"item": 1, "title": "One", "more": {"x": 1}}\n')
    columns, _ = item_columns(pl.Series([1]), POPULARITY[:1], read_items(tmp_path / "items.jsonl"))
    assert columns.columns == ["id", "popularity", "title", "more"]
