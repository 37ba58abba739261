"""A large data set: 100 million interactions of 1 million users with 200 thousand items, prepared and trained
on.

1. Made here: planted clusters. Every user likes three of some hundred clusters of items; most of what they
   use comes from these, the rest from anywhere. Activity is log-normal, popularity a power law. Rows come in
   the order of time, so a user's rows lie all over the file. Pairs that repeat are part of it; the number of
   rows is chosen so that about as many distinct interactions as asked for remain (tried out on a sample of
   the users first).
2. Prepared by `python -m ncf prepare` in a process of its own.
3. NeuMF 32 trained for some time with large batches, in a process of its own, and in the same process ML-1M
   with the same model at its own batch size and at the large one. The order of the positives is made once an
   epoch; its time is spread over the epoch's steps. After that time of training, HR@10 on some of the test
   users beside that of popularity: the planted clusters are there to be found.

Peak memory of each process is the high-water mark of its resident set; pages of the mapped data are in it.
Asked for: within 16 GiB, and within a factor of two of ML-1M's samples a second.

About ten minutes and 6 GB of disk at the default size on two quiet cores; --quick takes 1 million
interactions.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from common import Report, command_line, movielens, timed
from ncf.config import EvaluationConfig, ModelConfig, TrainConfig
from ncf.data import Dataset, HeldOut
from ncf.evaluation import evaluate_sampled
from ncf.models import Model, ModelScorer, build_model
from ncf.runtime import Workers, choose_threads, generator, workers
from ncf.training import Trainer
from ncf.training.sampling import GroupSampler

MODEL = ModelConfig(kind="neumf", factors=32, embedding=128, tower=(128, 64, 32))
RULES = EvaluationConfig(cutoffs=(10,), bootstrap=0)
NEGATIVES, SMALL_BATCH, LARGE_BATCH = 4, 4096, 65_536
EVALUATED_USERS = 20_000
LIMIT_GIB, LIMIT_FACTOR = 16.0, 2.0

Rows = npt.NDArray[np.int64]
Result = TypeVar("Result")

_ROWS_AT_ONCE = 4_000_000
_SAMPLED_USERS, _SLOTS_A_USER = 20_000, 16
_LIKED, _LIKED_SHARES = 3, (0.5, 0.75, 0.9)
_ITEMS_A_CLUSTER, _ACTIVITY_SIGMA, _SKEW = 500, 0.8, 2.0
_YEAR = 365 * 86_400


class Planted:
    """Draws interactions: a user by activity, one of the user's clusters, an item of it by popularity."""

    def __init__(self, interactions: int, users: int, items: int, random: np.random.Generator) -> None:
        self.users, self.items = users, items
        self.size = min(_ITEMS_A_CLUSTER, max(1, items // 4))
        self.clusters = items // self.size
        self.liked = random.integers(0, self.clusters, (users, _LIKED))
        self.item_of_rank = random.permutation(items)
        activity = random.lognormal(sigma=_ACTIVITY_SIGMA, size=users)
        self.counts = np.ceil(activity / activity.mean() * _SLOTS_A_USER).astype(np.int64)
        self.slots = np.repeat(np.arange(users, dtype=np.int32), self.counts)
        self.rows = interactions
        for _ in range(2):
            self.rows = round(interactions / self._distinct(self.rows, random))

    def draw(self, count: int, random: np.random.Generator) -> tuple[Rows, Rows]:
        """Users and items of `count` interactions."""
        users = self.slots[random.integers(0, len(self.slots), count)].astype(np.int64)
        return users, self._items(users, random)

    def _items(self, users: Rows, random: np.random.Generator) -> Rows:
        """Of equally distant popularity ranks, each cluster has every `clusters`-th."""
        which = np.searchsorted(_LIKED_SHARES, random.random(len(users)))
        cluster = self.liked[users, np.minimum(which, _LIKED - 1)]
        place = random.random(len(users)) ** _SKEW
        within = cluster + self.clusters * (place * self.size).astype(np.int64)
        anywhere = (place * self.items).astype(np.int64)
        return self.item_of_rank[np.where(which < _LIKED, within, anywhere)]

    def _distinct(self, rows: int, random: np.random.Generator) -> float:
        """The share of distinct pairs among `rows` rows, tried on some of the users."""
        slots = int(self.counts[:_SAMPLED_USERS].sum())
        drawn = random.integers(0, slots, round(rows * slots / len(self.slots)))
        users = self.slots[drawn].astype(np.int64)
        keys = users * self.items + self._items(users, random)
        return len(np.unique(keys)) / max(1, len(keys))


def write_interactions(path: str, interactions: int, users: int, items: int) -> dict[str, Any]:
    """Write the Parquet file, a chunk for each window of time. Memory holds a chunk and the users' slots."""
    began, random = time.perf_counter(), np.random.default_rng(0)
    planted = Planted(interactions, users, items, random)
    parts = Path(path).with_suffix(".parts")
    parts.mkdir()
    chunks = -(-planted.rows // _ROWS_AT_ONCE)
    for chunk in range(chunks):
        count = planted.rows * (chunk + 1) // chunks - planted.rows * chunk // chunks
        rows, columns = planted.draw(count, random)
        window = _YEAR / chunks
        times = (1_600_000_000 + window * (chunk + np.sort(random.random(count)))).astype(np.int64)
        frame = pl.DataFrame({"user_id": rows, "item_id": columns, "timestamp": times})
        frame.write_parquet(parts / f"{chunk:05}.parquet")
    pl.scan_parquet(parts / "*.parquet").sink_parquet(path)
    shutil.rmtree(parts)
    return {
        "rows": planted.rows,
        "seconds": time.perf_counter() - began,
        "bytes": Path(path).stat().st_size,
        "peak_gib": peak_gib(),
    }


def prepare(source: Path, target: Path) -> dict[str, Any]:
    """`python -m ncf prepare`, with its peak memory."""
    command = [sys.executable, "-m", "ncf", "prepare", "--input", str(source), "--output", str(target)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ncf prepare ended with code {process.returncode}: see its message above.")
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_gib": usage.ru_maxrss / 2**20,
        "said": said.splitlines(),
        "bytes": sum(file.stat().st_size for file in target.iterdir()),
    }


def peak_gib() -> float:
    """The high-water mark of this process's resident memory (Linux; nothing elsewhere)."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return float("nan")
    kib = next((line.split()[1] for line in lines if line.startswith("VmHWM")), "nan")
    return float(kib) / 2**20


class Stopwatch:
    """A progress callback and a stop condition: notes when each step ended, and asks to stop after
    `seconds`."""

    def __init__(self, seconds: float, least: int) -> None:
        self.seconds, self.least = seconds, least
        self.began = time.perf_counter()
        self.ends: list[float] = []

    def progress(self, _epoch: int, _done: int, _total: int) -> None:
        """A step ended."""
        self.ends.append(time.perf_counter() - self.began)

    def stop(self) -> bool:
        """Whether it is enough."""
        return len(self.ends) > self.least and self.ends[-1] > self.seconds


def measure(dataset: Dataset, batch: int, seconds: float, pool: Workers) -> tuple[dict[str, Any], Model]:
    """Train for some time; samples a second over whole cycles of drawing a few blocks and training on them.

    The first cycle warms up and is not counted, and neither is the order of the positives, which is made once
    an epoch: `samples_per_second` has its time spread over the epoch.
    """
    model = build_model(MODEL, len(dataset.users), len(dataset.items), generator(0, "init"))
    trainer = Trainer(dataset, model, TrainConfig(epochs=1, batch_size=batch, negatives=NEGATIVES), pool)
    sampler = trainer.sampler
    assert isinstance(sampler, GroupSampler)
    cycle = sampler._steps_a_block * pool.threads
    order, _ = timed(lambda: sampler._orders(1, pool))
    watch = Stopwatch(seconds, 2 * cycle)
    trainer.train_epoch(watch.progress, watch.stop)
    steps = trainer.sampler.steps
    first, counted = counted_steps(len(watch.ends), cycle)
    spent = watch.ends[first + counted - 1] - watch.ends[first - 1]
    samples = counted * batch * (1 + NEGATIVES)
    epoch = order + spent / counted * steps
    return {
        "batch": batch,
        "steps_trained": len(watch.ends),
        "steps_counted": counted,
        "steps_an_epoch": steps,
        "seconds_counted": spent,
        "order_seconds": order,
        "steady_samples_per_second": samples / spent,
        "epoch_seconds": epoch,
        "samples_per_second": len(dataset.train) * (1 + NEGATIVES) / epoch,
        "lazy_tables": sorted(trainer.runner.lazy),
        "precision": str(trainer.objective.precision).removeprefix("torch."),
    }, model


def counted_steps(done: int, cycle: int) -> tuple[int, int]:
    """How many of the steps done warm up, and how many after them are counted: whole cycles, where there are
    any."""
    first = min(cycle, done // 2)
    rest = done - first
    return first, rest // cycle * cycle or rest


class ByPopularity:
    """Scores by the number of training interactions."""

    def __init__(self, dataset: Dataset) -> None:
        self._scores = torch.from_numpy(dataset.popularity).float()

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """[B, C]."""
        return self._scores[items_BC].expand(len(users_B), -1)

    def catalogue(self, users_B: Tensor) -> Tensor:
        """[B, I]."""
        return self._scores.expand(len(users_B), -1)


def train_and_compare(folder: str, seconds: float, batch: int) -> dict[str, Any]:
    """The third part: ML-1M, the large set, ML-1M again, in this process."""
    opening = time.perf_counter()
    dataset = Dataset.open(folder)
    opening = time.perf_counter() - opening
    small, spell = movielens(), max(3.0, seconds / 6)
    with workers(choose_threads()) as pool:
        before, _ = measure(small, SMALL_BATCH, spell, pool)
        base = peak_gib()
        large, model = measure(dataset, batch, seconds, pool)
        after, _ = measure(small, SMALL_BATCH, spell, pool)
        same_batch, _ = measure(small, batch, spell, pool)
        chosen = np.random.default_rng(0).permutation(len(dataset.test))[:EVALUATED_USERS]
        lists = HeldOut(dataset.test.user_rows[chosen], dataset.test.candidates[chosen])
        means = {
            name: evaluate_sampled(scorer, lists, RULES, pool).means["hr@10"]
            for name, scorer in (("model", ModelScorer(model)), ("popularity", ByPopularity(dataset)))
        }
    return {
        "users": len(dataset.users),
        "items": len(dataset.items),
        "train": len(dataset.train),
        "interactions": len(dataset.known.columns),
        "open_seconds": opening,
        "large": large,
        "ml1m": [before, after],
        "ml1m_same_batch": same_batch,
        "hr@10": means,
        "threads": pool.threads,
        "peak_gib_before_the_large_set": base,
        "peak_gib": peak_gib(),
    }


def in_a_process(work: Callable[..., Result], *arguments: object) -> Result:
    """Run it in a fresh process, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(work, *arguments).result()


def sizes_of(arguments: argparse.Namespace) -> tuple[int, int, int]:
    """Interactions, users and items; users and items follow from the first where they are not given."""
    interactions = arguments.interactions or (1_000_000 if arguments.quick else 100_000_000)
    users = arguments.users or interactions // 100
    return interactions, users, arguments.items or interactions // 500


def show(report: Report, made: dict[str, Any], prepared: dict[str, Any], trained: dict[str, Any]) -> None:
    """The tables and the targets."""
    report.table(
        f"{trained['interactions']:,} interactions of {trained['users']:,} users with "
        f"{trained['items']:,} items",
        ("", "seconds", "GB written", "peak GiB"),
        [
            (
                f"made: {made['rows']:,} rows",
                f"{made['seconds']:.1f}",
                f"{made['bytes'] / 1e9:.2f}",
                f"{made['peak_gib']:.2f}",
            ),
            (
                "ncf prepare",
                f"{prepared['seconds']:.1f}",
                f"{prepared['bytes'] / 1e9:.2f}",
                f"{prepared['peak_gib']:.2f}",
            ),
            ("opened", f"{trained['open_seconds']:.2f}", "", ""),
            ("trained", f"{trained['large']['seconds_counted']:.1f}", "", f"{trained['peak_gib']:.2f}"),
        ],
    )
    runs = [
        ("ML-1M", trained["ml1m"][0]),
        ("the large set", trained["large"]),
        ("ML-1M again", trained["ml1m"][1]),
        ("ML-1M, the large batch", trained["ml1m_same_batch"]),
    ]
    report.table(
        f"NeuMF 32, {trained['threads']} threads: training",
        ("", "batch", "steps counted", "1,000 samples/s", "epoch, seconds", "of it order", "updated lazily"),
        [
            (
                name,
                f"{run['batch']:,}",
                run["steps_counted"],
                f"{run['samples_per_second'] / 1e3:,.1f}",
                f"{run['epoch_seconds']:,.1f}",
                f"{run['order_seconds']:.2f}",
                ", ".join(run["lazy_tables"]) or "none",
            )
            for name, run in runs
        ],
    )
    large = trained["large"]
    report.log(
        f"HR@10 after {large['steps_trained']} of {large['steps_an_epoch']} steps of the first epoch, "
        f"{EVALUATED_USERS:,} test "
        f"users at most: {trained['hr@10']['model']:.4f}; popularity "
        f"{trained['hr@10']['popularity']:.4f}; chance .10."
    )
    ml1m = sum(run["samples_per_second"] for run in trained["ml1m"]) / len(trained["ml1m"])
    peak = max(prepared["peak_gib"], trained["peak_gib"])
    report.target("peak memory of preparing and training, GiB", peak, LIMIT_GIB, at_least=False)
    report.target(
        "ML-1M's samples a second over the large set's",
        ml1m / large["samples_per_second"],
        LIMIT_FACTOR,
        at_least=False,
    )


def main(arguments: argparse.Namespace) -> None:
    """Make, prepare, train, print, write; the folder is removed unless it is to be kept."""
    report = Report("scale", arguments)
    seconds = arguments.seconds or (6.0 if arguments.quick else 60.0)
    if arguments.folder:
        Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="ncf-scale-", dir=arguments.folder))
    source, target = folder / "interactions.parquet", folder / "prepared"
    try:
        made = in_a_process(write_interactions, str(source), *sizes_of(arguments))
        report.keep("made", made)
        prepared = prepare(source, target)
        report.keep("prepared", prepared)
        source.unlink()
        trained = in_a_process(train_and_compare, str(target), seconds, arguments.batch)
        report.keep("trained", trained)
        show(report, made, prepared, trained)
    finally:
        if arguments.keep:
            report.log(f"kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    report.write()


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--interactions", type=int, help="distinct ones, about; 100 million by default")
    parser.add_argument("--users", type=int, help="a hundredth of the interactions by default")
    parser.add_argument("--items", type=int, help="a five-hundredth of the interactions by default")
    parser.add_argument("--seconds", type=float, help="of training on the large set; 60 by default")
    parser.add_argument("--batch", type=int, default=LARGE_BATCH, help="groups a step on the large set")
    parser.add_argument(
        "--folder", help="where to put the data; the temporary folder of the system by default"
    )
    parser.add_argument("--keep", action="store_true", help="do not remove the data at the end")
    main(parser.parse_args())
