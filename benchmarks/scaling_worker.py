"""Processes that train when they are told to: `Group(2)` starts two, `ask` has them do one thing at once.

In: orders, one JSON object a line on the standard input of each process. Out: what each measured, one JSON
object a line. The decision worth knowing: groups of different sizes live side by side, those not asked wait
for a line and take no processor; so they take turns without starting anew. The processes join as those of
torchrun do, by its variables.
"""

import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from common import movielens
from ncf.config import Experiment
from ncf.data import Dataset, HeldOut, Interactions, Vocabulary
from ncf.models import build_model
from ncf.runtime import Workers, generator, workers
from ncf.training import Trainer
from ncf.training.kernels.batch import Batch, Gradients, RowGradient
from ncf.training.kernels.mlp import MlpStep
from ncf.training.parallel.communicator import Collective, Communicator, SingleProcess
from ncf.training.parallel.connect import connect
from ncf.training.parallel.sharding import ShardedTables
from ncf.training.sampling import Step
from ncf.training.step_runner import CpuRunner
from ncf.training.trainer import Position

Answer = dict[str, Any]
_BANDWIDTH_ROWS, _BANDWIDTH_WIDTH, _REPEATS, _SMALL_REPEATS = 40_000, 128, 8, 100


class Group:
    """`size` processes of one thread each that train together; a context manager that ends them."""

    def __init__(self, size: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        self.processes = [
            subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, **shared, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            )
            for rank in range(size)
        ]  # fmt: skip

    def ask(self, work: str, **order: Any) -> list[Answer]:
        """What each process measured, in the order of ranks."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"work": work, **order}) + "\n")
            process.stdin.flush()
        lines = [process.stdout.readline() for process in self.processes if process.stdout is not None]
        if not all(lines):
            raise SystemExit("A process of the group has ended: see its message above.")
        return [json.loads(line) for line in lines]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            assert process.stdout is not None
            process.stdout.close()
            process.wait()


def uniform(users: int, items: int, interactions: int) -> Dataset:
    """Every user has used the same number of items, each equally likely, none twice."""
    random, each = np.random.default_rng(0), max(1, interactions // users)
    stride = items // each
    columns = (np.arange(each) * stride + random.integers(0, stride, (users, each))).astype(np.int32)
    train = Interactions(np.repeat(np.arange(users, dtype=np.int32), each), columns.ravel())
    nothing = HeldOut.empty(1)
    return Dataset(
        name="made-up",
        users=Vocabulary(np.arange(users)),
        items=Vocabulary(np.arange(items)),
        item_columns=pl.DataFrame({"id": np.arange(items), "popularity": train.item_counts(items)}),
        train=train,
        validation=nothing,
        test=nothing,
        known=train.csr(users),
        description={},
        digest="made-up",
    )


class Clocks:
    """Seconds and counts by name since `reset`; `exchanges` has the seconds of each exchange by itself."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.exchanges: list[float] = []

    def reset(self) -> None:
        self.spent.clear()
        self.exchanges.clear()

    def time(self, owner: object, method: str, name: str) -> None:
        """Have each call of the method counted; what a timed call calls counts for both."""
        call: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **names: Any) -> Any:
            began = time.perf_counter()
            result = call(*arguments, **names)
            self.spent[name] += time.perf_counter() - began
            return result

        setattr(owner, method, timed)

    def carry(self, communicator: Collective) -> None:
        """Count exchanges: how many, their bytes as handed to torch.distributed, and their seconds."""
        for method in ("_sum", "_gather"):
            call: Callable[[Tensor], Any] = getattr(communicator, method)

            def timed(tensor: Tensor, call: Callable[[Tensor], Any] = call) -> Any:
                self.spent["bytes"] += tensor.nbytes
                began = time.perf_counter()
                result = call(tensor)
                self.exchanges.append(time.perf_counter() - began)
                return result

            setattr(communicator, method, timed)
        self.time(communicator, "add", "add")

    def watch(self, trainer: Trainer) -> None:
        """Count the optimiser, the search for rows, and how many rows there were."""
        runner = trainer.runner
        assert isinstance(runner, CpuRunner)
        self.time(runner.optimizer, "step", "optimizer")
        self.time(runner, "batch", "unique")
        batch_of, move = runner.batch, runner.optimizer.step

        def counted(step: Step) -> Batch:
            batch = batch_of(step)
            self.spent["user_rows"] += batch.users.count
            self.spent["item_rows"] += batch.items.count
            return batch

        def moved(gradients: Gradients, rate: float, pool: Workers) -> None:
            self.spent["moved_rows"] += sum(len(g.rows) for g in gradients.values() if g.rows is not None) / 2
            move(gradients, rate, pool)

        for owner, method, replacement in (
            (runner, "batch", counted),
            (runner.optimizer, "step", moved),
        ):
            setattr(owner, method, replacement)


