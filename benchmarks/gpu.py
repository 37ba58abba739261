"""Training and scoring on one GPU: ML-1M epochs, seconds to HR@10 .70, and rates on data of ML-20M's size.

A sample is one logit that is trained on: a positive or one of its 4 negatives, drawn and verified within the
time that is measured, as is everything else of an epoch. Measured:

1. NeuMF 32 on ML-1M (994,169 positives, 4.97 M samples an epoch), in steps of 4,096, 16,384 and 65,536
   groups;
2. from prepared data to a test HR@10 of .700 with the GMF recipe: opening the data, warm start (on the CPU),
   training and the evaluation of every epoch are counted, the start of CUDA is not;
3. made-up data of ML-20M's size (138,493 users, 26,744 items, 20,000,263 positives), NeuMF 32 and NeuMF in
   the shape of NVIDIA's published one (64 factors, first layer on 2 x 128, tower 256-128-64), whose 34.08 M
   samples a second on one A100, in mixed precision and with unverified negatives, are the peer;
4. scoring of lists of 100 for every user of these data and the standings of their positives, in float32; the
   peer is NVIDIA's 82.7 M pairs a second.

`--estimate` needs no GPU: it prints what bytes, launches and FLOP allow an H100 (benchmarks/gpu_cost.py has
the arithmetic). `--dry-run-on-cpu` runs all of this program on tiny data, on the CPU, which shows that it
works and measures nothing.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import polars as pl
import torch

from common import ROOT, Clock, Report, command_line, movielens
from gpu_cost import scoring_cost, step_cost
from ncf.config import Experiment, ModelConfig, TrainConfig
from ncf.data import Dataset, HeldOut, Interactions, Vocabulary, prepare_catalog
from ncf.evaluation.on_device import tied_ranks_on
from ncf.experiment import RunOptions, train
from ncf.models import ModelScorer, build_model
from ncf.runtime import Workers, generator, workers
from ncf.training import Trainer

NEGATIVES = 4
MODELS = {
    "NeuMF 32": ModelConfig(kind="neumf", factors=32, embedding=128, tower=(128, 64, 32)),
    "NeuMF in NVIDIA's shape": ModelConfig(kind="neumf", factors=64, embedding=128, tower=(256, 128, 64)),
}
PUBLISHED = list(MODELS)[1]
EPOCH_SECONDS, SECONDS_TO_HIT, HIT, SAMPLES_A_SECOND, PAIRS_A_SECOND = 0.1, 5.0, 0.700, 100e6, 250e6
REFUSAL = (
    "There is no GPU here that torch can use: run this on a machine with one, or see "
    "--estimate and --dry-run-on-cpu."
)


@dataclass(frozen=True)
class Sizes:
    """How much is run: of the made-up data, groups a step, and counted epochs."""

    users: int
    items: int
    positives: int
    small_steps: tuple[int, ...]
    large_steps: tuple[int, ...]
    rounds: int


FULL = Sizes(138_493, 26_744, 20_000_263, (4096, 16_384, 65_536), (65_536, 209_715), 5)
QUICK = Sizes(138_493, 26_744, 20_000_263, (16_384,), (209_715,), 2)
TINY = Sizes(300, 200, 6_000, (512, 1024), (2048,), 1)


def made_up(sizes: Sizes) -> Dataset:
    """Distinct pairs, popular items more often; a list of 100 candidates for every user to be ranked."""
    random = np.random.default_rng(0)
    keys = np.zeros(0, np.int64)
    while len(keys) < sizes.positives:
        drawn = random.integers(0, sizes.users, sizes.positives // 2)
        popular = (sizes.items * random.random(len(drawn)) ** 2).astype(np.int64)
        keys = np.unique(np.concatenate([keys, drawn * sizes.items + popular]))
    kept = np.sort(random.choice(keys, sizes.positives, replace=False))
    train_rows = Interactions((kept // sizes.items).astype(np.int32), (kept % sizes.items).astype(np.int32))
    lists = random.integers(0, sizes.items, (sizes.users, 100), dtype=np.int32)
    popularity = train_rows.item_counts(sizes.items)
    return Dataset(
        name="made-up",
        users=Vocabulary(np.arange(sizes.users)),
        items=Vocabulary(np.arange(sizes.items)),
        item_columns=pl.DataFrame({"id": np.arange(sizes.items), "popularity": popularity}),
        train=train_rows,
        validation=HeldOut.empty(1),
        test=HeldOut(np.arange(sizes.users, dtype=np.int32), lists),
        known=train_rows.csr(sizes.users),
        description={"licence": "made up"},
        digest="made-up",
    )


def card(device: torch.device) -> dict[str, object]:
    """What it ran on."""
    if device.type == "cpu":
        return {"name": "the CPU, which measures nothing"}
    facts = torch.cuda.get_device_properties(device)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return {
        "name": facts.name,
        "memory_gib": round(facts.total_memory / 2**30, 1),
        "driver": driver[0] if driver else "unknown",
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
    }


def epochs(
    dataset: Dataset, model: ModelConfig, groups: int, device: torch.device, rounds: int
) -> list[float]:
    """Seconds of `rounds` epochs, after one that warms up and records the step."""
    built = build_model(model, len(dataset.users), len(dataset.items), generator(0, "init")).to(device)
    config = TrainConfig(epochs=1000, batch_size=groups, negatives=NEGATIVES, optimizer="dense")
    trainer = Trainer(dataset, built, config, Workers(1))
    seconds = []
    for _ in range(rounds + 1):
        result = trainer.train_epoch()
        assert result is not None
        seconds.append(result.seconds)
    return seconds[1:]


def throughput(
    what: str,
    dataset: Dataset,
    models: Mapping[str, ModelConfig],
    steps: tuple[int, ...],
    device: torch.device,
    rounds: int,
    report: Report,
) -> dict[str, float]:
    """The median seconds of an epoch by model, the best of the sizes of a step."""
    samples, rows, best = len(dataset.train) * (1 + NEGATIVES), [], dict.fromkeys(models, float("inf"))
    for name, model in models.items():
        for groups in steps:
            seconds = epochs(dataset, model, groups, device, rounds)
            best[name] = min(best[name], median(seconds))
            rate = samples / median(seconds) / 1e6
            rows.append((name, f"{groups:,}", f"{median(seconds):.4f}", f"{rate:.2f}"))
            report.document.setdefault("epochs", []).append(
                {"data": what, "model": name, "groups": groups, "seconds": seconds, "samples": samples}
            )
    report.table(
        f"{what}: {samples:,} samples an epoch",
        ("model", "groups a step", "seconds an epoch", "million samples/s"),
        rows,
    )
    return best


def time_to_hit(data: Dataset, device: torch.device, dry: bool, report: Report) -> float:
    """Seconds from a prepared folder to the first epoch with the wanted HR@10 on test, which selects
    nothing."""
    changes = [f"train.device={device.type}"]
    if dry:
        changes += ["train.init=random", "train.epochs=1", "model.factors=4"]
    experiment = Experiment.load(ROOT / "recipes" / "ml-1m-gmf.toml", changes)
    with tempfile.TemporaryDirectory() as folder:
        data.save(Path(folder) / "data")
        clock = Clock()
        dataset = Dataset.open(Path(folder) / "data")
        train(
            dataset,
            experiment,
            Path(folder) / "run",
            options=RunOptions(report_best_on_test=True, tracker=clock),
        )
    report.table(
        f"{experiment.name}: wall seconds since the start",
        ("epoch", "seconds since start", "of it training", "test HR@10"),
        [
            (
                int(row["epoch"]),
                f"{row['seconds_since_start']:.2f}",
                f"{row['seconds']:.3f}",
                f"{row['test_hr@10']:.4f}",
            )
            for row in clock.epochs
        ],
    )
    report.keep("time_to_hit", clock.epochs)
    reached = [row["seconds_since_start"] for row in clock.epochs if row["test_hr@10"] >= HIT]
    return reached[0] if reached else float("inf")


def scoring(dataset: Dataset, device: torch.device, rounds: int, report: Report) -> dict[str, float]:
    """Pairs a second by model: all lists scored and their positives' standings back on the CPU."""
    rows, found = [], {}
    pairs = dataset.test.candidates.size
    for name, model in MODELS.items():
        built = build_model(model, len(dataset.users), len(dataset.items), generator(0, "init")).to(device)
        seconds = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            tied_ranks_on(ModelScorer(built), dataset.test, slice(0, len(dataset.test)), device)
            seconds.append(time.perf_counter() - began)
        found[name] = pairs / median(seconds[1:])
        rows.append((name, f"{median(seconds[1:]):.4f}", f"{found[name] / 1e6:.2f}"))
        report.document.setdefault("scoring", []).append(
            {"model": name, "pairs": pairs, "seconds": seconds[1:]}
        )
    report.table(
        f"Scoring {pairs:,} pairs, the making of the scorer included",
        ("model", "seconds", "million pairs/s"),
        rows,
    )
    return found


