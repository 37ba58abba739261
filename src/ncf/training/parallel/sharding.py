"""A model whose user and item tables are sharded over the processes by rows (TorchRec; `--tables sharded`).

In: a model without table rows, and the numbers of users and items. In each step the rows that this process
needs are looked up and become the model's tables, so the kernels train on small tables. Their gradients go
back to the processes that hold the rows. All processes have the other layers, whose gradients the
communicator sums as usual.

The decisions worth knowing. The tables of both halves of a NeuMF lie side by side in one wide table per side,
because they are looked up by the same rows: that takes one exchange of ids, and one number of optimizer state
for both. Between steps the model's tables have no rows. Every call that looks rows up is collective.

Legend: R rows that take part, W width of a side's wide table, T held-out rows, C candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ncf.config import Experiment, TrainConfig
from ncf.errors import ConfigError
from ncf.models import Model, ModelScorer, branches
from ncf.training.kernels.batch import Batch, Gradients, Rows
from ncf.training.parallel.communicator import Communicator
from ncf.training.parallel.torchrec import Collection, need_torchrec

_MULTIPLE = 4
_RATE_CONSTANT = 0.3


@dataclass(frozen=True)
class Side:
    """One wide table: which `columns` of it are which of the model's `tables`, and the `stds` of their
    initial values."""

    rows: int
    names: list[str]
    tables: list[nn.Parameter]
    columns: list[slice]
    stds: list[float]

    def split(self, wide_RW: Tensor) -> None:
        """Make the columns of the looked-up rows `wide_RW` the model's tables."""
        for table, part in zip(self.tables, self.columns, strict=True):
            table.data = wide_RW[:, part].contiguous()

    def join(self, narrow: list[Tensor], width: int) -> Tensor:
        """[R, `width`] from one tensor [R, ...] per table; padding columns are zero."""
        if len(narrow) == 1 and narrow[0].shape[1] == width:
            return narrow[0]
        wide_RW = narrow[0].new_zeros(len(narrow[0]), width)
        for values, part in zip(narrow, self.columns, strict=True):
            wide_RW[:, part] = values
        return wide_RW


