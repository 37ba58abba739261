"""Prepared on Spark or in memory: the same folder, to the byte. Needs scripts/install-spark."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ncf.data import PrepareOptions, prepare_file
from ncf.errors import NcfError

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[3]
USER = pl.col("user_id")
DEFECTS = {
    "no rows": "user,item,timestamp\n",
    "no column": "user,thing,timestamp\n1,2,3\n",
    "word for nothing": "user,item,timestamp\n1,2,3\nnan,2,3\n",
    "nothing left": "user,item,timestamp,rating\n1,2,3,1\n2,2,3,1\n",
}
"""Refused with the same sentence as in memory."""
EVENTS: dict[str, Any] = {
    "event": "rating", "event_weights": {"1": 0, "2": 0.1, "3": 0.7, "4": 3.3, "5": 1.3}
}  # fmt: skip


def table(seed: int, rows: int) -> pl.DataFrame:
    """Rows in no order, with repeated pairs, equal times and very active users."""
    draws = np.random.default_rng(seed)
    columns = {
        "user_id": (1_500 * draws.random(rows) ** 2).astype(np.int64) * 3 + 10,
        "item_id": (200 * draws.random(rows) ** 2).astype(np.int64) + 5,
        "rating": draws.integers(1, 6, rows),
        "timestamp": draws.integers(1_000_000, 1_000_000 + rows // 8, rows),
    }
    return pl.DataFrame(columns)


def cases(folder: Path) -> dict[str, tuple[Path, PrepareOptions]]:
    rows = table(1, 12_000)
    rows.write_parquet(folder / "last.parquet", row_group_size=1_000)
    (folder / "parts").mkdir()
    for number in range(4):
        # The larger files come last, because Spark reads these first and must keep the order of the rows.
        start, end = (0, 500, 1_500, 4_000, 12_000)[number : number + 2]
        rows[start:end].write_parquet(folder / "parts" / f"part-{number}.parquet")
    text = rows.with_columns(pl.format("u{}é", USER).alias("user_id"), pl.from_epoch("timestamp"))
    text.write_csv(folder / "text.csv")
    rows.with_columns(USER.cast(pl.String).str.zfill(6)).write_csv(folder / "padded.csv")
    rows.write_csv(folder / "headless.tsv", separator="\t", include_header=False)
    rows.with_columns(pl.col("timestamp") / 8).write_csv(folder / "fractions.csv")
    filters = PrepareOptions(min_rating=2, min_user=6, min_item=4, negatives=20)
    return {
        "last": (folder / "last.parquet", PrepareOptions(negatives=20)),
        "parts": (folder / "parts", PrepareOptions(negatives=20, validation="random", seed=4)),
        "text": (folder / "text.csv", PrepareOptions(negatives=20, weight="rating")),
        "padded": (folder / "padded.csv", PrepareOptions(negatives=20, split="random")),
        "headless": (folder / "headless.tsv", PrepareOptions(negatives=20, header=False)),
        "fractions": (folder / "fractions.csv", PrepareOptions(negatives=20, split="time")),
        "filters": (folder / "last.parquet", filters),
        "events": (folder / "text.csv", replace(filters, weight="rating", repeats="sum", **EVENTS)),
        "counts": (folder / "last.parquet", PrepareOptions(negatives=20, repeats="sum")),
    }  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every case, prepared by one Spark: name -> input, options, output, and report lines or error."""
    folder = tmp_path_factory.mktemp("spark")
    asked = cases(folder)
    for name, content in DEFECTS.items():
        path = folder / f"{name.replace(' ', '-')}.csv"
        path.write_text(content)
        asked[name] = (path, PrepareOptions(min_rating=2 if name == "nothing left" else None))
    asked["unweighed"] = (folder / "last.parquet", PrepareOptions(event="rating", event_weights={"2": 1}))
    outputs = {name: folder / "out" / name for name in asked}
    listed = [
        [str(path), str(outputs[name]), str(folder / "work" / name.replace(" ", "-")), asdict(options)]
        for name, (path, options) in asked.items()
    ]
    (folder / "cases.json").write_text(json.dumps(listed))
    python = Path(os.environ["NCF_TEST_SPARK"]).resolve() / "bin/python"
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYSPARK_PYTHON": str(python)}
    command = [python, Path(__file__).with_name("prepared.py"), folder / "cases.json"]
    ended = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=800)
    assert ended.returncode == 0, ended.stderr[-4000:]
    answers = json.loads((folder / "cases.answers").read_text())
    return {name: (*asked[name], outputs[name], answer) for name, answer in zip(asked, answers, strict=True)}


@pytest.mark.parametrize(
    "name", ["last", "parts", "text", "padded", "headless", "fractions", "filters", "events", "counts"]
)
def test_same_folder_as_in_memory(runs: dict[str, Any], tmp_path: Path, name: str) -> None:
    path, options, output, answer = runs[name]
    dataset, report = prepare_file(path, options)
    assert answer == report.lines()
    dataset.save(tmp_path / "memory")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "memory").iterdir()}
    assert {path.name: path.read_bytes() for path in output.iterdir()} == expected


@pytest.mark.parametrize("name", [*DEFECTS, "unweighed"])
def test_defects_are_the_same_sentence_and_leave_nothing(runs: dict[str, Any], name: str) -> None:
    path, options, output, answer = runs[name]
    with pytest.raises(NcfError) as expected:
        prepare_file(path, options)
    assert answer == f"{type(expected.value).__name__}: {expected.value}"
    assert not output.exists()
