"""What a training step is in this run: on CPU, with histories, with sharded tables, or on a GPU.

In: a `Step` of groups, a learning rate, and whether this process was asked to stop. Out: moved weights, the
loss over all processes, and whether any of them was asked to stop. The decision worth knowing:
`choose_runner` decides once, when the trainer is made. It also chooses the `TableStore`, which knows what
happens to the tables between steps. So neither the trainer nor the loop asks again.

Legend: B users or groups, C candidates.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from ncf.config import TrainConfig
from ncf.data import Dataset
from ncf.errors import ConfigError
from ncf.models import HistoryGMF, Model, ModelScorer, attach_histories, history_branch, sequence_branch
from ncf.runtime import Workers, keep_freed_memory, spans
from ncf.training.checkpoint import Checkpoints, add_prefix, part
from ncf.training.gpu.graphs import recorder_of
from ncf.training.gpu.sampling import DeviceGroupSampler
from ncf.training.gpu.step import GpuRunner
from ncf.training.history_table import HistoryTable, steps_between_moves
from ncf.training.kernels.batch import Batch, Gradients, Rows, RowSelection
from ncf.training.kernels.branch import Objective, StepParts
from ncf.training.kernels.recency import RecentTable
from ncf.training.kernels.step import dropout_generators, loss_and_gradients
from ncf.training.optimizers import Optimizer, lazy_tables, tables
from ncf.training.parallel.communicator import Communicator
from ncf.training.parallel.sharded_checkpoint import forget_tables, load_tables, save_tables
from ncf.training.parallel.sharding import ShardedTables
from ncf.training.sampling import GroupSampler, Step
from ncf.training.sequence_step import SequenceRunner

_PARTS, _SMALL_TABLE, _LARGE_STEP = 4, 16 * 2**20, 16384
Score = Callable[[Tensor, Tensor], Tensor]
"""From users [B] and items [B, C] to logits [B, C]."""


class Sampler(Protocol):
    """Draws the steps of epochs."""

    device: torch.device
    positives: int
    """Of an epoch."""
    steps: int
    """Of an epoch."""
    full_users: int
    """Users whose positives are left out, as they have no negative."""

    def epoch(self, epoch: int, workers: Workers, first_step: int = 0) -> Iterator[Step]:
        """The steps of `epoch` from `first_step` on."""


class StepRunner(Protocol):
    """Carries out the steps of a run."""

    lazy: set[str]
    """Names of the tables that are updated lazily."""

    @property
    def sampler(self) -> Callable[..., Sampler]:
        """What draws the steps."""

    def run(self, step: Any, rate: float, stop: bool) -> tuple[Tensor, bool]:
        """Move the weights by one step with learning rate `rate`; `stop` says that this process is to stop.

        Returns the loss summed over the terms of all processes, and whether any process was asked to stop.
        """

    def state(self) -> dict[str, Tensor]:
        """Every tensor besides the weights that the next step depends on, by name."""

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` gave; `tensors` may hold others too."""


@dataclass(frozen=True)
class RunContext:
    """What every step of a run works on and with."""

    dataset: Dataset
    model: Model
    config: TrainConfig
    objective: Objective
    workers: Workers
    communicator: Communicator


