"""What a user's history costs in training: history-gmf against the plain GMF on ML-1M, and against its naive
form.

An epoch of `Trainer.train_epoch` each, factors 128, 1 + 4 candidates, the package's defaults, with 1 and 2
threads and steps of 4,096 and 8,192 groups. `every` is `train.history_every`: steps between two moves of the
history's table. The competitors take turns; the least of the rounds counts, in wall seconds and in processor
seconds, and the ratio is that of processor seconds, as a machine that others use tells little by wall time.

The peer is what SVD++ code does where it is written down as it stands: the sums of all users in every step,
gradients by autograd, one fused AdamW. Some of its steps are timed and counted up to an epoch.

Then one thread by part: the two products of a move, the steps, the optimiser, the drawing of negatives.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any
from unittest.mock import patch

import torch

from common import Report, Timing, command_line, movielens, plural, raw, take_turns, torch_threads
from ncf.config import ModelConfig, TrainConfig
from ncf.data import Dataset
from ncf.models import HistoryGMF, build_model
from ncf.models.history import History
from ncf.runtime import Workers, generator
from ncf.training import Trainer
from ncf.training.history_table import HistoryTable
from ncf.training.losses import LOSSES
from ncf.training.sampling import GroupSampler
from ncf.training.step_runner import HistoryRunner

FACTORS, NEGATIVES = 128, 4
BATCHES, THREADS, EVERY = (4096, 8192), (1, 2), (0, 4, 2, 1)
NAIVE_STEPS = 4
WANTED = 2.0
PLAIN, NAIVE = "GMF", "naive form"


def model_of(kind: str, dataset: Dataset) -> Any:
    """Random first values."""
    config = ModelConfig.model_validate({"kind": kind, "factors": FACTORS})
    return build_model(config, len(dataset.users), len(dataset.items), generator(0, "init"))


def settings(batch: int, every: int = 0) -> TrainConfig:
    """Many epochs, so that the schedule is nowhere near its end."""
    return TrainConfig(epochs=1000, batch_size=batch, negatives=NEGATIVES, history_every=every)


def trainer_of(kind: str, dataset: Dataset, threads: int, batch: int, every: int = 0) -> Trainer:
    """A trainer with threads of its own."""
    return Trainer(dataset, model_of(kind, dataset), settings(batch, every), Workers(threads))


def label(every: int) -> str:
    """How the tables name a competitor."""
    return f"history-gmf, every {every or 'automatic'}"


class Naive:
    """Every step adds up the histories of all users and goes back through them."""

    def __init__(self, dataset: Dataset, threads: int, batch: int, steps: int) -> None:
        self.model: HistoryGMF = model_of("history-gmf", dataset)
        self.model.requires_grad_(True)
        self.model.attach(History.of(dataset.seen_in_training, len(dataset.items)))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.001, weight_decay=0.0, fused=True)
        self.sampler = GroupSampler(dataset, batch_size=batch, negatives=NEGATIVES, seed=0)
        self.threads, self.steps, self.loss = threads, steps, LOSSES["bce"]

    def __call__(self) -> None:
        with torch_threads(self.threads):
            for step in islice(self.sampler.epoch(0, Workers(self.threads)), self.steps):
                self.optimizer.zero_grad()
                logits_BC = self.model.without_positive(step.users, step.items)
                _, gradient_BC = self.loss.sum_and_gradient(logits_BC.detach())
                logits_BC.backward(gradient_BC / logits_BC.numel())  # type: ignore[no-untyped-call]
                self.optimizer.step()


def single_threaded(work: Callable[[], object]) -> Callable[[], object]:
    """The package brings its own threads; torch's would come on top."""

    def run() -> object:
        with torch_threads(1):
            return work()

    return run