def estimate(report: Report) -> None:
    """What an H100 may do by the cost of each step; nothing is run."""
    rows, kept = [], []
    for what, users, items, positives, steps in (
        ("ML-1M", 6040, 3706, 994_169, FULL.small_steps),
        ("ML-20M's size", FULL.users, FULL.items, FULL.positives, FULL.large_steps),
    ):
        for name, model in MODELS.items():
            for groups in steps:
                cost, samples = step_cost(model, users, items, groups, NEGATIVES), groups * (1 + NEGATIVES)
                epoch = cost.seconds * positives / groups
                rows.append(
                    (
                        f"{what}, {name}, {groups:,} groups",
                        f"{cost.launches}",
                        f"{cost.bytes / samples / 1e3:.1f}",
                        f"{cost.flop / samples / 1e3:.0f}",
                        f"{cost.seconds * 1e3:.2f}",
                        f"{epoch:.3f}",
                        f"{samples / cost.seconds / 1e6:.0f}",
                    )
                )
                kept.append(
                    {"data": what, "model": name, "groups": groups, **vars(cost), "epoch_seconds": epoch}
                )
    columns = (
        "",
        "launches",
        "kB a sample",
        "kFLOP a sample",
        "ms a step",
        "s an epoch",
        "million samples/s",
    )
    report.table("ESTIMATE for an H100, training: nothing was run on a GPU", columns, rows)
    lists = 20_000
    costs = {name: scoring_cost(model, FULL.users, FULL.items, lists, 100) for name, model in MODELS.items()}
    report.table(
        "ESTIMATE for an H100, scoring: nothing was run on a GPU",
        ("", "launches", "kB a pair", "kFLOP a pair", "million pairs/s"),
        [
            (
                name,
                cost.launches,
                f"{cost.bytes / lists / 1e5:.1f}",
                f"{cost.flop / lists / 1e5:.0f}",
                f"{lists * 100 / cost.seconds / 1e6:.0f}",
            )
            for name, cost in costs.items()
        ],
    )
    report.keep("estimate", {"steps": kept, "scoring": {name: vars(cost) for name, cost in costs.items()}})


