"""Each format gives the same columns, and each defect of a file its sentence."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from ncf.data.columns import ColumnNames, Needs
from ncf.data.formats import source
from ncf.data.readers import Columns, read_columns
from ncf.errors import DataError

Write = Callable[[str, str], Path]
ROWS = [(1, 20, 5.0, 978300760), (1, 21, 3.0, 978302109), (2, 20, 1.0, 978301968)]


def read(path: Path, names: ColumnNames | None = None, needs: Needs | None = None) -> Columns:
    return read_columns(source(path), names or ColumnNames(), needs)


BOTH = Needs(time=True, rating=True)


def text(separator: str, header: str = "") -> str:
    lines = [separator.join([str(u), str(i), f"{r:g}", str(t)]) for u, i, r, t in ROWS]
    return header + "\n".join(lines) + "\n"


FILES = {
    "a.csv": text(",", "user_id,item_id,rating,timestamp\n"),
    "a.tsv": text("\t", "user\titem\trating\ttime\n"),
    "a.inter": text("\t", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"),
    "ratings.dat": text("::"),
    "u.data": text("\t"),
    "x.train.rating": text("\t"),
    "a.jsonl": "".join(f'{{"ts": {t}, "user": {u}, "item": {i}, "rating": {r}}}\n' for u, i, r, t in ROWS),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("compressed", [False, True])
def test_each_format_gives_the_same_columns(tmp_path: Path, name: str, compressed: bool) -> None:
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(FILES[name].encode()) if compressed else FILES[name].encode())
    check(read(path, needs=BOTH))


def test_parquet(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
    frame.with_columns(pl.col("user_id").cast(pl.UInt16)).write_parquet(tmp_path / "a.parquet")
    check(read(tmp_path / "a.parquet", needs=BOTH))


def check(columns: Columns) -> None:
    assert columns.user.dtype == columns.item.dtype == pl.Int64
    assert columns.time is not None
    assert columns.rating is not None
    assert columns.time.dtype == pl.Int64
    assert columns.rating.dtype == pl.Float32
    rows = list(zip(columns.user, columns.item, columns.rating, columns.time, strict=True))
    assert rows == ROWS
    assert columns.time_unit == "as given"
    assert columns.weight is None


def test_ids_with_leading_zeros_stay_text(write: Write) -> None:
    columns = read(write("a.csv", "user,item\n007,1\n7,1\n"))
    assert columns.user.cast(pl.String).to_list() == ["007", "7"]
    assert columns.item.dtype == pl.Int64


def test_text_that_comes_late_makes_text_of_all(write: Write) -> None:
    lines = "".join(f"{n},{n}\n" for n in range(20_000))
    columns = read(write("a.csv", f"user,item\n{lines}x,1\n"))
    assert columns.user.cast(pl.String)[-2:].to_list() == ["19999", "x"]


def test_parquet_types(tmp_path: Path) -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame({"user": [1.0, 2.0], "item": ["a", "b"], "time": [moment, moment]})
    frame.with_columns(pl.col("item").cast(pl.Categorical)).write_parquet(tmp_path / "a.parquet")
    columns = read(tmp_path / "a.parquet")
    assert columns.user.to_list() == [1, 2]
    assert columns.item.cast(pl.String).to_list() == ["a", "b"]
    assert columns.time is not None
    assert columns.time.to_list() == [int(moment.timestamp() * 1e6)] * 2
    assert columns.time_unit == "microseconds"


@pytest.mark.parametrize(
    ("values", "expected", "unit"),
    [
        (("10.0", "11.0"), [10, 11], "as given"),
        (("10.25", "11"), [10_250_000, 11_000_000], "microseconds"),
        (("1970-01-01", "1970-01-02"), [0, 86_400_000_000], "microseconds"),
        (("1970-01-01T00:00:01Z", "1970-01-01T00:00:02Z"), [1_000_000, 2_000_000], "microseconds"),
    ],
)
def test_times(write: Write, values: tuple[str, str], expected: list[int], unit: str) -> None:
    columns = read(write("a.csv", f"user,item,ts\n1,1,{values[0]}\n1,2,{values[1]}\n"))
    assert columns.time is not None
    assert columns.time.to_list() == expected
    assert columns.time_unit == unit


EVENTS = "user,item,type,n\n1,1,buy,2\n1,2,view,4\n2,1,bot,1\n3,3,buy,0.5\n"
TYPES = {"buy": 3.0, "view": 0.25, "bot": 0.0}


def test_events_weigh_what_their_type_does(write: Write) -> None:
    path = write("a.csv", EVENTS)
    columns = read(path, ColumnNames(event="type", event_weights=TYPES))
    assert columns.user.to_list() == [1, 1, 3]
    assert columns.weight is not None
    assert columns.weight.to_list() == [3.0, 0.25, 3.0]
    assert columns.left_out == ("rows of the event 'bot', 1 in all, whose weight is 0",)
    assert columns.names["event"] == "type"
    product = read(path, ColumnNames(event="type", event_weights=TYPES, weight="n", counted=True)).weight
    assert product is not None
    assert product.to_list() == [6.0, 1.0, 1.5]
    counted = read(path, ColumnNames(counted=True)).weight
    assert counted is not None
    assert counted.to_list() == [1.0] * 4


def test_types_of_events_may_be_integers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": [1, 2], "item": [1, 2], "type": [7, 8]}).write_parquet(path)
    weight = read(path, ColumnNames(event="type", event_weights={"7": 2.0, "8": 1.0})).weight
    assert weight is not None
    assert weight.to_list() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("body", "weights", "sentence"),
    [
        ("", {"buy": 1.0, "bot": 0.0}, r"The events \(column 'type'\) of .*a.csv are 'buy' \(2 rows\), 'bot' "
         r"\(1 row\), 'view' \(1 row\): give each a weight, such as --event-weight view=1, where 0 leaves"),
        ("", {}, r"such as --event-weight buy=1, where 0"),
        ("4,4,,1\n4,5,,1\n", TYPES, r"The event \(column 'type'\) is missing in line 6 of .* \(2 rows in"),
        ("\nx,2,view,much\n", TYPES, r"The weight \(column 'n'\) is 'much' in line 7 of"),
    ],
)  # fmt: skip
def test_events_that_have_no_weight(
    write: Write, body: str, weights: dict[str, float], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read(write("a.csv", EVENTS + body), ColumnNames(event="type", event_weights=weights, weight="n"))


def test_weights_are_read_only_when_named(write: Write) -> None:
    path = write("a.csv", "user,item,weight\n1,1,0.5\n")
    assert read(path).weight is None
    weight = read(path, ColumnNames(weight="weight")).weight
    assert weight is not None
    assert weight.to_list() == [0.5]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("1,1,5,9\nx,2,5,9\n,3,5,9\n", r"The user \(column 'user'\) is missing in line 4 of"),
        ("1,1,5,9\n1,,5,9\n", r"The item \(column 'item'\) is missing in line 3 of"),
        (
            "1,1,5,9\n1,2,good,9\n",
            r"The rating .* is 'good' in line 3 of .* \(1 row in all\), where a number is expected",
        ),
        ("1,1,5,9\n1,2,NaN,9\n", r"The rating .* is 'NaN' in line 3"),
        (
            "1,1,5,9\n1,2,5,noon\n",
            r"The time .* is 'noon' in line 3 of .* where a number or an ISO date is expected",
        ),
        (
            "1,1,5,9\n1,2,5,-3\n1,3,5,-4\n",
            r"The time .* is -3 in line 3 of .* \(2 rows in all\), which is before 0 or 1970",
        ),
        ("1,1,5,9\n1,2,5\n", r"The time .* is missing in line 3 .*complete or remove those rows"),
        ("1,1,5,9\n1\n", r"The item .* is missing in line 3 .*complete or remove those rows"),
        (
            "1,1,5,9\n1,2,5,9,7\n",
            r"Line 3 of .* has 5 fields and the first line has 4: put values that hold ',' in quotes",
        ),
        ("1,1,5,1960-01-01\n", r"The time .* is 1960-01-01 in line 2 .* which is before 0 or 1970"),
        ("", "has no rows: give a file with interactions"),
    ],
)
def test_defects_of_a_csv_file(write: Write, body: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(write("a.csv", f"user,item,rating,time\n{body}"), needs=BOTH)


def test_nan_ids_and_nan_times_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": [1.0, float("nan")], "item": [1, 2]}).write_parquet(path)
    with pytest.raises(DataError, match=r"The user \(column 'user'\) is NaN in row 2 of .*remove those rows"):
        read(path)
    pl.DataFrame({"user": [1, 2], "item": [1, 2], "ts": [0.5, float("nan")]}).write_parquet(path)
    with pytest.raises(DataError, match=r"The time \(column 'ts'\) is NaN in row 2"):
        read(path, needs=Needs(time=True))


def test_fractional_ids_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": [1.0, 1.5], "item": [1, 2]}).write_parquet(path)
    with pytest.raises(
        DataError, match=r"The user \(column 'user'\) is '1\.5' in row 2 of .* where an id is expected"
    ):
        read(path)


def test_compressed_file_that_is_cut_off(tmp_path: Path) -> None:
    lines = "".join(f"{n % 977},{n % 991},{n}\n" for n in range(50_000))
    whole = gzip.compress(f"user,item,ts\n{lines}".encode())
    path = tmp_path / "a.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="the file may be cut off or damaged"):
        read(path)


def test_json_lines_that_are_cut_off(write: Write) -> None:
    with pytest.raises(DataError, match=r"cannot be read as jsonl .*the file may be cut off"):
        read(write("a.jsonl", FILES["a.jsonl"][:-20]))


def test_movielens_line_that_is_cut_off(write: Write) -> None:
    with pytest.raises(DataError, match=r"The item \(column 'item'\) is missing in line 3 of"):
        read(write("ratings.dat", FILES["ratings.dat"].rsplit("::", 3)[0]))


def test_storage_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:  # bound but not listening: connections are refused at once
        listener.bind(("127.0.0.1", 0))
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{listener.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "POLARS_CLOUD_MAX_RETRIES": "0",
        }.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(
            DataError, match=r"could not be read from the storage .*check the address, the credentials"
        ):
            read_columns(source("s3://bucket/a.csv"), ColumnNames())


def test_byte_order_mark_quotes_and_carriage_returns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffuser,item,ts\r\n"a ""b""","x,y",1\r\n'.encode())
    columns = read(path)
    assert columns.user.cast(pl.String).to_list() == ['a "b"']
    assert columns.item.cast(pl.String).to_list() == ["x,y"]
    assert columns.time is not None
    assert columns.time.to_list() == [1]


def test_weights_below_zero(write: Write) -> None:
    path = write("a.csv", "user,item,w\n1,1,0\n1,2,-1\n")
    with pytest.raises(DataError, match=r"The weight \(column 'w'\) is -1 in line 3 of .* which is below 0"):
        read(path, ColumnNames(weight="w"))


def test_a_line_with_too_many_fields_is_noticed_where_not_all_are_needed(write: Write) -> None:
    with pytest.raises(DataError, match=r"Line 3 of .* has 4 fields and the first line has 3"):
        read(write("a.csv", "user,title,item\n1,a,2\n1,b,c,2\n"))


def test_old_line_ends(write: Write) -> None:
    with pytest.raises(DataError, match=r"The lines of .*a\.csv end in carriage returns alone"):
        read(write("a.csv", "who,item\r1,2\r"))
