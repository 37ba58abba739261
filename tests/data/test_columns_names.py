from __future__ import annotations

import polars as pl
import pytest

from ncf.data.columns import ColumnNames, resolve
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
    assert resolve(schema(*columns), ColumnNames(), ORIGIN, need_time=False) == expected


def test_a_given_name_wins() -> None:
    found = resolve(schema("user", "who", "item", "w"), ColumnNames(user="who", weight="w"), ORIGIN, False)
    assert found == {"user": "who", "item": "item", "weight": "w"}


def test_a_given_name_must_be_there() -> None:
    with pytest.raises(
        DataError,
        match=r"There is no column 'stars' in events\.csv: name it with --rating; "
        r"the columns are 'user', 'item'",
    ):
        resolve(schema("user", "item"), ColumnNames(rating="stars"), ORIGIN, False)


def test_no_user_column_lists_the_columns() -> None:
    with pytest.raises(
        DataError, match=r"No column looks like the user .*--user; the columns are 'a', 'item'\."
    ):
        resolve(schema("a", "item"), ColumnNames(), ORIGIN, False)


def test_a_needed_time_names_the_other_remedy() -> None:
    with pytest.raises(DataError, match="name it with --time, or use --split random"):
        resolve(schema("user", "item"), ColumnNames(), ORIGIN, need_time=True)


def test_one_column_cannot_be_both() -> None:
    with pytest.raises(DataError, match="cannot both be the column 'user'"):
        resolve(schema("user", "item"), ColumnNames(item="user"), ORIGIN, False)


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
        resolve(schema(*columns), ColumnNames(), ORIGIN, False)
