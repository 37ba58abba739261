"""Tables in memory: every kind gives the data set that a file gives, and the same sentences."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import ncf
from ncf.data import Dataset, PrepareOptions, prepare_file
from ncf.data.frames import as_frame, prepare_frame
from ncf.errors import ConfigError, DataError

OPTIONS = PrepareOptions(negatives=5)
RANDOM = np.random.default_rng(0)
COLUMNS = {
    "user": RANDOM.integers(0, 20, 300),
    "item": RANDOM.integers(0, 60, 300),
    "time": np.arange(300),
}
FRAME = pl.DataFrame(COLUMNS)
KINDS: dict[str, Callable[[], Any]] = {
    "polars": lambda: FRAME,
    "lazy": FRAME.lazy,
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "arrow": FRAME.to_arrow,
    "mapping": lambda: COLUMNS,
    "lists": lambda: {name: values.tolist() for name, values in COLUMNS.items()},
    "array": lambda: np.stack(list(COLUMNS.values()), axis=1),
    "records": lambda: pd.DataFrame(COLUMNS).to_records(index=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_what_a_file_gives(kind: str, tmp_path: Path) -> None:
    FRAME.write_csv(tmp_path / "interactions.csv")
    expected, told = prepare_file(tmp_path / "interactions.csv", OPTIONS)
    dataset, report = prepare_frame(KINDS[kind](), OPTIONS)
    assert dataset.digest == expected.digest
    assert report.lines()[1:] == told.lines()[1:]
    assert report.lines()[0] == "read      300 interactions from the table"


def test_a_sparse_matrix_has_its_row_and_column_numbers_as_ids() -> None:
    pairs = {(int(user), int(item)) for user, item in zip(COLUMNS["user"], COLUMNS["item"], strict=True)}
    rows, columns = np.array(sorted(pairs)).T
    values = np.full(len(rows), 2.0)
    values[0] = 0.0  # stored, but no interaction
    matrix = scipy.sparse.csr_matrix((values, (rows, columns)), (20, 60))
    dataset = Dataset.from_interactions(matrix, weight="weight", negatives=5)
    used = {
        (int(dataset.users.ids[u]), int(dataset.items.ids[i]))
        for u in range(20)
        for i in dataset.known.row(u)
    }
    assert used == {(user, item) for user, item in pairs if matrix[user, item]}
    assert dataset.train.weights is not None
    assert set(dataset.train.weights.tolist()) == {2.0}


def test_types_of_pandas_and_names_of_ones_own() -> None:
    days = pd.to_datetime(COLUMNS["time"], unit="D", utc=True)
    table = pd.DataFrame(
        {
            "who": pd.Categorical([f"u{user}" for user in COLUMNS["user"]]),
            "what": pd.array(COLUMNS["item"], dtype="Int64"),
            "when": days,
        }
    )
    dataset = Dataset.from_interactions(table, user="who", item="what", time="when", negatives=5, name="shop")
    assert (dataset.name, dataset.users.ids[0], dataset.items.ids[0]) == ("shop", "u0", 0)
    assert dataset.train.timestamps is not None
    day = datetime.timedelta(days=1) // datetime.timedelta(microseconds=1)
    assert (dataset.train.timestamps % day == 0).all()
    assert repr(dataset).startswith("<Dataset shop: 20 users, 60 items, ")


def test_without_times_a_random_item_is_held_out() -> None:
    table = {name: COLUMNS[name] for name in ("user", "item")}
    dataset = Dataset.from_interactions(table, negatives=5)
    assert dataset.description["split"]["test"].startswith("leave one out, one at random of each user")
    assert Dataset.from_interactions(table, negatives=5, split="random", seed=1).digest != dataset.digest


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ([1, 2], "list is not a table of interactions"),
        ({"user": [1, 2], "item": [1]}, "The table cannot be read"),
        ({"user": [], "item": []}, "The table has no rows"),
        (np.zeros((3, 7)), r"has 2 to 4 columns \(user, item, time, weight\), not the shape \(3, 7\)"),
        ({"x": [1], "item": [1]}, "No column looks like the user in the table"),
        (
            {"user": ["a", None], "item": [1, 2]},
            r"The user \(column 'user'\) is missing in row 2 of the table",
        ),
        (pd.DataFrame({"user": [1, 2], "item": [3.5, 4]}), "3.5"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_in_a_sentence(table: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Dataset.from_interactions(table)


def test_an_unknown_option_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"users is not an option of the preparation; did you mean user\?"):
        ncf.Dataset.from_interactions(FRAME, users="user")


@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.none()), min_size=1, max_size=20))
def test_integers_of_pandas_stay_exact(values: list[int | None]) -> None:
    frame = as_frame(pd.DataFrame({"user": pd.array(values, dtype="Int64")}))
    assert frame["user"].to_list() == values
