"""One table in every format, read in memory and in parts: the same data set, or the same sentence."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from ncf.data import Dataset, PrepareOptions, prepare_file, prepare_streaming
from ncf.errors import NcfError

IDS = st.one_of(
    st.integers(-3, 9).map(str),
    st.integers(0, 9).map(lambda n: f"{n}.0"),
    st.integers(2**63 - 2, 2**64).map(str),
    st.sampled_from(["007", "a", "é", "x y", "+1", "1.5", "None", ""]),
)
ID_COLUMNS = st.one_of(
    st.lists(IDS, min_size=1, max_size=3), st.lists(st.integers(0, 20).map(str), min_size=2, max_size=8)
)


def seconds(number: int) -> str:
    return str(1_700_000_000 + number)


def moment(number: int) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=number)


TIMES = [
    seconds,
    lambda n: f"{seconds(n)}.0",
    lambda n: f"{seconds(n)}.5" if n % 3 == 0 else seconds(n),
    lambda n: moment(n).date().isoformat(),
    lambda n: moment(n).astimezone(timezone(timedelta(hours=n % 5))).isoformat(),
    lambda n: moment(n).isoformat() if n % 2 else seconds(n),
    lambda n: "" if n % 7 == 0 else seconds(n),
    lambda _: "soon",
]


def write(table: pl.DataFrame, folder: Path) -> list[Path]:
    """The table as CSV, JSON lines, Parquet, and as parts of which one has another column and order."""
    paths = [folder / "a.csv", folder / "a.jsonl", folder / "a.parquet", folder / "parts"]
    table.write_csv(paths[0])
    table.write_ndjson(paths[1])
    table.write_parquet(paths[2])
    paths[3].mkdir()
    half = len(table) // 2
    table[:half].write_csv(paths[3] / "a.csv")
    table[half:].select(table.columns[::-1]).with_columns(x=pl.lit("y")).write_csv(paths[3] / "b.csv")
    return paths


def outcome(path: Path, options: PrepareOptions, target: Path | None) -> Any:
    """What is prepared, or the sentence without the place, which each format names in its own way."""
    try:
        if target is None:
            dataset = prepare_file(path, options, name="x")[0]
        else:
            prepare_streaming(path, target, options, name="x")
            dataset = Dataset.open(target)
    except NcfError as error:
        return re.sub(r"in (line|row) \d+ of \S+|\S*(a|b)\.\w+|\S*parts", "", str(error))
    description = {key: value for key, value in dataset.description.items() if key != "source"}
    return dataset.digest, description, dataset.description["source"]["rows"]


@settings(max_examples=60, deadline=None)
@given(
    users=ID_COLUMNS,
    items=ID_COLUMNS,
    time=st.sampled_from(TIMES),
    rows=st.integers(2, 60),
    split=st.sampled_from(["last", "random", "none"]),
)
def test_every_format_and_both_readers_agree(
    users: list[str], items: list[str], time: Any, rows: int, split: Any
) -> None:
    columns = {
        "user_id": [users[n % len(users)] or None for n in range(rows)],
        "item_id": [items[(n * n + n // len(users)) % len(items)] or None for n in range(rows)],
        "timestamp": [time(n) or None for n in range(rows)],
    }
    options = PrepareOptions(negatives=1, split=split)
    with TemporaryDirectory() as name:
        paths = write(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)), Path(name))
        outcomes = [
            outcome(path, options, target)
            for path in paths
            for target in (None, Path(name) / f"out-{path.name}")
        ]
    assert all(found == outcomes[0] for found in outcomes)
