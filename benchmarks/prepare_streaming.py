"""Memory and time of `ncf prepare` in memory and in parts, on the same Parquet file, which is made here.

1. Made: interactions of users by a log-normal activity with items by a power law, in the order of time,
   written in pieces; memory holds one.
2. Prepared by `python -m ncf prepare --no-streaming` and `--streaming`, each in a process of its own. Peak
   memory is the high-water mark of that process's resident set; pages of mapped files are in it.
3. Compared: both folders have the same digest.

Everything is written into a folder below --folder and removed at the end. The ratio of the peaks is the
figure that counts; times on a machine that others use say little.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common import Report, command_line

_ROWS_AT_ONCE = 2_000_000
_YEAR = 365 * 86_400


def write_interactions(folder: Path, rows: int, users: int, items: int) -> None:
    """A folder of Parquet files; memory holds one of them and the users' activity."""
    random = np.random.default_rng(0)
    folder.mkdir()
    share = random.lognormal(sigma=0.8, size=users)
    ends = np.cumsum(share / share.sum())
    pieces = -(-rows // _ROWS_AT_ONCE)
    for piece in range(pieces):
        count = rows * (piece + 1) // pieces - rows * piece // pieces
        times = 1_600_000_000 + _YEAR / pieces * (piece + np.sort(random.random(count)))
        frame = pl.DataFrame(
            {
                "user_id": np.minimum(ends.searchsorted(random.random(count)), users - 1),
                "item_id": (items * random.random(count) ** 2).astype(np.int64),
                "rating": random.integers(1, 6, count).astype(np.float32),
                "timestamp": times.astype(np.int64),
            }
        )
        frame.write_parquet(folder / f"{piece:05}.parquet")


def prepared(source: Path, output: Path, way: str) -> dict[str, Any]:
    """Run the command in a process of its own: seconds, peak memory in GiB, digest."""
    command = [sys.executable, "-m", "ncf", "prepare", "--input", str(source), "--output", str(output), way]
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"ncf prepare {way} ended with {child.returncode}")
    document = json.loads((output / "dataset.json").read_text("utf-8"))
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_gib": used.ru_maxrss / 2**20,
        "digest": document["digest"],
        "bytes": sum(path.stat().st_size for path in output.iterdir()),
        "counts": document["description"]["counts"],
    }


def run(arguments: argparse.Namespace) -> None:
    """Make the file, prepare it both ways, print, remove."""
    rows, users, items = arguments.interactions, arguments.users, arguments.items
    if arguments.quick:
        rows, users, items = 2_000_000, 100_000, 20_000
    report = Report("prepare_streaming", arguments)
    folder = Path(tempfile.mkdtemp(prefix="ncf-prepare-", dir=arguments.folder))
    try:
        write_interactions(folder / "events", rows, users, items)
        size = sum(path.stat().st_size for path in (folder / "events").iterdir())
        found = {}
        for way in ("--no-streaming", "--streaming"):
            found[way] = prepared(folder / "events", folder / way.strip("-"), way)
            shutil.rmtree(folder / way.strip("-"))
    finally:
        shutil.rmtree(folder)
    whole, parts = found["--no-streaming"], found["--streaming"]
    report.table(
        f"{rows:,} rows, {users:,} users, {items:,} items, Parquet of {size / 2**30:.2f} GiB",
        ["way", "peak memory", "seconds", "processor s", "prepared folder"],
        [
            [name, f"{one['peak_gib']:.2f} GiB", f"{one['seconds']:.0f}", f"{one['processor_seconds']:.0f}",
             f"{one['bytes'] / 2**30:.2f} GiB"]
            for name, one in (("in memory", whole), ("streaming", parts))
        ],
    )  # fmt: skip
    report.keep("runs", found)
    if whole["digest"] != parts["digest"]:
        raise SystemExit("the two folders differ")
    report.log(f"Same digest: {whole['digest'][:16]}…")
    report.target(
        "peak memory, streaming against in memory", parts["peak_gib"] / whole["peak_gib"], 0.5, at_least=False
    )
    report.write()


if __name__ == "__main__":
    options = command_line(__doc__)
    options.add_argument("--interactions", type=int, default=50_000_000, help="rows of the table")
    options.add_argument("--users", type=int, default=1_000_000)
    options.add_argument("--items", type=int, default=200_000)
    options.add_argument("--folder", help="where to write; the system's temporary folder by default")
    run(options.parse_args())
