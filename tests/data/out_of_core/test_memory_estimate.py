"""What is streamed without being asked for: only what would not fit."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from ncf.cli import app
from ncf.data.formats import source
from ncf.data.out_of_core import streaming


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
    assert "--streaming is for --input" in str(result.exception)


def test_addresses_are_read_in_memory_unless_asked() -> None:
    assert not streaming.wants_streaming(source("s3://bucket/events.parquet"))
