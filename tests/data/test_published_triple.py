from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ncf.data.published import read_triple, usable_times, without_unknown_users
from ncf.errors import DataError

FILES = {
    "train.rating": "0\t10\t1\t0\n0\t11\t1\t0\n1\t12\t1\t0\n",
    "test.rating": "0\t12\t5\t9\n1\t10\t4\t8\n",
    "test.negative": "(0,12)\t13\t14\t12\n(1,10)\t11\t13\t14\n",
}


def triple(folder: Path, **changes: str) -> Path:
    for part, text in FILES.items():
        (folder / f"x.{part}").write_text(
            changes.get(part.split(".")[-1] if "test" in part else "train", text)
        )
    return folder / "x"


def test_shapes_and_dtypes(tmp_path: Path) -> None:
    split = read_triple(triple(tmp_path))
    assert split.train_users.shape == split.train_items.shape == (3,)
    assert split.negatives is not None
    assert split.negatives.shape == (2, 3)
    assert split.negatives.dtype == split.test_items.dtype == np.int64


def test_order_and_content_are_kept(tmp_path: Path) -> None:
    split = read_triple(triple(tmp_path))
    assert split.train_items.tolist() == [10, 11, 12]
    assert split.test_users.tolist() == [0, 1]
    assert split.test_items.tolist() == [12, 10]
    assert split.negatives is not None
    assert split.negatives.tolist() == [[13, 14, 12], [11, 13, 14]]


def test_times_that_are_all_the_same_are_no_times(tmp_path: Path) -> None:
    assert read_triple(triple(tmp_path)).train_times is None
    timed = read_triple(triple(tmp_path, train="0\t10\t1\t5\n0\t11\t1\t6\n1\t12\t1\t7\n"))
    assert timed.train_times is not None
    assert timed.train_times.tolist() == [5, 6, 7]
    assert usable_times(pl.Series([], dtype=pl.Int64)) is None


def test_three_columns_carriage_returns_and_compression(tmp_path: Path) -> None:
    prefix = triple(tmp_path, train="0\t10\t3\r\n1\t12\t4\r\n", rating="0\t12\t1\r\n1\t10\t1\r\n")
    path = tmp_path / "x.train.rating"
    (tmp_path / "x.train.rating.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    split = read_triple(prefix)
    assert split.train_users.tolist() == [0, 1]
    assert split.train_times is None


@pytest.mark.parametrize("part", FILES)
def test_a_missing_file(tmp_path: Path, part: str) -> None:
    prefix = triple(tmp_path)
    (tmp_path / f"x.{part}").unlink()
    with pytest.raises(
        DataError, match=rf"There is no file .*x\.{part} \(nor .*gz\): a published split needs"
    ):
        read_triple(prefix)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"negative": FILES["test.negative"][:-20]},
            "has 1 lines and the test file has 2: the file may be cut off",
        ),
        ({"negative": FILES["test.negative"][:-4]}, "Line 2 of .* has 2 negatives and 3 are due"),
        ({"negative": "(0,12)\t13\n(1,10)\t11\t12\n"}, "Line 1 of .* has 1 negatives and 2 are due"),
        (
            {"negative": "(0,12)\t13\n(1,11)\t11\n"},
            r"Line 2 of .* starts with '\(1,11\)' and the test file has \(1,10\)",
        ),
        ({"negative": "0\t13\n1\t11\n"}, "Line 1 of .* starts with '0'"),
        ({"negative": "(0,12)\t13\n(1,10)\tx\n"}, "Line 2 of .* has 0 negatives and 1 are due"),
        ({"train": "a\t10\t1\t0\nb\t11\t1\t0\n"}, "has an id that is not an integer"),
        ({"train": "0\t10\t1\t0\n0\n"}, r"The item \(column 'item'\) is missing in line 2"),
        ({"train": ""}, "is empty: give a file with interactions"),
        ({"negative": ""}, "is empty: give a file with interactions"),
    ],
)
def test_defects(tmp_path: Path, changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_triple(triple(tmp_path, **changes))


def test_test_users_that_training_lacks_stay_unless_dropped(tmp_path: Path) -> None:
    split = read_triple(triple(tmp_path, train="0\t10\t1\t0\n0\t11\t1\t0\n"))
    assert without_unknown_users(split, drop=False) == (split, 0)
    kept, dropped = without_unknown_users(split, drop=True)
    assert dropped == 1
    assert kept.test_users.tolist() == [0]
    assert kept.negatives is not None
    assert kept.negatives.tolist() == [[13, 14, 12]]


def test_nothing_is_dropped_without_need(tmp_path: Path) -> None:
    kept, dropped = without_unknown_users(read_triple(triple(tmp_path)), drop=False)
    assert dropped == 0
    assert kept.test_users.tolist() == [0, 1]