def main(arguments: argparse.Namespace) -> None:
    """Measure, print, write."""
    dry = arguments.dry_run_on_cpu
    if not (dry or arguments.estimate or torch.cuda.is_available()):
        print(REFUSAL, file=sys.stderr)
        raise SystemExit(1)
    report = Report("gpu-estimate" if arguments.estimate else "gpu-dry-run" if dry else "gpu", arguments)
    if arguments.estimate:
        estimate(report)
        report.write()
        return
    device = torch.device("cpu" if dry else "cuda")
    sizes = TINY if dry else QUICK if arguments.quick else FULL
    rounds = arguments.rounds or sizes.rounds
    report.keep("card", card(device))
    report.log(", ".join(f"{name} {value}" for name, value in report.document["card"].items()))
    # In a dry run the trainer takes a GPU's way on the CPU, where nothing is recorded.
    as_on_a_gpu = patch("ncf.training.step_runner._has_graphs", lambda _: True) if dry else nullcontext()
    with as_on_a_gpu, workers(1):
        large = made_up(sizes)
        small = large if dry else movielens()
        seconds = throughput(
            "ML-1M", small, {"NeuMF 32": MODELS["NeuMF 32"]}, sizes.small_steps, device, rounds, report
        )
        small_epoch = seconds["NeuMF 32"]
        to_hit = time_to_hit(large if dry else prepare_catalog("ml-1m")[0], device, dry, report)
        seconds = throughput("ML-20M's size", large, MODELS, sizes.large_steps, device, rounds, report)
        rate = len(large.train) * (1 + NEGATIVES) / seconds[PUBLISHED]
        pairs = scoring(large, device, rounds, report)[PUBLISHED]
    if dry:
        report.log("A dry run: the program works; its figures mean nothing.")
    else:
        report.target("seconds of an ML-1M epoch, NeuMF 32", small_epoch, EPOCH_SECONDS, at_least=False)
        report.target(f"seconds to test HR@10 ≥ {HIT}", to_hit, SECONDS_TO_HIT, at_least=False)
        report.target(f"samples a second, {PUBLISHED}", rate, SAMPLES_A_SECOND)
        report.target(f"pairs a second, {PUBLISHED}", pairs, PAIRS_A_SECOND)
    report.write()


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument(
        "--dry-run-on-cpu", action="store_true", help="run all of it on tiny data; measures nothing"
    )
    parser.add_argument(
        "--estimate", action="store_true", help="what an H100 may do, worked out without a GPU"
    )
    main(parser.parse_args())