class CpuRunner:
    """A step through the kernels and `Optimizer`, operation by operation, whatever the device.

    Gradients of whole tables are summed over the processes inside the kernels. Where tables take part by
    their rows in use, each process finds the gradients of its own rows, and these are added up afterwards.
    """

    sampler: type[GroupSampler] = GroupSampler

    def __init__(
        self, context: RunContext, rows: RowSelection, lazy: set[str], elsewhere: Collection[str] = ()
    ) -> None:
        """`lazy` tables are updated by the `rows` in use; tables `elsewhere` are not moved here."""
        self.context, self.lazy, self._rows = context, lazy, rows
        self.optimizer = Optimizer(context.model, context.config, lazy, elsewhere)
        by_rows = bool(lazy or elsewhere)
        self._parts = choose_parts(context.model, context.config, by_rows, context.communicator.size)

    def run(self, step: Step, rate: float, stop: bool) -> tuple[Tensor, bool]:
        loss, gradients, stopping = self.differentiate(step, stop)
        self.optimizer.step(gradients, rate, self.context.workers)
        return loss, stopping

    def differentiate(self, step: Step, stop: bool) -> tuple[Tensor, Gradients, bool]:
        """Loss and gradients of the groups of all processes, and whether any process was asked to stop."""
        if not self.lazy:
            return self._gradients(step, stop, of_all=True)
        loss, own, stopping = self._gradients(step, stop, of_all=False)
        return loss, self.context.communicator.add(own), stopping

    def batch(self, step: Step) -> Batch:
        """This process's groups, as rows of the tables."""
        return self._rows.batch(*step.filled(), step.groups, step.counts)

    def _gradients(self, step: Step, stop: bool, of_all: bool) -> tuple[Tensor, Gradients, bool]:
        """The loss and stop flag of all processes; gradients `of_all` groups or of this process's only."""
        context, batch = self.context, self.batch(step)
        parts = self._parts_of(step, batch.groups)
        flags: list[Tensor] = []

        def exchange(tensors: list[Tensor]) -> list[Tensor]:
            # The stop flag travels with the sums, so that all processes stop after the same step.
            *summed, flag = context.communicator.sum([*tensors, tensors[0].new_tensor(float(stop))])
            flags.append(flag)
            return summed

        loss, gradients = loss_and_gradients(
            context.model,
            batch,
            context.objective,
            context.workers,
            dropout_generators(context.model, context.config.seed, step.epoch, step.number, parts),
            parts,
            exchange if of_all else None,
        )
        if not of_all:
            (loss,) = exchange([loss])
        return loss, gradients, bool(flags[0] > 0)

    def _parts_of(self, step: Step, groups: int) -> StepParts:
        """This process's parts of a step, cut where one process would cut them; by default one a thread."""
        communicator, threads = self.context.communicator, self.context.workers.threads
        size, rank = communicator.size, communicator.rank
        if not self._parts or step.groups < self._parts:
            return StepParts(spans(groups, threads), threads, rank * threads)
        own = range(rank * self._parts // size, (rank + 1) * self._parts // size)
        bounds = [step.groups * number // self._parts for number in (*own, own.stop)]
        cut = [slice(start - bounds[0], end - bounds[0]) for start, end in pairwise(bounds)]
        return StepParts(cut, self._parts, own.start)

    def state(self) -> dict[str, Tensor]:
        return add_prefix("optimizer", self.optimizer.state())

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.optimizer.load_state(part(tensors, "optimizer"))


class HistoryRunner(CpuRunner):
    """A step of a history-aware model, whose history's table moves every few steps only."""

    def __init__(self, context: RunContext, rows: RowSelection, history: HistoryGMF) -> None:
        super().__init__(context, rows, set())
        self.table = _history_table(context, history)

    def run(self, step: Step, rate: float, stop: bool) -> tuple[Tensor, bool]:
        loss, gradients, stopping = self.differentiate(step, stop)
        # Between two moves `gather` keeps the table's gradient, and the optimiser leaves the table alone.
        self.optimizer.step(self.table.gather(gradients), rate, self.context.workers)
        self.table.after()
        return loss, stopping

    def state(self) -> dict[str, Tensor]:
        return super().state() | add_prefix("history", self.table.state())

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        super().load_state(tensors)
        self.table.load_state(part(tensors, "history"))


class ShardedRunner(CpuRunner):
    """A step whose table rows come from the processes that hold them, which also move them."""

    def __init__(self, context: RunContext, rows: RowSelection, sharded: ShardedTables) -> None:
        super().__init__(context, rows, set(), elsewhere=tables(context.model))
        self.sharded = sharded
        self.sampler = DeviceGroupSampler if _has_graphs(sharded.device) else GroupSampler

    def run(self, step: Step, rate: float, stop: bool) -> tuple[Tensor, bool]:
        self.sharded.set_rate(rate)  # before the look-up: FBGEMM notes the rate then, not at the update
        return super().run(step, rate, stop)

    def batch(self, step: Step) -> Batch:
        users_B, items_BC = step.filled()
        batch = self.sharded.look_up(Rows.used(users_B), Rows.used(items_BC))
        return replace(batch, total=step.groups, counts=step.counts)

    def differentiate(self, step: Step, stop: bool) -> tuple[Tensor, Gradients, bool]:
        """As elsewhere, but without the tables' gradients, which go to the processes that hold the rows."""
        loss, own, stopping = self._gradients(step, stop, of_all=False)
        return loss, self.context.communicator.add(self.sharded.update(own)), stopping


class TableStore:
    """Tables that lie whole in the model on every process: the model's own weights are all there is."""

    parameters = 0
    """Trained numbers that are not the model's own."""
    collective = False
    """Whether all processes must call the scorer equally often."""

    def scorer(self, model: Model) -> Score:
        """The logits of `model` as it is now."""
        return ModelScorer(model)

    def keep_best(self) -> None:
        """Remember the tables as they are now."""

    def take_best(self) -> None:
        """Go back to the tables that were remembered."""

    def save(self, _checkpoints: Checkpoints, _epoch: int, _step: int) -> dict[str, Any]:
        """Write the tables of (epoch, step); what the checkpoint's state must say about them. Collective."""
        return {}

    def load(self, _checkpoints: Checkpoints, _state: dict[str, Any]) -> None:
        """Read the tables that `save` described as `_state`. Collective."""

    def forget(self, _checkpoints: Checkpoints) -> None:
        """Remove the tables of checkpoints that are gone. Only process 0 calls it."""


class ShardedStore(TableStore):
    """Tables whose rows are spread over the processes."""

    collective = True

    def __init__(self, sharded: ShardedTables) -> None:
        self._sharded, self.parameters = sharded, sharded.parameters

    def scorer(self, _: Model) -> Score:
        return self._sharded.score

    def keep_best(self) -> None:
        self._sharded.keep_best()

    def take_best(self) -> None:
        self._sharded.take_best()

    def save(self, checkpoints: Checkpoints, epoch: int, step: int) -> dict[str, Any]:
        return save_tables(self._sharded, checkpoints, epoch, step)

    def load(self, checkpoints: Checkpoints, state: dict[str, Any]) -> None:
        load_tables(self._sharded, checkpoints, state)

    def forget(self, checkpoints: Checkpoints) -> None:
        forget_tables(checkpoints)


def choose_runner(context: RunContext, sharded: ShardedTables | None = None) -> tuple[StepRunner, TableStore]:
    """What carries out the steps of this run, and where its tables are between them.

    `sharded` holds the tables where the model does not. Raises `ConfigError` where the settings do not go
    together with the model or with the number of processes.
    """
    model, config, dataset = context.model, context.config, context.dataset
    device, history = next(model.parameters()).device, history_branch(model)
    rows = RowSelection(len(dataset.users), len(dataset.items))
    if (branch := sequence_branch(model)) is not None:
        if branch.sequences is None:
            attach_histories(model, dataset, config.seed)
        _keep_memory_on_cpu(device)
        runner = SequenceRunner(
            model, branch, config, context.objective, context.workers, context.communicator
        )
        return runner, TableStore()
    if sharded is not None:
        _keep_memory_on_cpu(device)
        return ShardedRunner(context, rows, sharded), ShardedStore(sharded)
    if history is not None:
        if config.optimizer == "lazy":
            raise ConfigError(
                "A history-aware model moves its tables whole: set train.optimizer = 'auto' or 'dense'."
            )
        return HistoryRunner(context, rows, history), TableStore()
    groups = config.batch_size
    lazy = lazy_tables(model, config.optimizer, groups, groups * (1 + config.negatives))
    if lazy:
        if config.averaging:
            raise ConfigError(
                "train.averaging keeps a second copy of every row in step, which the lazy update of "
                f"{', '.join(sorted(lazy))} does not allow: set train.averaging = 0 or train.optimizer = "
                "'dense'."
            )
        _keep_memory_on_cpu(device)
        sides = {name.rsplit(".", 1)[-1] for name in lazy}
        rows = replace(rows, lazy_users="user_table" in sides, lazy_items="item_table" in sides)
    if not _has_graphs(device):
        return CpuRunner(context, rows, lazy), TableStore()
    communicator, recorder = context.communicator, recorder_of(device)
    choose_parts(
        model, config, rows.lazy, communicator.size
    )  # a GPU has one part, but refuses the same settings
    return GpuRunner(model, config, context.objective, rows, lazy, communicator, recorder), TableStore()


def _has_graphs(device: torch.device) -> bool:
    """Whether steps are drawn and recorded on the device (`gpu/step.py`)."""
    return device.type == "cuda"


def _keep_memory_on_cpu(device: torch.device) -> None:
    if device.type == "cpu":
        keep_freed_memory()


def choose_parts(model: Model, config: TrainConfig, by_rows: bool, processes: int) -> int:
    """The number of parts that a step is cut into on any number of processes; 0 is one a thread.

    Fixed parts make sums independent of threads and processes, but each has gradients of its own, as large as
    the tables. So they are the default only where tables are small, steps are large, and the parts can be
    shared out. `by_rows` says that tables take part by their rows in use. Raises `ConfigError` where
    `train.parts` cannot be shared out among the `processes`.
    """
    if config.parts and config.parts % processes:
        raise ConfigError(
            f"train.parts = {config.parts} cannot be shared out among {processes} processes: make it a "
            "multiple."
        )
    if config.parts:
        return config.parts
    small = all(table.numel() * table.element_size() <= _SMALL_TABLE for table in tables(model).values())
    fits = small and not by_rows and config.batch_size >= _LARGE_STEP and _PARTS % processes == 0
    return _PARTS if fits else 0


def _history_table(context: RunContext, history: HistoryGMF) -> HistoryTable | RecentTable:
    """How the history's table is trained; attaches the users' histories where the model has none yet."""
    config, dataset = context.config, context.dataset
    if history.history is None:
        attach_histories(context.model, dataset, config.seed)
    if history.half_life:
        return RecentTable(history, config.l2_history)
    every = config.history_every or steps_between_moves(
        len(dataset.train), config.batch_size, 1 + config.negatives
    )
    return HistoryTable(history, every, config.l2_history, config.seed, context.workers)