class ShardedTables:
    """The sharded tables of a model."""

    def __init__(
        self, model: Model, users: int, items: int, communicator: Communicator, factor: float = 1.0
    ) -> None:
        """`model` must be built with no users and no items. The tables get `users` and `items` rows.

        `factor` is the ratio of the tables' learning rate to that of the layers (see `rate_factor`).
        """
        self.model, self.communicator, self.factor = model, communicator, factor
        self.device = next(model.parameters()).device
        self.sides = [_side(model, name, rows) for name, rows in (("user", users), ("item", items))]
        used = self.sides[0].columns[-1].stop
        self.width = -(-used // _MULTIPLE) * _MULTIPLE
        self.collection = Collection((users, items), self.width, self.device)
        self._looked_up: tuple[Tensor, Tensor] | None = None
        self.best: list[Tensor] = []
        """Copies of this process's rows in the best epoch, if `keep_best` was called."""

    @property
    def parameters(self) -> int:
        """The number of parameters in all tables, over all processes."""
        return sum(side.rows * side.columns[-1].stop for side in self.sides)

    def look_up(self, users: Rows, items: Rows) -> Batch:
        """Give the model the rows of `users` and `items`. Collective.

        Returns a batch whose indices count within these small tables.
        """
        assert users.rows is not None
        assert items.rows is not None
        self._looked_up = self.collection.look_up(users.rows, items.rows)
        for side, wide in zip(self.sides, self._looked_up, strict=True):
            side.split(wide.detach())
        return Batch(Rows(None, users.index, users.count), Rows(None, items.index, items.count))

    def set_rate(self, rate: float) -> None:
        """Set the learning `rate` of the layers, from which that of the next update of the tables follows."""
        self.collection.set_rate(rate * self.factor)

    def update(self, gradients: Gradients) -> Gradients:
        """Update the looked-up rows, wherever they are, by their part of `gradients`. Returns the other
        gradients."""
        assert self._looked_up is not None
        rest = dict(gradients)
        wide = [
            side.join([rest.pop(table).values for table in side.tables], self.width) for side in self.sides
        ]
        torch.autograd.backward(self._looked_up, wide)
        self.release()
        return rest

    def release(self) -> None:
        """Drop the looked-up rows."""
        self._looked_up = None
        for side in self.sides:
            for table in side.tables:
                table.data = table.data.new_empty(0, table.shape[1])

    def score(self, users_T: Tensor, items_TC: Tensor) -> Tensor:
        """Logits [T, C] of the items `items_TC` for the users `users_T`. Collective, also for a process with
        no rows."""
        with torch.inference_mode(False), torch.no_grad():
            batch = self.look_up(Rows.used(users_T), Rows.used(items_TC))
            logits = ModelScorer(self.model)(batch.users.index, batch.items.index)
            self.release()
        return logits

    def read(self, side: int, rows: range) -> Tensor:
        """[n, W] of the consecutive `rows` of `side` (0 users, 1 items) on process 0, [0, W] on the others.
        Collective."""
        wanted = rows if self.communicator.rank == 0 else range(0)
        numbers = torch.arange(wanted.start, wanted.stop, device=self.device)
        nothing = numbers[:0]
        with torch.no_grad():
            looked_up = self.collection.look_up(*((nothing, numbers) if side else (numbers, nothing)))
        return looked_up[side]

    def load_layers(self, weights: Mapping[str, np.ndarray]) -> None:
        """Copy all weights except the tables from the `weights` of a whole model, by parameter name."""
        tables = {name for side in self.sides for name in side.names}
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                if name not in tables:
                    value.copy_(torch.from_numpy(np.array(weights[name])))

    def keep_best(self) -> None:
        """Keep a copy of this process's rows as they are now."""
        self.best = [self.collection.weights(side).clone() for side in (0, 1)]

    def take_best(self) -> None:
        """Restore the rows that `keep_best` copied."""
        for side, kept in enumerate(self.best):
            self.collection.weights(side).copy_(kept)

    def held(self) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
        """All state that later steps depend on, by name: this process's part (not a copy) and the shape of
        the whole."""
        state: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
        for number, (name, side) in enumerate(zip(("users", "items"), self.sides, strict=True)):
            state[name] = self.collection.weights(number), (side.rows, self.width)
            state[f"{name}.sums"] = self.collection.sums(number), (side.rows,)
            if self.best:
                state[f"{name}.best"] = self.best[number], (side.rows, self.width)
        return state


def rate_factor(config: TrainConfig, positives: int, users: int) -> float:
    """The factor by which row-wise Adagrad moves an average user's row about as far as Adam with the same
    rate.

    `config` has the epochs and the batch size; `positives` and `users` are their numbers in the training
    data. A step of Adam moves a row by about the learning rate. Adagrad's n-th step is 1 / √n of its first,
    so n steps go 2 √n times as far instead of n times, where n counts the steps that draw the user. So the
    factor must grow with √n. The constant was chosen on ML-1M's validation set: 5 was best in two epochs from
    a spectral start, and 16 to 32 in sixteen epochs from a random one. The constant gives 5 and 15.
    """
    steps = config.epochs * -(-positives // config.batch_size)
    drawn = min(steps, config.epochs * positives / max(1, users))
    return _RATE_CONSTANT * math.sqrt(max(1.0, drawn))


def _side(model: Model, name: str, rows: int) -> Side:
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    tables: list[nn.Parameter] = [getattr(branch, f"{name}_table") for branch in branches(model)]
    columns, start = [], 0
    for table in tables:
        columns.append(slice(start, start + table.shape[1]))
        start += table.shape[1]
    stds = [branch.init_std for branch in branches(model)]
    return Side(rows, [named[id(table)] for table in tables], tables, columns, stds)


def refuse_what_shards_cannot(experiment: Experiment, communicator: Communicator) -> None:
    """Raise `ConfigError` if `experiment` or the processes of `communicator` do not allow sharded tables.

    That is if TorchRec is missing, if a setting needs whole tables or all rows in every step, or if the
    processes do not use `torch.distributed`.
    """
    need_torchrec()
    config = experiment.train
    if experiment.pretraining is not None:
        raise ConfigError(
            "Pre-training needs whole tables, which sharding does not have: set train.tables = "
            "'replicated', or use a recipe without [pretraining]."
        )
    if experiment.model.kind not in ("gmf", "mlp", "neumf"):
        raise ConfigError(
            f"The tables of a model of kind {experiment.model.kind} cannot be sharded: set train.tables = "
            "'replicated', or model.kind to gmf, mlp or neumf."
        )
    if config.averaging:
        raise ConfigError(
            "train.averaging would have to average all rows in every step, which sharded tables cannot: set "
            "train.averaging = 0 or train.tables = 'replicated'."
        )
    if config.optimizer == "dense":
        raise ConfigError(
            "train.optimizer = 'dense' updates all rows in every step, but sharded tables update only those "
            "of the batch: set train.optimizer = 'auto' or train.tables = 'replicated'."
        )
    if communicator.size > 1 and not dist.is_initialized():
        raise ConfigError(
            "train.tables = 'sharded' exchanges rows through torch.distributed: start the processes with "
            "--nproc or torchrun, or set train.tables = 'replicated'."
        )


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Make the process group that TorchRec needs even for one process, on `device`, unless there is one
    already."""
    if dist.is_initialized():
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dist.destroy_process_group()
