"""Sharded tables against replicated ones: memory and speed over large tables; with --accuracy, the figures on
ML-1M.

Run it with the Python of the environment that scripts/install-torchrec makes. Two processes of one thread
each over gloo, a NeuMF with four tables of `--rows` x 64, a global batch of 8,192 groups of 1 + 4. Each
competitor runs in processes of its own, in turns. Memory is a process's peak resident set less what it was
before the model was made (imports, TorchRec's too, and the made-up data); the competitors' larger process
counts. PyTorch's own way, DistributedDataParallel with sparse gradients and SparseAdam, draws its groups with
two calls of randint; ours draw and verify them.
"""

import argparse
import gc
import json
import multiprocessing
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from accuracy import METRICS, spread
from common import ROOT, Report, command_line
from ncf.config import Experiment
from ncf.data import Dataset, HeldOut, Interactions, PrepareOptions, Vocabulary, prepare_catalog
from ncf.models import build_model
from ncf.models.layers import Tower
from ncf.runtime import generator, workers
from ncf.training import Trainer
from ncf.training.parallel.connect import processes
from ncf.training.parallel.sharded_weights import draw
from ncf.training.parallel.sharding import ShardedTables

WIDTH, TOWER, BATCH, NEGATIVES = 64, (128, 64, 32), 8192, 4
PROCESSES = 2
WARM_UP = 5
MEMORY, SPEED, NOISE = 0.6, 1.0, 2.0
RECIPES = ("ml-1m-gmf", "ml-1m-neumf")
SETTINGS = [
    "model.kind=neumf", f"model.factors={WIDTH}", f"model.embedding={WIDTH}", f"model.tower={list(TOWER)}",
    f"train.batch_size={BATCH}", f"train.negatives={NEGATIVES}", "train.threads=1", "train.precision=float32",
    "train.device=cpu", "train.optimizer=lazy", "train.schedule=constant",
]  # fmt: skip


def made_up(rows: int) -> Dataset:
    """`rows` users and items, two positives a user."""
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(rows, dtype=np.int32), 2)
    first = random.integers(0, rows, rows, dtype=np.int32)
    items = np.sort(
        np.stack([first, (first + 1 + random.integers(0, rows - 1, rows)) % rows], axis=1), axis=1
    )
    train = Interactions(users, items.astype(np.int32).ravel())
    columns = pl.DataFrame({"id": np.arange(rows), "popularity": np.ones(rows, np.int64)})
    vocabulary = Vocabulary(np.arange(rows))
    nothing = HeldOut.empty(1)
    return Dataset(
        name="made-up",
        users=vocabulary,
        items=vocabulary,
        item_columns=columns,
        train=train,
        validation=nothing,
        test=nothing,
        known=train.csr(rows),
        description={},
        digest="made-up",
    )


class PlainNeuMF(nn.Module):
    """NeuMF as one writes it with `nn.Embedding(sparse=True)` and autograd."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, WIDTH, sparse=True) for _ in range(4))
        self.first, self.tower = nn.Linear(2 * WIDTH, TOWER[0]), Tower(TOWER)
        self.output = nn.Linear(WIDTH + TOWER[-1], 1)

    def forward(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Logits [B, C]."""
        users = users_B[:, None].expand_as(items_BC)
        a, b, c, d = (table(rows) for table, rows in zip(self.tables, (users, items_BC) * 2, strict=True))
        hidden = self.tower(self.first(torch.cat([c, d], dim=2)))
        logits: Tensor = self.output(torch.cat([a * b, hidden], dim=2)).squeeze(2)
        return logits


