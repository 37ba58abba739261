"""Prepared in parts or in memory: the same folder, to the byte."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ncf.cli import app
from ncf.data import Dataset, PrepareOptions, prepare_file, prepare_streaming
from ncf.data.formats import source
from ncf.data.out_of_core import scan_ids, sorted_interactions, streaming
from ncf.errors import DataError, NcfError, StorageError

OPTIONS = {
    "last": PrepareOptions(negatives=20),
    "random": PrepareOptions(split="random", negatives=20, seed=3),
    "validation at random": PrepareOptions(validation="random", negatives=20),
    "popularity": PrepareOptions(validation="random", validation_popularity_exponent=0.7, negatives=20),
    "no validation": PrepareOptions(validation="none", negatives=20),
    "time": PrepareOptions(split="time", negatives=20),
    "time, no validation": PrepareOptions(split="time", validation="none", negatives=20),
    "filters": PrepareOptions(min_rating=2, min_user=8, min_item=4, negatives=20),
    "weights": PrepareOptions(weight="rating", min_rating=2, negatives=20),
    "counts": PrepareOptions(repeats="sum", min_rating=2, negatives=20),
    "events": PrepareOptions(
        event="rating", event_weights={"1": 0, "2": 0.1, "3": 0.7, "4": 3, "5": 1.3}, weight="rating",
        repeats="sum", negatives=20,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of some hundred rows, so that small tables have many."""
    monkeypatch.setattr(scan_ids, "ROWS", 700)
    monkeypatch.setattr(scan_ids, "_LEAST_MERGED", 300)
    monkeypatch.setattr(sorted_interactions, "PART_ROWS", 500)


