"""What all benchmarks share: fair repeats, the data set, a trained model, a description of the machine, a
table, a JSON file.

The decision worth knowing: competitors take turns. A round runs each of them once, and a ratio compares
medians over the rounds of one run, so a machine that slows down slows all of them. Seconds of processor time
are noted beside wall seconds: on a machine that others use, they tell what the work cost where wall time
tells who else was busy.
"""

import argparse
import json
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ncf.config import Experiment
from ncf.data import Dataset, Interactions, prepare_catalog
from ncf.models import ModelScorer, build_model
from ncf.runtime import Workers, choose_threads, generator
from ncf.tracking.tracker import Silent
from ncf.training import Trainer
from ncf.training.spectral_init import ClosedForm, init_spectral

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
CONSOLE = Console(highlight=False, width=132)


class Clock(Silent):
    """Notes when each epoch had been trained and evaluated."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.epochs: list[dict[str, float]] = []

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """After training and evaluating."""
        passed = time.perf_counter() - self.began
        self.epochs.append({"epoch": epoch, "seconds_since_start": passed, **figures})


@dataclass
class Timing:
    """Repeats of one competitor: wall seconds and processor seconds (children included) of each round."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median of the wall seconds."""
        return statistics.median(self.wall)

    @property
    def processor_seconds(self) -> float:
        """The median of the processor seconds."""
        return statistics.median(self.processor)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds and processor seconds of one call; those of child processes count once they have ended."""
    before, began = _processor_seconds(), time.perf_counter()
    work()
    return time.perf_counter() - began, _processor_seconds() - before


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def take_turns(
    competitors: Mapping[str, Callable[[], object]], rounds: int, warm_up: bool = True
) -> dict[str, Timing]:
    """`rounds` repeats of each, one after the other in every round; the first, which warms up, is not
    counted."""
    timings = {name: Timing() for name in competitors}
    for number in range(rounds + warm_up):
        for name, work in competitors.items():
            wall, processor = timed(work)
            if number >= warm_up:
                timings[name].wall.append(wall)
                timings[name].processor.append(processor)
    return timings


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Torch's own threads, for peers that use them; ncf's workers bring their own."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def plural(threads: int) -> str:
    """How the tables say it."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def movielens() -> Dataset:
    """ML-1M as published with NCF, from the files in the repository, its validation positives back in
    training.

    That gives the 994,169 positives that published code trains on.
    """
    dataset, _ = prepare_catalog("ml-1m")
    return dataset.with_validation_in_training()


def share_of(dataset: Dataset, share: float) -> Dataset:
    """The same users, items and known positives with every n-th training positive: a short epoch of the same
    kind."""
    if share >= 1.0:
        return dataset
    kept = np.arange(0, len(dataset.train), round(1.0 / share))
    train: Interactions = dataset.train.take(kept)
    return replace(dataset, train=train)


def trained(dataset: Dataset, settings: Experiment, seed: int, pool: Workers) -> ModelScorer:
    """What the settings' model says after its last epoch; nothing is evaluated and nothing is written."""
    config = settings.train.model_copy(update={"seed": seed})
    sizes = len(dataset.users), len(dataset.items)
    model = build_model(settings.model, *sizes, generator(seed, "init"))
    if config.init == "spectral":
        init_spectral(model, ClosedForm.of(dataset, config), pool)
    trainer = Trainer(dataset, model, config, pool)
    for _ in range(config.epochs):
        trainer.train_epoch()
    return ModelScorer(trainer.evaluated_model)


def machine() -> dict[str, object]:
    """Where and when this ran, as far as it matters to speed."""
    return {
        "cpu": _cpu(),
        "cores": choose_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_average_at_start": [round(load, 2) for load in os.getloadavg()],
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


class Report:
    """Collects the tables of one benchmark, prints each as it is made, and writes everything as JSON."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self.name = name
        self.output = Path(arguments.output or RESULTS / f"{name}.json")
        self.document: dict[str, Any] = {
            "benchmark": name,
            "quick": bool(arguments.quick),
            "machine": machine(),
            "command_line": {key: str(value) for key, value in vars(arguments).items()},
        }
        where = self.document["machine"]
        CONSOLE.print(
            (
                f"{name}: {where['cpu']}, {where['cores']} cores, torch {where['torch']}, load "
                f"{where['load_average_at_start'][0]}"
            )
            + (", quick" if arguments.quick else "")
        )

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table; the first column is text, the others are set to the right."""
        table = Table(title=title, title_justify="left", title_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        CONSOLE.print(table)

    def log(self, sentence: str) -> None:
        """A remark below a table; it is kept in the JSON as well."""
        CONSOLE.print(sentence, markup=False, soft_wrap=True)
        self.document.setdefault("remarks", []).append(sentence)

    def keep(self, name: str, values: object) -> None:
        """Put values into the JSON under `name`."""
        self.document[name] = values

    def target(self, what: str, measured: float, wanted: float, at_least: bool = True) -> None:
        """Compare a figure with what was aimed at; say it and keep it."""
        met = measured >= wanted if at_least else measured <= wanted
        self.document.setdefault("targets", []).append(
            {
                "what": what,
                "measured": measured if math.isfinite(measured) else None,
                "wanted": wanted,
                "sense": "at least" if at_least else "at most",
                "met": met,
            }
        )
        sign = "≥" if at_least else "≤"
        CONSOLE.print(f"{'met' if met else 'MISSED'}: {what}: {measured:,.4g} (target {sign} {wanted:,.4g})")

    def write(self) -> None:
        """Write the JSON."""
        self.document["load_average_at_end"] = [round(load, 2) for load in os.getloadavg()]
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.output.write_text(json.dumps(self.document, indent=2) + "\n", "utf-8")
        CONSOLE.print(f"wrote {self.output}")


def raw(timings: Mapping[str, Timing]) -> dict[str, dict[str, object]]:
    """Medians and every repeat, for the JSON."""
    return {
        name: {
            "median_seconds": timing.seconds,
            "median_processor_seconds": timing.processor_seconds,
            "wall_seconds": timing.wall,
            "processor_seconds": timing.processor,
        }
        for name, timing in timings.items()
    }


def command_line(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=(description or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller and rougher, in well under a minute")
    parser.add_argument("--output", help="JSON file to write; benchmarks/results/NAME.json by default")
    parser.add_argument("--rounds", type=int, help="counted repeats of each competitor")
    return parser