def run_plain(rows: int, rank: int) -> Callable[[int], None]:
    """Steps of DistributedDataParallel; the layers have AdamW."""
    model = PlainNeuMF(rows)
    parallel = nn.parallel.DistributedDataParallel(model)
    tables = list(model.tables.parameters())
    layers = [p for name, p in model.named_parameters() if not name.startswith("tables")]
    optimizers = [torch.optim.SparseAdam(tables, lr=0.001), torch.optim.AdamW(layers, lr=0.001, fused=True)]
    random = generator(0, "steps", rank)
    targets = torch.zeros(BATCH // PROCESSES, 1 + NEGATIVES)
    targets[:, 0] = 1.0

    def steps(count: int) -> None:
        for _ in range(count):
            users_B = torch.randint(rows, (len(targets),), generator=random)
            items_BC = torch.randint(rows, targets.shape, generator=random)
            loss = nn.functional.binary_cross_entropy_with_logits(parallel(users_B, items_BC), targets)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()

    return steps


def competitor(name: str, rank: int, port: int, rows: int, steps: int, answers: Any) -> None:
    """One process of a competitor: seconds a step and GiB of memory, put into `answers`."""
    torch.set_num_threads(1)
    if name == "sharded":
        import torchrec.distributed.embedding  # type: ignore[import-not-found]  # noqa: F401
    recipe = Experiment.parse({}, SETTINGS)
    dataset = made_up(rows) if name != "plain" else None
    gc.collect()
    before = resident()
    with processes("127.0.0.1", port, rank, PROCESSES) as communicator, workers(1) as pool:
        if dataset is None:
            run = run_plain(rows, rank)
        else:
            whole = (rows, rows) if name == "replicated" else (0, 0)
            model = build_model(recipe.model, *whole, generator(0, "init"))
            sharded = None
            if name == "sharded":
                sharded = ShardedTables(model, rows, rows, communicator)
                draw(sharded, 0)
            trainer = Trainer(dataset, model, recipe.train, pool, communicator, sharded)

            def run(count: int) -> None:
                ends = trainer.position.step + count
                trainer.train_epoch(stop=lambda: trainer.position.step >= ends - 1)

        run(WARM_UP)
        communicator.barrier()
        began = time.perf_counter()
        run(steps)
        communicator.barrier()
        spent = (time.perf_counter() - began) / steps
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        answers.put({"seconds": spent, "gib": peak - before, "before": before})


def resident() -> float:
    """GiB that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def race(name: str, rows: int, steps: int) -> dict[str, float]:
    """Both processes of one competitor; the slower and the larger of them."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [
        context.Process(target=competitor, args=(name, rank, port, rows, steps, answers))
        for rank in range(PROCESSES)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
        if process.exitcode:
            raise SystemExit(f"A process of the competitor {name!r} ended with code {process.exitcode}.")
    both = [answers.get() for _ in started]
    return {key: max(answer[key] for answer in both) for key in both[0]}


def compare(report: Report, rows: int, steps: int, rounds: int) -> None:
    """Memory and speed."""
    names = {
        "plain": "DistributedDataParallel, SparseAdam",
        "replicated": "ncf, replicated tables, lazy Adam",
        "sharded": "ncf, sharded tables",
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append(race(name, rows, steps))
            print(name, found[name][-1], flush=True)
    median = {
        name: {key: statistics.median(one[key] for one in results) for key in results[0]}
        for name, results in found.items()
    }
    plain = median["plain"]
    report.table(
        f"NeuMF, 4 tables of {rows:,} x {WIDTH}, {PROCESSES} processes x 1 thread, gloo, batch {BATCH:,}",
        ("", "GiB a process", "of DDP's", "steps/s", "over DDP's"),
        [
            (
                words,
                f"{median[name]['gib']:.2f}",
                f"{median[name]['gib'] / plain['gib']:.2f}",
                f"{1 / median[name]['seconds']:.2f}",
                f"{plain['seconds'] / median[name]['seconds']:.2f}",
            )
            for name, words in names.items()
        ],
    )
    report.keep("found", found)
    for other in ("plain", "replicated"):
        ratio = median["sharded"]["gib"] / median[other]["gib"]
        report.target(f"memory a process, sharded over {names[other]}", ratio, MEMORY, at_least=False)
    faster = plain["seconds"] / median["sharded"]["seconds"]
    report.target(f"steps/s, sharded over {names['plain']}", faster, SPEED)


def evaluate(report: Report, recipe: str, seeds: list[int], overrides: list[str]) -> None:
    """Test figures of a recipe with tables replicated in one process and sharded over two."""
    found: dict[str, list[dict[str, Any]]] = {"replicated": [], "sharded": []}
    dataset, _ = prepare_catalog("ml-1m", PrepareOptions(validation_popularity_exponent=0.3))
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        dataset.save(data)
        for seed in seeds:
            for tables, rows in found.items():
                output = Path(scratch) / f"{tables}-{seed}"
                changes = [f"train.seed={seed}", "train.threads=1", "evaluation.bootstrap=0", *overrides]
                words = [word for change in changes for word in ("--set", change)]
                many = ["--nproc", str(PROCESSES), "--tables", "sharded"] if tables == "sharded" else []
                command = [
                    "train",
                    f"{ROOT}/recipes/{recipe}.toml",
                    "--data",
                    str(data),
                    "--output",
                    str(output),
                    "--quiet",
                ]
                subprocess.run([sys.executable, "-m", "ncf", *command, *words, *many], check=True)
                metrics = json.loads((output / "artifact" / "metrics.json").read_text("utf-8"))
                rows.append({name: metrics["test"]["metrics"][name] for name in METRICS})
                print(recipe, tables, seed, rows[-1], flush=True)
    report.table(
        (
            f"{recipe}{' with ' if overrides else ''}{', '.join(overrides)}: published test lists, "
            f"{len(seeds)} seeds"
        ),
        ("tables", "HR@10", "NDCG@10"),
        [(tables, *(spread(rows, name) for name in METRICS)) for tables, rows in found.items()],
    )
    report.keep(f"accuracy of {recipe}", found)
    for name in METRICS if len(seeds) > 1 else ():
        columns = [[row[name] for row in rows] for rows in found.values()]
        deviation = statistics.mean(statistics.variance(column) for column in columns) ** 0.5
        lost = statistics.mean(columns[0]) - statistics.mean(columns[1])
        what = f"{recipe}, {name} lost by sharding, in standard deviations of the seeds"
        report.target(what, lost / deviation, NOISE, at_least=False)


def main(arguments: argparse.Namespace) -> None:
    """Run, print, write."""
    report = Report("sharded-accuracy" if arguments.accuracy else "sharded", arguments)
    if arguments.accuracy:
        for recipe in arguments.recipes:
            evaluate(report, recipe, [0, 1] if arguments.quick else [0, 1, 2], arguments.overrides)
    else:
        rows = arguments.rows or (100_000 if arguments.quick else 1_000_000)
        compare(report, rows, arguments.steps, arguments.rounds or (1 if arguments.quick else 3))
    report.write()


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--rows", type=int, help="users, and items; a million by default")
    parser.add_argument("--steps", type=int, default=30, help="counted steps of a round")
    parser.add_argument("--accuracy", action="store_true", help="three seeds of recipes on ML-1M instead")
    parser.add_argument("--recipes", nargs="*", default=RECIPES, help="names in recipes/, with --accuracy")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="section.key=value")
    main(parser.parse_args())
