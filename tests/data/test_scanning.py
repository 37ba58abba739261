"""Folders and files as people have them: one table, whatever its parts look like."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from ncf.data.columns import ColumnNames, Needs
from ncf.data.formats import source
from ncf.data.readers import Columns, read_columns
from ncf.data.scanning import scan
from ncf.errors import DataError

Write = Callable[[str, str], Path]
ROWS = [(1, 20, 5), (1, 21, 6), (2, 20, 7)]
NAMES = ["user", "item", "time"]


def table(rows: list[tuple[int, ...]], names: list[str] = NAMES) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=names, orient="row")


def write_part(frame: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    {
        ".csv": frame.write_csv,
        ".parquet": frame.write_parquet,
        ".jsonl": frame.write_ndjson,
    }[path.suffix](path)


def read(path: Path | str, needs: Needs | None = None) -> Columns:
    return read_columns(source(path), ColumnNames(), needs)


def triples(columns: Columns) -> list[tuple[object, ...]]:
    assert columns.time is not None
    return list(zip(columns.user, columns.item, columns.time, strict=True))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_parts_in_another_order_with_more_columns(tmp_path: Path, suffix: str) -> None:
    write_part(table(ROWS[:1]), tmp_path / f"part-0{suffix}")
    later = table(ROWS[1:]).select("time", "user", "item").with_columns(channel=pl.lit("web"))
    write_part(later, tmp_path / f"part-1{suffix}")
    assert triples(read(tmp_path)) == ROWS


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_part_without_a_needed_column_is_named(tmp_path: Path, suffix: str) -> None:
    write_part(table(ROWS), tmp_path / f"part-0{suffix}")
    write_part(table(ROWS).drop("time"), tmp_path / f"part-1{suffix}")
    with pytest.raises(DataError, match=rf"part-1\{suffix} has no column 'time', which other files of"):
        read(tmp_path, Needs(time=True))
    columns = read(tmp_path)
    assert columns.time is None
    assert columns.left_out == ("time = time, which 3 rows lack or write otherwise",)


def test_parts_of_other_types(tmp_path: Path) -> None:
    for number, cast in enumerate(
        ({"user": pl.Int32}, {"user": pl.Float64}, {"user": pl.UInt64, "time": pl.String})
    ):
        write_part(table(ROWS[number : number + 1]).cast(cast), tmp_path / f"part-{number}.parquet")
    assert triples(read(tmp_path)) == ROWS


def test_lists_in_one_part_are_no_ids(tmp_path: Path) -> None:
    write_part(table(ROWS), tmp_path / "part-0.parquet")
    write_part(table(ROWS).with_columns(pl.concat_list("item")), tmp_path / "part-1.parquet")
    with pytest.raises(DataError, match=r"The item \(column 'item'\) of .* holds lists"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize("pattern", ["", "*/*"])
def test_folders_name_columns(tmp_path: Path, suffix: str, pattern: str) -> None:
    for day in (1, 2):
        part = table(ROWS[:day]).drop("time")
        write_part(part, tmp_path / "events" / f"time=2024-01-0{day}%20" / f"part-0{suffix}")
    (tmp_path / "events" / "_SUCCESS").touch()
    where = tmp_path / "events" / pattern if pattern else tmp_path / "events"
    assert scan(source(where)).collect()["time"].to_list() == ["2024-01-01 ", "2024-01-02 ", "2024-01-02 "]
    assert source(where).label == "events"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".csv.gz", ".dat"])
def test_empty_parts_have_no_rows(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(gzip.compress(b"") if suffix.endswith("gz") else b"")
    with pytest.raises(DataError, match=r"All files of .* are empty: give files with interactions"):
        source(tmp_path)
    text = {"jsonl": '{"user": 1, "item": 20}\n', "dat": "1::20\n"}.get(suffix[1:], "user,item\n1,20\n")
    (tmp_path / f"b{suffix}").write_bytes(
        gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode()
    )
    assert scan(source(tmp_path)).select("user", "item").collect().rows() == [("1", "20")]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_brackets_in_a_name_are_no_pattern(tmp_path: Path, suffix: str) -> None:
    write_part(table(ROWS), tmp_path / f"r[1]{suffix}")
    write_part(table(ROWS[:1]), tmp_path / f"r1{suffix}")
    assert triples(read(tmp_path / f"r[1]{suffix}")) == ROWS


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_json_array(tmp_path: Path, indent: int | None, compressed: bool) -> None:
    text = json.dumps([dict(zip(NAMES, row, strict=True)) for row in ROWS], indent=indent).encode()
    path = tmp_path / ("a.json.gz" if compressed else "a.json")
    path.write_bytes(gzip.compress(text) if compressed else text)
    assert triples(read(path)) == ROWS


def test_json_lines_are_not_inferred(write: Write) -> None:
    lines = [{"user": n, "item": n} for n in range(1_100)]
    lines += [
        {"user": 2**64 - 1, "item": 2**200, "note": {"user": [1]}},
        {"user": "x", "item": 1.0, "late": True},
    ]
    frame = scan(source(write("a.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines)))).collect()
    assert set(frame.schema.values()) == {pl.String()}
    assert frame.select("user", "item", "late")[-2:].rows() == [
        (str(2**64 - 1), str(2**200), None),
        ("x", "1.0", "true"),
    ]


def test_objects_in_late_json_lines_are_no_ids(write: Write) -> None:
    lines = '{"user": 1, "item": 1}\n' * 1_100 + '{"user": 1, "item": {"a": 1}}\n'
    with pytest.raises(DataError, match=r"The item \(column 'item'\) of .* holds objects"):
        read(write("a.jsonl", lines))


def test_blank_lines_are_passed_over(write: Write) -> None:
    columns = read(write("a.csv", "user,item,time\n1,20,5\n\n1,21,6\n2,20,7\n\n"))
    assert triples(columns) == ROWS
    with pytest.raises(DataError, match=r"The item .* is missing in line 4 of"):
        read(write("b.csv", "user,item,time\n1,20,5\n\n1,,6\n\n"))


def test_the_file_of_a_wrong_value_is_named(tmp_path: Path) -> None:
    write_part(table(ROWS), tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("user,item,time\n1,2,3\n1,,4\n")
    with pytest.raises(DataError, match=r"missing in line 3 of .*b\.csv"):
        read(tmp_path)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_part(table(ROWS), path)
    origin = source(path)
    path.write_text("user,item,time\n1,20,5\n")
    with pytest.raises(DataError, match=r"a\.csv changed while it was read: wait until it is complete"):
        read_columns(origin, ColumnNames())
