"""AdamW over layers and small tables, and a lazy Adam that touches only the rows of a batch for large ones.

AdamW: Loshchilov & Hutter, ICLR'19. The lazy form keeps the moments of a row as they are while the row is not in a
batch, and corrects their bias by the number of times the row was updated; a dense optimiser reads and writes
every row, its moments and its gradient in every step, which for a million rows is almost all of the time.
"""

import math

import torch
from torch import Tensor, nn

from ncf.config import TrainConfig
from ncf.models import Model, halves
from ncf.training.kernels import Gradients

_BETAS = (0.9, 0.999)
_EPS = 1e-8
_LAZY_FROM_BYTES = 64 * 2**20


def tables(model: Model) -> dict[str, nn.Parameter]:
    """The embedding tables by their names in the model."""
    found = {id(table) for half in halves(model) for table in (half.user_table, half.item_table)}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in found}


def lazy_tables(model: Model, choice: str) -> set[str]:
    """The names of the tables that are updated lazily: all, none, or (`auto`) those of 64 MiB and more."""
    if choice == "dense":
        return set()
    return {
        name
        for name, table in tables(model).items()
        if choice == "lazy" or table.numel() * 4 >= _LAZY_FROM_BYTES
    }


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Linear warm-up over `warmup` of all steps, then constant or half a cosine down to zero."""
    warm = max(1.0, config.warmup * total)
    rise = min(1.0, (step + 1) / warm)
    if config.schedule == "constant":
        return config.learning_rate * rise
    return config.learning_rate * rise * 0.5 * (1.0 + math.cos(math.pi * step / total))


class LazyAdam:
    """Adam for one table: a step reads and writes only the rows it is given."""

    def __init__(self, table: nn.Parameter) -> None:
        self.table = table
        self.first = torch.zeros_like(table, requires_grad=False)
        self.second = torch.zeros_like(table, requires_grad=False)
        self.updates = torch.zeros(len(table), dtype=torch.int32, device=table.device)

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """`rows` [R] are distinct; `gradient` is [R, width]."""
        self.updates[rows] += 1
        count = self.updates[rows].float()[:, None]
        first = self.first[rows].lerp_(gradient, 1.0 - _BETAS[0])
        second = self.second[rows].mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1.0 - _BETAS[1])
        self.first[rows] = first
        self.second[rows] = second
        root = (second / (1.0 - _BETAS[1] ** count)).sqrt_().add_(_EPS)
        change = first.div_(1.0 - _BETAS[0] ** count).div_(root)
        self.table.data.index_add_(0, rows, change, alpha=-rate)

    def state(self) -> dict[str, Tensor]:
        return {"first": self.first, "second": self.second, "updates": self.updates}


class Optimizer:
    """Takes the gradients of a step and moves all parameters, each in its way."""

    def __init__(self, model: Model, config: TrainConfig, lazy: set[str]) -> None:
        named = dict(model.named_parameters())
        self._lazy = {name: LazyAdam(named[name]) for name in sorted(lazy)}
        self._dense = {name: parameter for name, parameter in named.items() if name not in lazy}
        table_names = set(tables(model))
        decayed = [p for name, p in self._dense.items() if name not in table_names and p.ndim > 1]
        plain = [p for name, p in self._dense.items() if name in table_names or p.ndim == 1]
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=1.0, betas=_BETAS, eps=_EPS, fused=True
        )

    def step(self, gradients: Gradients, rate: float) -> None:
        """One update with learning rate `rate`."""
        for adam in self._lazy.values():
            gradient = gradients[adam.table]
            rows = gradient.rows
            if rows is None:
                rows = torch.arange(len(adam.table), device=adam.table.device)
            adam.step(rows, gradient.values, rate)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        for parameter in self._dense.values():
            parameter.grad = gradients[parameter].values
        self._adamw.step()

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a later step depends on, by name; empty before the first step of AdamW."""
        state = {
            f"{name}.{key}": value for name, adam in self._lazy.items() for key, value in adam.state().items()
        }
        for name, parameter in self._dense.items():
            for key, value in self._adamw.state.get(parameter, {}).items():
                state[f"{name}.{key}"] = value
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for name, adam in self._lazy.items():
            for key, value in adam.state().items():
                value.copy_(state[f"{name}.{key}"])
        for name, parameter in self._dense.items():
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{key}" in state]
            self._adamw.state[parameter] = {key: state[f"{name}.{key}"].clone() for key in keys}