def table(seed: int, users: int, items: int, rows: int) -> pl.DataFrame:
    """Rows in no order, with repeated pairs, equal times and very active users."""
    draws = np.random.default_rng(seed)
    columns = {
        "user_id": (users * draws.random(rows) ** 2).astype(np.int64) * 3 + 10,
        "item_id": (items * draws.random(rows) ** 2).astype(np.int64) + 5,
        "rating": draws.integers(1, 6, rows),
        "timestamp": draws.integers(1_000_000, 1_000_000 + rows // 2, rows),
    }
    return pl.DataFrame(columns)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same(path: Path | str, options: PrepareOptions, folder: Path) -> Dataset:
    dataset, report = prepare_file(path, options)
    dataset.save(folder / "memory")
    streamed = prepare_streaming(path, folder / "stream", options)
    assert json.loads((folder / "stream/dataset.json").read_text()) == json.loads(
        (folder / "memory/dataset.json").read_text()
    )
    assert files(folder / "stream") == files(folder / "memory")
    assert streamed.lines() == report.lines()
    return dataset


@pytest.mark.parametrize("name", OPTIONS)
def test_same_folder_as_in_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "events.parquet"
    table(1, 1_200, 150, 8_000).write_parquet(path, row_group_size=1_000)
    dataset = assert_same(path, OPTIONS[name], tmp_path)
    assert len(dataset.test) > 150
    assert Dataset.open(tmp_path / "stream", verify="full").digest == dataset.digest


def test_arrays_have_their_shapes_and_types(tmp_path: Path, events: Path) -> None:
    prepare_streaming(events, tmp_path / "out", PrepareOptions(negatives=5))
    dataset = Dataset.open(tmp_path / "out", verify="full")
    assert dataset.train.user_rows.dtype == dataset.train.item_rows.dtype == np.int32
    assert dataset.train.timestamps is not None
    assert dataset.train.timestamps.dtype == np.int64
    assert (dataset.test.candidates.shape, dataset.test.candidates.dtype) == ((40, 6), np.int32)


IDS = ("text", "padded", "integers as text", "late text", "spread")


@pytest.mark.parametrize(
    ("write", "ids"),
    [
        *(("csv", ids) for ids in IDS),
        *(("parquet", ids) for ids in IDS),
        ("jsonl", "text"),
        ("jsonl", "spread"),
    ],
)
def test_every_kind_of_id_and_format(tmp_path: Path, write: str, ids: str) -> None:
    rows = table(2, 60, 90, 2_000)
    user, late = pl.col("user_id"), pl.int_range(pl.len()) == 1_900
    spelled = {
        "text": pl.format("u{}", user), "padded": user.cast(pl.String).str.zfill(5),
        "integers as text": user.cast(pl.String), "spread": user * 10**15,
        "late text": pl.when(late).then(pl.lit("é")).otherwise(user.cast(pl.String)),
    }  # fmt: skip
    rows = rows.with_columns(spelled[ids].alias("user_id"))
    path = tmp_path / f"events.{write}"
    {"csv": rows.write_csv, "parquet": rows.write_parquet, "jsonl": rows.write_ndjson}[write](path)
    assert_same(path, PrepareOptions(negatives=10), tmp_path)


@pytest.mark.parametrize("given", ["folder", "pattern"])
def test_folder_and_pattern(tmp_path: Path, given: str) -> None:
    rows, parts = table(3, 60, 90, 4_000), tmp_path / "parts"
    parts.mkdir()
    for number in range(4):
        rows[number * 1000 : (number + 1) * 1000].write_parquet(parts / f"part-{number}.parquet")
    (parts / "_SUCCESS").touch()
    rows.write_parquet(tmp_path / "parts.parquet")
    path = parts if given == "folder" else f"{parts}/part-*.parquet"
    dataset = assert_same(path, PrepareOptions(negatives=10), tmp_path)
    assert dataset.name == "parts"
    assert dataset.digest == prepare_file(tmp_path / "parts.parquet", PrepareOptions(negatives=10))[0].digest


def test_dates_titles_and_no_times(tmp_path: Path) -> None:
    rows = table(4, 60, 90, 4_000)
    dates = rows.with_columns(pl.from_epoch("timestamp"), pl.col("item_id"))
    dates.write_csv(tmp_path / "dates.csv")
    (tmp_path / "items.csv").write_text("item_id,name\n" + "".join(f"{n},Item {n}\n" for n in range(50)))
    titled = PrepareOptions(negatives=10, items_file=str(tmp_path / "items.csv"))
    assert "title" in assert_same(tmp_path / "dates.csv", titled, tmp_path).item_columns.columns
    rows.drop("timestamp").write_csv(tmp_path / "plain.csv")
    assert_same(tmp_path / "plain.csv", PrepareOptions(negatives=10, split="random"), tmp_path)


@given(seed=st.integers(0, 10_000), rows=st.integers(30, 400), options=st.sampled_from(sorted(OPTIONS)))
@settings(deadline=None, max_examples=18)
def test_same_folder_or_the_same_sentence(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int, options: str
) -> None:
    folder = tmp_path_factory.mktemp("same")
    table(seed, 20, 40, rows).write_parquet(folder / "t.parquet")
    refused = sentence_of(lambda: prepare_file(folder / "t.parquet", OPTIONS[options]))
    if refused is not None:
        assert refused == sentence_of(
            lambda: prepare_streaming(folder / "t.parquet", folder / "stream", OPTIONS[options])
        )
        assert not (folder / "stream").exists()
        return
    assert_same(folder / "t.parquet", OPTIONS[options], folder)


def sentence_of(work: Callable[[], object]) -> str | None:
    """What it is refused with, if it is."""
    try:
        work()
    except NcfError as error:
        return f"{type(error).__name__}: {error}"
    return None


DEFECTS = {
    "empty": "user,item,timestamp\n",
    "nothing": "",
    "missing column": "user,item\n1,2\n",
    "gap": "user,item,timestamp\n" + "1,2,3\n" * 900 + "1,,3\n,2,3\n",
    "no time": "user,item,timestamp\n" + "1,2,3\n" * 900 + "1,2,soon\n" * 3,
    "negative": "user,item,timestamp\n" + "1,2,3\n" * 900 + "1,2,-3\n",
    "word for nothing": "user,item,timestamp\n" + "1,2,3\n" * 900 + "nan,2,3\n",
    "one user": "user,item,timestamp\n" + "".join(f"1,{n},3\n" for n in range(900)),
    "cut off": 'user,item,timestamp\n1,2,3\n"1,2',
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_the_same_sentence_and_leave_nothing(
    tmp_path: Path, write: Callable[[str, str], Path], defect: str
) -> None:
    path = write("events.csv", DEFECTS[defect])
    with pytest.raises(DataError) as expected:
        prepare_file(path)
    with pytest.raises(DataError) as raised:
        prepare_streaming(path, tmp_path / "out")
    assert str(raised.value) == str(expected.value)
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


def test_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """A file may not grow beyond a limit: the write fails as on a full disk."""
    path = tmp_path / "events.parquet"
    table(1, 3_000, 200, 20_000).write_parquet(path)
    prepare = f"{sys.executable} -m ncf prepare --streaming --input {path} --output {tmp_path}/out"
    command = ["sh", "-c", f"ulimit -f 100; exec {prepare}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert "could not be written (File too large): check the disk or choose another place." in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["events.parquet"]


def test_foreign_folder_is_refused_before_the_work(tmp_path: Path, events: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/letter.txt").touch()
    with pytest.raises(StorageError, match="holds other files and is not a prepared data folder"):
        prepare_streaming(events, tmp_path / "out")


def test_expected_memory(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1, 2, 3]}).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("user,item\n1,2\n")
    (tmp_path / "bad.parquet").write_text("no parquet")
    assert streaming.expected_bytes(source(tmp_path / "a.parquet")) == 3 * streaming.BYTES_A_ROW
    assert streaming.expected_bytes(source(tmp_path / "a.csv")) == 4 * 14
    assert streaming.expected_bytes(source(tmp_path / "bad.parquet")) == 0
    assert streaming.expected_bytes(source(tmp_path / "none.csv")) == 0


@pytest.mark.parametrize(
    ("free", "asked", "streams"),
    [
        (1 << 40, [], False),
        (1000, [], True),
        (1000, ["--no-streaming"], False),
        (1 << 40, ["--streaming"], True),
    ],
)
def test_streams_where_memory_would_not_do(
    events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, asked: list[str], streams: bool
) -> None:
    ran = []
    real = streaming.scan_ids
    monkeypatch.setattr(streaming, "scan_ids", lambda reading: ran.append(True) or real(reading))
    monkeypatch.setattr(streaming, "free_memory", lambda: free)
    command = [
        "prepare",
        "--input",
        str(events),
        "--output",
        str(tmp_path / "out"),
        "--negatives",
        "5",
        *asked,
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == "read      400 interactions from events.csv"
    assert bool(ran) == streams


def test_streaming_is_for_a_table(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["prepare", "--catalog", "ml-100k", "--streaming"])
    assert "--streaming works only with --input" in str(result.exception)


def test_addresses_are_read_in_memory_unless_asked() -> None:
    assert not streaming.wants_streaming(source("s3://bucket/events.parquet"))
