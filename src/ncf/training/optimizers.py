"""AdamW over layers and small tables, and a lazy Adam that touches only the rows of a batch for large ones.

In: the gradients of a step, by parameter. Out: moved parameters. AdamW is that of Loshchilov & Hutter,
ICLR'19.

The decision worth knowing: a dense optimiser reads and writes every row, its moments and its gradient in
every step, which for a million rows is almost all of the time. The lazy form keeps the moments of a row as
they are while the row is not in a batch, and corrects their bias by the number of times that the row was
updated.

Legend: R rows that take part.
"""

import math
from collections.abc import Callable, Collection
from functools import partial

import torch
from torch import Tensor, nn

from ncf.config import TrainConfig
from ncf.models import Model
from ncf.runtime import Workers, spans
from ncf.training.kernels.batch import Gradients

BETAS = (0.9, 0.999)
EPS = 1e-8
_LAZY_FROM_BYTES = 64 * 2**20
_ROWS_AT_ONCE = 2048


def tables(model: Model) -> dict[str, nn.Parameter]:
    """The embedding tables by their names in the model."""
    return {name: parameter for name, parameter in model.named_parameters() if name.endswith("_table")}


def lazy_tables(model: Model, choice: str, user_draws: int, item_draws: int) -> set[str]:
    """The names of the tables that are updated lazily: all, none, or (`auto`) those where it pays.

    It pays for a side, users or items, with a table of 64 MiB or more, and with more rows than the
    `user_draws` or `item_draws` of a step. All tables of a side are treated alike, since they are used with
    the same rows. `choice` is `train.optimizer`.
    """
    named = tables(model)
    if choice != "auto":
        return set(named) if choice == "lazy" else set()
    sides = {
        side
        for side, draws in (("user_table", user_draws), ("item_table", item_draws))
        for name, table in named.items()
        if name.endswith(side) and table.numel() * 4 >= _LAZY_FROM_BYTES and len(table) > draws
    }
    return {name for name in named if name.rsplit(".", 1)[-1] in sides}


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """The learning rate of a `step` from 0, of `total` steps in the run.

    `train.learning_rate`, scaled with the batch size as `learning_rate_scaling` says, rises linearly over the
    share `warmup` of all steps. After that it is constant or falls to zero as half a cosine (`schedule`).
    """
    warm = max(1.0, config.warmup * total)
    ratio = config.batch_size / config.learning_rate_batch
    scale = {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[config.learning_rate_scaling]
    rate = config.learning_rate * scale * min(1.0, (step + 1) / warm)
    if config.schedule == "constant":
        return rate
    return rate * 0.5 * (1.0 + math.cos(math.pi * step / total))


class LazyAdam:
    """Adam for one table: a step reads and writes only the rows it is given."""

    def __init__(self, table: nn.Parameter) -> None:
        """`first` and `second` are Adam's moments of each row, `updates` the number of its updates."""
        self.table = table
        self.first = torch.zeros_like(table, requires_grad=False)
        self.second = torch.zeros_like(table, requires_grad=False)
        self.updates = torch.zeros(len(table), dtype=torch.int32, device=table.device)

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Move distinct `rows` [R] by `gradient` [R, width]; in chunks that stay in cache."""
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            self._step(rows[part], gradient[part], rate)

    def _step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        updates = self.updates.index_select(0, rows).add_(1)
        first = self.first.index_select(0, rows).lerp_(gradient, 1.0 - BETAS[0])
        second = self.second.index_select(0, rows).mul_(BETAS[1])
        second.addcmul_(gradient, gradient, value=1.0 - BETAS[1])
        # The bias of the moments shrinks with each update of the row, not with each step of the run: a row
        # that is first drawn late moves as far as one that was drawn in the first step.
        self.updates.index_copy_(0, rows, updates)
        self.first.index_copy_(0, rows, first)
        self.second.index_copy_(0, rows, second)
        count = updates.float()[:, None]
        root = second.div_(1.0 - BETAS[1] ** count).sqrt_().add_(EPS)
        change = first.div_(1.0 - BETAS[0] ** count).div_(root)
        self.table.data.index_add_(0, rows, change, alpha=-rate)

    def state(self) -> dict[str, Tensor]:
        return {"first": self.first, "second": self.second, "updates": self.updates}


class Optimizer:
    """Moves all parameters by the gradients of a step."""

    def __init__(
        self, model: Model, config: TrainConfig, lazy: set[str], elsewhere: Collection[str] = ()
    ) -> None:
        """Tables named in `lazy` are updated lazily; parameters named in `elsewhere` are not moved here."""
        named = {name: p for name, p in model.named_parameters() if name not in elsewhere}
        self._lazy = {name: LazyAdam(named[name]) for name in sorted(lazy)}
        self._dense = {name: parameter for name, parameter in named.items() if name not in lazy}
        table_names = set(tables(model))
        decayed = [p for name, p in self._dense.items() if name not in table_names and p.ndim > 1]
        plain = [p for name, p in self._dense.items() if name not in table_names and p.ndim == 1]
        layers = [
            {"params": parameters, "weight_decay": decay}
            for parameters, decay in ((decayed, config.weight_decay), (plain, 0.0))
            if parameters
        ]
        # One AdamW for each table and one for all layers, so that the threads can share them out.
        single = [
            [{"params": [p], "weight_decay": 0.0}] for name, p in self._dense.items() if name in table_names
        ]
        self._adamws = [  # `step` sets the learning rate
            torch.optim.AdamW(groups, lr=1.0, betas=BETAS, eps=EPS, fused=True)
            for groups in [*single, layers]
        ]

    def step(self, gradients: Gradients, rate: float, workers: Workers) -> None:
        """One update with learning rate `rate`, shared by the `workers`; without a gradient nothing moves."""
        for parameter in self._dense.values():
            parameter.grad = gradients[parameter].values if parameter in gradients else None

        def move_rows(adam: LazyAdam, part: slice) -> None:
            gradient = gradients[adam.table]
            rows = gradient.rows
            if rows is None:
                rows = torch.arange(len(adam.table), device=adam.table.device)
            adam.step(rows[part], gradient.values[part], rate)

        def move(adamw: torch.optim.AdamW) -> None:
            for group in adamw.param_groups:
                group["lr"] = rate
            adamw.step()

        tasks: list[Callable[[], None]] = [
            partial(move_rows, adam, part)
            for adam in self._lazy.values()
            for part in spans(len(gradients[adam.table].values), workers.threads)
        ]
        tasks += [partial(move, adamw) for adamw in self._adamws]
        workers.map(lambda task: task(), tasks)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a later step depends on, by name; empty before the first step of AdamW."""
        state = {
            f"{name}.{key}": value for name, adam in self._lazy.items() for key, value in adam.state().items()
        }
        for name, parameter in self._dense.items():
            for adamw in self._adamws:
                for key, value in adamw.state.get(parameter, {}).items():
                    state[f"{name}.{key}"] = value
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave, here or on another kind of device."""
        for name, adam in self._lazy.items():
            for key, value in adam.state().items():
                value.copy_(state[f"{name}.{key}"])
        names = {parameter: name for name, parameter in self._dense.items()}
        for adamw in self._adamws:
            for parameter in (p for group in adamw.param_groups for p in group["params"]):
                keys = [
                    key for key in ("step", "exp_avg", "exp_avg_sq") if f"{names[parameter]}.{key}" in state
                ]
                adamw.state[parameter] = {key: state[f"{names[parameter]}.{key}"].clone() for key in keys}
