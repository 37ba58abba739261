"""A model whose user and item tables are spread over the processes, row by row (TorchRec; `--tables sharded`).

In: a model without table rows, and the numbers of users and items. For a step the rows that this process's groups mean are
looked up and become the model's tables, so that the kernels train on small tables; the gradients go back to the processes
that hold the rows. The layers stay on every process and are added up by the communicator as always.

The decisions worth knowing. The tables of a NeuMF's halves lie side by side in one wide table a side, since they are looked
up by the same rows: one exchange of ids, and one number of optimiser state for both. Outside of a step the model's tables
have no rows. All calls that look something up are collective.

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
_GOES_AS_FAR = 0.3


@dataclass(frozen=True)
class Side:
    """One wide table: which `columns` of it are which of the model's `tables`, and the std of their first values."""

    rows: int
    names: list[str]
    tables: list[nn.Parameter]
    columns: list[slice]
    stds: list[float]

    def split(self, wide_RW: Tensor) -> None:
        """Make the columns of looked-up rows the model's tables."""
        for table, part in zip(self.tables, self.columns, strict=True):
            table.data = wide_RW[:, part].contiguous()

    def join(self, narrow: list[Tensor], width: int) -> Tensor:
        """[R, W] of one tensor [R, ...] a table; columns that no table has are zero."""
        if len(narrow) == 1 and narrow[0].shape[1] == width:
            return narrow[0]
        wide_RW = narrow[0].new_zeros(len(narrow[0]), width)
        for values, part in zip(narrow, self.columns, strict=True):
            wide_RW[:, part] = values
        return wide_RW


