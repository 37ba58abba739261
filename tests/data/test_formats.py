from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from ncf.data.columns import ColumnNames
from ncf.data.formats import bare, source
from ncf.data.readers import read_columns
from ncf.data.scanning import scan
from ncf.errors import DataError

Write = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("name", "format", "delimiter", "header"),
    [
        ("a.csv", "csv", ",", True),
        ("a.CSV.gz", "csv", ",", True),
        ("a.tsv", "csv", "\t", True),
        ("a.inter", "csv", "\t", True),
        ("x.train.rating.gz", "csv", "\t", False),
        ("u.data", "csv", "\t", False),
        ("ratings.dat", "movielens", "::", False),
        ("a.parquet", "parquet", "", True),
        ("a.ndjson", "jsonl", "", True),
        ("s3://bucket/folder/a.jsonl.gz", "jsonl", "", True),
    ],
)
def test_the_suffix_says_how_to_read(name: str, format: str, delimiter: str, header: bool) -> None:
    found = source(name)
    assert (found.format, found.delimiter, found.header) == (format, delimiter, header)
    assert found.remote == name.startswith("s3://")


def test_what_is_given_wins() -> None:
    assert source("a.txt", delimiter=";").delimiter == ";"
    assert source("a.txt", delimiter="\\t").delimiter == "\t"
    assert source("a.txt", delimiter="::").format == "movielens"
    assert source("a.csv", header=False).header is False
    assert source("a.txt", format="jsonl").format == "jsonl"
    assert source("a.csv", format="movielens").delimiter == "::"


def test_unknown_suffix_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"format of a\.xls is not known from its name.*give --format or --delimiter"
    ):
        source("a.xls")


def test_bare() -> None:
    assert bare("user_id:token") == "user_id"
    assert bare("plain") == "plain"


def test_text_stays_text(write: Write) -> None:
    frame = scan(source(write("a.csv", "a,b\n007,1\n"))).collect()
    assert frame.rows() == [("007", "1")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'user,item\n"a,b",2\n'),
        ("a.tsv", "user\titem\na,b\t2\n"),
        ("a.jsonl", '{"user": "a,b", "item": 2}\n'),
        ("a.dat", "a,b::2\n"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_each_text_format_plain_and_compressed(
    tmp_path: Path, name: str, text: str, compressed: bool
) -> None:
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    frame = scan(source(path)).select("user", pl.col("item").cast(pl.Int64)).collect()
    assert frame.rows() == [("a,b", 2)]


def test_carriage_returns_are_no_part_of_a_value(write: Write) -> None:
    assert scan(source(write("a.rating", "0\t40\t3\r\n1\t41\t5\r\n"))).collect().rows()[0] == ("0", "40", "3")


def test_movielens_names_by_position(write: Write) -> None:
    frame = scan(source(write("ratings.dat", "1::1193::5::978300760\n1::661::3::978302109\n"))).collect()
    assert frame.columns == ["user", "item", "rating", "timestamp"]
    assert frame.rows()[1] == ("1", "661", "3", "978302109")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no file .*nowhere\.csv: check the path"):
        scan(source(tmp_path / "nowhere.csv"))


def test_folder(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "_SUCCESS", ".part"):
        (tmp_path / name).write_text(f"user,item\n{name},1\n")
    for path in (tmp_path, tmp_path / "*.csv", f"{tmp_path}/"):
        assert scan(source(path)).collect()["user"].to_list() == ["a.csv", "b.csv"]
        assert source(path).label == tmp_path.name


def test_folder_without_files_and_pattern_without_matches(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder without a file of interactions: check the path"):
        source(tmp_path)
    with pytest.raises(DataError, match=r"\*\.csv matches no file: check the path"):
        source(tmp_path / "*.csv")


def test_folder_with_files_of_several_formats(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item\n1,1\n")
    pl.DataFrame({"user": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"holds files of several formats: select one format with a pattern"):
        source(tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl", "a.dat", "a.rating"])
def test_empty_file(write: Write, name: str) -> None:
    with pytest.raises(DataError, match="is empty: give a file with interactions"):
        scan(source(write(name, "")))


def test_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": range(1000)}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        DataError, match=r"cannot be read as parquet \(.*\): the file may be cut off or damaged"
    ):
        read_columns(source(path), ColumnNames())