class Worker:
    """One process: keeps the trainers that it was asked for."""

    def __init__(self, communicator: Communicator, pool: Workers) -> None:
        self.communicator, self.pool, self.clocks = communicator, pool, Clocks()
        self.trainers: dict[str, Trainer] = {}
        self.data: dict[str, Dataset] = {}
        if isinstance(communicator, Collective):
            self.clocks.carry(communicator)
        for method in ("prepare", "reduce_items", "reduce_user_rows"):
            self.clocks.time(MlpStep, method, "halves")

    def train(
        self, data: Any, settings: list[str], warm: int, steps: int, alone: bool = False, touch: bool = True
    ) -> Answer:
        """The first steps of an epoch, of which those after `warm` count; between two barriers.

        `touch`: write to the optimiser's memory before, as memory that was never written to is not there yet.
        """
        trainer = self._trainer(data, settings, alone, touch)
        trainer.position = Position()
        if warm + steps > trainer.sampler.steps:
            raise SystemExit(f"An epoch has {trainer.sampler.steps} steps only.")
        answer: Answer = {}

        def progress(_epoch: int, done: int, _total: int) -> None:
            if done == warm:
                self.communicator.barrier()
                self.clocks.reset()
                answer["began"], answer["processor"] = time.perf_counter(), time.process_time()
            elif done == warm + steps:
                self.communicator.barrier()
                answer["seconds"] = (time.perf_counter() - answer["began"]) / steps
                answer["processor"] = (time.process_time() - answer["processor"]) / steps
                answer["spent"] = {name: value / steps for name, value in self.clocks.spent.items()}
                answer["exchanges"] = list(self.clocks.exchanges)

        trainer.train_epoch(progress, lambda: trainer.position.step >= warm + steps - 1)
        answer["parameters"] = trainer.parameters
        return answer

    def _trainer(self, data: Any, settings: list[str], alone: bool, touch: bool) -> Trainer:
        key = json.dumps([data, settings, alone])
        if key not in self.trainers:
            recipe = Experiment.parse({}, settings)
            name = json.dumps(data)
            if name not in self.data:
                self.data[name] = movielens() if data == "ml-1m" else uniform(*data)
            dataset = self.data[name]
            communicator = SingleProcess() if alone else self.communicator
            users, items = len(dataset.users), len(dataset.items)
            sharded = recipe.train.tables == "sharded"
            sizes = (0, 0) if sharded else (users, items)
            model = build_model(recipe.model, *sizes, generator(0, "init"))
            tables = ShardedTables(model, users, items, communicator) if sharded else None
            if tables is not None:
                from ncf.training.parallel.sharded_weights import draw

                draw(tables, 0)
            self.trainers[key] = Trainer(dataset, model, recipe.train, self.pool, communicator, tables)
            for tensor in self.trainers[key].tensors().values() if touch else ():
                tensor.add_(0)
            self.clocks.watch(self.trainers[key])
        return self.trainers[key]

    def forget(self) -> Answer:
        """Let go of all trainers and data."""
        self.trainers.clear()
        self.data.clear()
        gc.collect()  # the clocks' wrappers and the trainers refer to each other
        return {}

    def carry(self) -> Answer:
        """Seconds of a gather of nearly nothing, and bytes a second of a large one beyond that."""
        assert isinstance(self.communicator, Collective)
        small, large = torch.zeros(1, 1), torch.zeros(_BANDWIDTH_ROWS, _BANDWIDTH_WIDTH)
        seconds = []
        for rows, repeats in ((small, _SMALL_REPEATS), (large, _REPEATS)):
            self.communicator._gather(rows)
            self.communicator.barrier()
            began = time.perf_counter()
            for _ in range(repeats):
                self.communicator._gather(rows)
            seconds.append((time.perf_counter() - began) / repeats)
        return {"latency": seconds[0], "bandwidth": large.nbytes / (seconds[1] - seconds[0])}

    def merge(self, rows: int, table: int) -> Answer:
        """Seconds a gathered row to find the rows of two processes and add their gradients, tables of 64 and
        128."""
        first, second = (torch.randperm(table, generator=generator(0, "merge", n))[:rows] for n in (0, 1))
        echo = _Echo(first.sort().values, second.sort().values)
        gradients: Gradients = {
            torch.zeros(0): RowGradient(echo.own, torch.ones(rows, width)) for width in (64, 128)
        }
        echo.add(gradients)
        self.communicator.barrier()
        began = time.perf_counter()
        for _ in range(_REPEATS):
            echo.add(gradients)
        return {"seconds": (time.perf_counter() - began) / _REPEATS / (2 * rows)}


class _Echo(Collective):
    """Two processes without the other: it has other rows, and the same values."""

    rank, size = 0, 2

    def __init__(self, own: Tensor, other: Tensor) -> None:
        self.own, self.other = own, other

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        return tensors

    def _gather(self, rows: Tensor) -> list[Tensor]:
        return [rows, self.other if rows is self.own else rows]


@contextmanager
def _quiet_output() -> Iterator[Any]:
    """The real standard output for answers; whatever else is printed goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    yield answers
    answers.close()


def main() -> None:
    """Carry out orders until there are no more."""
    torch.set_num_threads(1)
    with _quiet_output() as answers, connect("auto") as communicator, workers(1) as pool:
        worker = Worker(communicator, pool)
        for line in sys.stdin:
            order = json.loads(line)
            answers.write(json.dumps(getattr(worker, order.pop("work"))(**order)) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