class ShardedTables:
    """The tables of `model`, which is built with no users and no items and knows its other weights."""

    def __init__(
        self, model: Model, users: int, items: int, communicator: Communicator, factor: float = 1.0
    ) -> None:
        """`factor` is the tables' learning rate over the layers': see `rate_factor`."""
        self.model, self.communicator, self.factor = model, communicator, factor
        self.device = next(model.parameters()).device
        self.sides = [_side(model, name, rows) for name, rows in (("user", users), ("item", items))]
        used = self.sides[0].columns[-1].stop
        self.width = -(-used // _MULTIPLE) * _MULTIPLE
        self.collection = Collection((users, items), self.width, self.device)
        self._looked_up: tuple[Tensor, Tensor] | None = None
        self.best: list[Tensor] = []
        """Copies of this process's rows in the best epoch so far, where `keep_best` was called."""

    @property
    def parameters(self) -> int:
        """Numbers in all tables, over all processes."""
        return sum(side.rows * side.columns[-1].stop for side in self.sides)

    def look_up(self, users: Rows, items: Rows) -> Batch:
        """Give the model the rows that the groups mean. The batch says so in positions of these small tables."""
        assert users.rows is not None
        assert items.rows is not None
        self._looked_up = self.collection.look_up(users.rows, items.rows)
        for side, wide in zip(self.sides, self._looked_up, strict=True):
            side.split(wide.detach())
        return Batch(Rows(None, users.index, users.count), Rows(None, items.index, items.count))

    def set_rate(self, rate: float) -> None:
        """The layers' learning rate in the update of what is looked up next."""
        self.collection.set_rate(rate * self.factor)

    def update(self, gradients: Gradients) -> Gradients:
        """Take the tables' gradients out, and move the rows that were looked up, wherever they are. The rest is returned."""
        assert self._looked_up is not None
        rest = dict(gradients)
        wide = [
            side.join([rest.pop(table).values for table in side.tables], self.width) for side in self.sides
        ]
        torch.autograd.backward(self._looked_up, wide)
        self.release()
        return rest

    def release(self) -> None:
        """Let go of what was looked up."""
        self._looked_up = None
        for side in self.sides:
            for table in side.tables:
                table.data = table.data.new_empty(0, table.shape[1])

    def score(self, users_T: Tensor, items_TC: Tensor) -> Tensor:
        """Logits [T, C]. Collective: with no rows it only serves the others."""
        with torch.inference_mode(False), torch.no_grad():
            batch = self.look_up(Rows.used(users_T), Rows.used(items_TC))
            logits = ModelScorer(self.model)(batch.users.index, batch.items.index)
            self.release()
        return logits

    def read(self, side: int, rows: range) -> Tensor:
        """[n, W] of consecutive rows on process 0, [0, W] on the others. Collective."""
        wanted = rows if self.communicator.rank == 0 else range(0)
        numbers = torch.arange(wanted.start, wanted.stop, device=self.device)
        nothing = numbers[:0]
        with torch.no_grad():
            found = self.collection.look_up(*((nothing, numbers) if side else (numbers, nothing)))
        return found[side]

    def load_layers(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take all weights but the tables from those of a whole model."""
        tables = {name for side in self.sides for name in side.names}
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                if name not in tables:
                    value.copy_(torch.from_numpy(np.array(weights[name])))

    def keep_best(self) -> None:
        """Remember this process's rows as they are now; that is a second copy of them."""
        self.best = [self.collection.weights(side).clone() for side in (0, 1)]

    def take_best(self) -> None:
        """Go back to the rows that were remembered."""
        for side, kept in enumerate(self.best):
            self.collection.weights(side).copy_(kept)

    def held(self) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
        """By name: what this process holds of all that a later step depends on, in place, and the shape of the whole."""
        state: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
        for number, (name, side) in enumerate(zip(("users", "items"), self.sides, strict=True)):
            state[name] = self.collection.weights(number), (side.rows, self.width)
            state[f"{name}.sums"] = self.collection.sums(number), (side.rows,)
            if self.best:
                state[f"{name}.best"] = self.best[number], (side.rows, self.width)
        return state


def rate_factor(config: TrainConfig, positives: int, users: int) -> float:
    """What makes row-wise Adagrad go about as far as Adam with the same `learning_rate` does, for a mean user's row.

    Adam's steps of a row are about as long as the rate. Adagrad's n-th is 1 / √n of its first, so n of them go 2 √n times as
    far instead of n times; n is the number of steps that draw the user. That asks for a factor in proportion to √n. The
    constant was chosen on ML-1M's validation hold-out, where 5 did best in two epochs from a spectral start and 16 to 32 in
    sixteen from a random one; this gives 5 and 15.
    """
    steps = config.epochs * -(-positives // config.batch_size)
    drawn = min(steps, config.epochs * positives / max(1, users))
    return _GOES_AS_FAR * math.sqrt(max(1.0, drawn))


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
    """Raise `ConfigError` where TorchRec is missing, for settings that need every row in step or whole tables, and for
    processes that TorchRec cannot speak to."""
    need_torchrec()
    config = experiment.train
    if experiment.pretraining is not None:
        raise ConfigError(
            "A pre-trained NeuMF is fused from whole models, and sharded tables are nowhere whole: set "
            "train.tables = 'replicated', or take a recipe without [pretraining]."
        )
    if experiment.model.kind not in ("gmf", "mlp", "neumf"):
        raise ConfigError(
            f"A model of kind {experiment.model.kind} has more for each item than the rows of a sharded table: set "
            "train.tables = 'replicated', or take gmf, mlp or neumf."
        )
    if config.averaging:
        raise ConfigError(
            "train.averaging keeps a second copy of every row in step, which sharded tables do not: set "
            "train.averaging = 0 or train.tables = 'replicated'."
        )
    if config.optimizer == "dense":
        raise ConfigError(
            "train.optimizer = 'dense' moves every row in every step, and sharded tables only those of the batch: set "
            "train.optimizer = 'auto' or train.tables = 'replicated'."
        )
    if communicator.size > 1 and not dist.is_initialized():
        raise ConfigError(
            "train.tables = 'sharded' exchanges rows through torch.distributed: start the processes with --nproc or "
            "torchrun, or set train.tables = 'replicated'."
        )


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """TorchRec needs a group even for one process: made where there is none, and ended with it."""
    if dist.is_initialized():
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dist.destroy_process_group()
