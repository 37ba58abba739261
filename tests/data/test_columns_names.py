from __future__ import annotations

import polars as pl
import pytest

from ncf.data.columns import ColumnNames, Needs, is_heading, resolve
from ncf.data.formats import source
from ncf.errors import DataError

ORIGIN = source("events.csv")


def schema(*names: str) -> pl.Schema:
    return pl.Schema(dict.fromkeys(names, pl.String()))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("user_id", "item_id", "ts"), {"user": "user_id", "item": "item_id", "time": "ts"}),
        (("userId", "movieId", "rating", "timestamp"),
         {"user": "userId", "item": "movieId", "rating": "rating", "time": "timestamp"}),
        (("item_id:token", "user_id:token"), {"user": "user_id:token", "item": "item_id:token"}),
        (("USER", "Item", "Time"), {"user": "USER", "item": "Item", "time": "Time"}),
    ],
)  # fmt: skip
def test_the_usual_names_are_guessed(columns: tuple[str, ...], expected: dict[str, str]) -> None:
    assert resolve(schema(*columns), ColumnNames(), ORIGIN, Needs(rating="rating" in columns)) == expected


def test_a_given_name_wins() -> None:
    found = resolve(schema("user", "who", "item", "w"), ColumnNames(user="who", weight="w"), ORIGIN, Needs())
    assert found == {"user": "who", "item": "item", "weight": "w"}


def test_a_given_name_must_be_there() -> None:
    with pytest.raises(
        DataError,
        match=r"There is no column 'stars' in events\.csv: name it with --rating; "
        r"the columns are 'user', 'item'",
    ):
        resolve(schema("user", "item"), ColumnNames(rating="stars"), ORIGIN, Needs())


def test_no_user_column_lists_the_columns() -> None:
    with pytest.raises(
        DataError, match=r"No column looks like the user .*--user; the columns are 'a', 'item'\."
    ):
        resolve(schema("a", "item"), ColumnNames(), ORIGIN, Needs())


def test_a_needed_time_names_the_other_remedy() -> None:
    with pytest.raises(DataError, match="name it with --time, or use --split random"):
        resolve(schema("user", "item"), ColumnNames(), ORIGIN, Needs(time=True))


def test_one_column_cannot_be_both() -> None:
    with pytest.raises(DataError, match="cannot both be the column 'user'"):
        resolve(schema("user", "item"), ColumnNames(item="user"), ORIGIN, Needs())


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            ("user;item;ts",),
            r"events\.csv has only one column, 'user;item;ts': its delimiter may be --delimiter ';'",
        ),
        (("user\titem",), r"its delimiter may be --delimiter '\\t'"),
        (
            ("1", "20", "5.0"),
            r"The first line of events\.csv holds data \(1, 20, 5\.0\), not names: use --no-header",
        ),
    ],
)
def test_another_delimiter_or_no_header(columns: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        resolve(schema(*columns), ColumnNames(), ORIGIN, Needs())


@pytest.mark.parametrize("name", ["item_id:token_seq", "item"])
def test_columns_without_ids_are_refused(name: str) -> None:
    held = pl.Schema({"user": pl.Int64(), name: pl.Struct({"a": pl.Int64})})
    with pytest.raises(DataError, match=r"The item \(column 'item.* of events\.csv holds .*--item"):
        resolve(held, ColumnNames(), ORIGIN, Needs())


def test_a_guess_that_nobody_needs_is_passed_over() -> None:
    held = pl.Schema(
        {"user": pl.Int64(), "item": pl.Int64(), "time": pl.List(pl.Int64), "rating": pl.Int64()}
    )
    assert resolve(held, ColumnNames(), ORIGIN, Needs()) == {"user": "user", "item": "item"}
    with pytest.raises(DataError, match=r"The time \(column 'time'\) of events\.csv holds lists"):
        resolve(held, ColumnNames(), ORIGIN, Needs(time=True))


def test_what_is_left_out_and_needed() -> None:
    without = ColumnNames(without=frozenset({"time", "rating"}))
    assert resolve(schema("user", "item", "ts", "stars"), without, ORIGIN, Needs()).keys() == {"user", "item"}
    with pytest.raises(DataError, match="--no-time leaves the times out and the split needs them"):
        resolve(schema("user", "item", "ts"), without, ORIGIN, Needs(time=True))
    with pytest.raises(DataError, match="--no-rating leaves the ratings out and --min-rating needs them"):
        resolve(schema("user", "item", "ts"), without, ORIGIN, Needs(rating=True))


@pytest.mark.parametrize(
    ("text", "heading"),
    [("userId", True), ("User_ID:token", True), ("Account", True), ("7", False), ("", False)],
)
def test_headings(text: str, heading: bool) -> None:
    assert is_heading(text, "user", "account") is heading