def compare(
    dataset: Dataset, threads: int, batch: int, arguments: argparse.Namespace, report: Report
) -> tuple[list[tuple[object, ...]], float]:
    """One table's rows, and the ratio of the automatic setting to the plain GMF."""
    trainers = {PLAIN: trainer_of("gmf", dataset, threads, batch)}
    trainers |= {
        label(every): trainer_of("history-gmf", dataset, threads, batch, every) for every in arguments.every
    }
    naive_steps = 1 if arguments.quick else NAIVE_STEPS
    works: dict[str, Callable[[], object]] = {
        name: single_threaded(trainer.train_epoch) for name, trainer in trainers.items()
    }
    works[NAIVE] = Naive(dataset, threads, batch, naive_steps)
    timings = take_turns(works, 1 if arguments.quick else arguments.rounds or 3, warm_up=not arguments.quick)
    report.keep(f"{plural(threads)}, batch {batch}", raw(timings))
    whole = trainers[PLAIN].sampler.steps / naive_steps
    least = {name: _least(one, whole if name == NAIVE else 1.0) for name, one in timings.items()}
    rows: list[tuple[object, ...]] = []
    for name, (wall, processor) in least.items():
        runner = trainers[name].runner if name in trainers else None
        rows.append(
            (
                name,
                runner.table.every if isinstance(runner, HistoryRunner) else "",
                f"{wall:.1f}",
                f"{processor:.1f}",
                f"{processor / least[PLAIN][1]:.2f}",
            )
        )
    return rows, least[label(0)][1] / least[PLAIN][1]


def _least(timing: Timing, times: float) -> tuple[float, float]:
    return times * min(timing.wall), times * min(timing.processor)


def by_part(dataset: Dataset, batch: int, every: int) -> dict[str, float]:
    """Processor seconds of an epoch of history-gmf in one thread, by part."""
    trainer = trainer_of("history-gmf", dataset, 1, batch, every)
    parts: defaultdict[str, float] = defaultdict(float)

    def clocked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            began = time.thread_time()
            result = work(*arguments)
            parts[name] += time.thread_time() - began
            return result

        return run

    def drawn(*arguments: Any) -> Iterator[Any]:
        blocks = iter(epoch(*arguments))
        following = clocked("drawing", lambda: next(blocks, None))
        while (block := following()) is not None:
            yield block

    assert isinstance(trainer.runner, HistoryRunner)
    history, optimizer, epoch = trainer.runner.table, trainer.runner.optimizer, trainer.sampler.epoch
    assert isinstance(history, HistoryTable)
    with (
        torch_threads(1),
        patch.object(history, "refresh", clocked("sums of all users", history.refresh)),
        patch.object(history, "_gradient", clocked("gradient of the history's table", history._gradient)),
        patch.object(optimizer, "step", clocked("optimiser", optimizer.step)),
        patch.object(trainer.sampler, "epoch", drawn),
    ):
        began = time.thread_time()
        trainer.train_epoch()
        whole = time.thread_time() - began
    parts["steps"] = whole - sum(parts.values())
    return dict(sorted(parts.items(), key=lambda part: -part[1]))


def main() -> None:
    """Measure, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--batches", type=int, nargs="*", default=list(BATCHES))
    parser.add_argument("--threads", type=int, nargs="*", default=list(THREADS))
    parser.add_argument(
        "--every", type=int, nargs="*", default=list(EVERY), help="0 is the automatic setting"
    )
    arguments = parser.parse_args()
    arguments.every = [0, *(every for every in arguments.every if every)]
    if arguments.quick:
        arguments.batches, arguments.threads, arguments.every = arguments.batches[-1:], [1], [0]
    report = Report("history", arguments)
    dataset = movielens()
    for threads in arguments.threads:
        for batch in arguments.batches:
            rows, ratio = compare(dataset, threads, batch, arguments, report)
            report.table(
                f"An epoch of ML-1M, factors {FACTORS}, {batch:,} groups a step, {plural(threads)}",
                ("model", "every", "seconds", "processor seconds", "ratio"),
                rows,
            )
            report.target(
                f"{label(0)} / {PLAIN}, {plural(threads)}, batch {batch:,}", ratio, WANTED, at_least=False
            )
    for batch in arguments.batches:
        for every in (0, 1)[: 1 if arguments.quick else 2]:
            parts = by_part(dataset, batch, every)
            whole = sum(parts.values())
            report.table(
                f"{label(every)}, {batch:,} groups a step, one thread: {whole:.1f} processor seconds",
                ("part", "seconds", "share"),
                [(part, f"{seconds:.2f}", f"{seconds / whole:.0%}") for part, seconds in parts.items()],
            )
            report.keep(f"parts, {label(every)}, batch {batch}", parts)
    report.write()


if __name__ == "__main__":
    main()
