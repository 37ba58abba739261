"""The optimiser for a GPU: few launches, no waits, and a learning rate that a recorded step reads from
memory.

In: the gradients of a step. Out: moved parameters, as `optimizers.Optimizer` moves them. The state has the
same names, so a run can be stopped on one kind of device and resumed on another. AdamW moves all parameters
of one weight decay in one fused launch.

The decision worth knowing: only the device knows how many rows of a large table a step draws. So a step takes
as many rows as it has draws: the distinct ones in ascending order, then padding, whose change is multiplied
by zero.

Legend: R rows, padding included.
"""

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ncf.config import TrainConfig
from ncf.models import Model
from ncf.training.kernels.batch import Gradients
from ncf.training.optimizers import BETAS, EPS, LazyAdam, tables


class DeviceLazyAdam(LazyAdam):
    """`LazyAdam` in operations of one shape, whatever the rows are."""

    @torch.no_grad()
    def move(self, rows_R: Tensor, gradient: Tensor, rate: Tensor) -> None:
        """`rows_R` ascends, then comes padding; `gradient` is [R, width], `rate` a scalar on the device."""
        # A row that is not above the one before it is padding.
        live_R = torch.ones_like(rows_R, dtype=torch.bool)
        torch.gt(rows_R[1:], rows_R[:-1], out=live_R[1:])
        share = live_R.float()[:, None]
        # Padding repeats row 0: it may be read and written as often as it likes, as long as nothing is added.
        self.updates.index_add_(0, rows_R, live_R.int())
        count = self.updates.index_select(0, rows_R).clamp_(min=1).float()[:, None]
        first = self.first.index_select(0, rows_R)
        second = self.second.index_select(0, rows_R)
        to_first = (gradient - first).mul_(share * (1.0 - BETAS[0]))
        to_second = (gradient * gradient).sub_(second).mul_(share * (1.0 - BETAS[1]))
        self.first.index_add_(0, rows_R, to_first)
        self.second.index_add_(0, rows_R, to_second)
        root = second.add_(to_second).div_(1.0 - BETAS[1] ** count).sqrt_().add_(EPS)
        change = first.add_(to_first).div_(1.0 - BETAS[0] ** count).div_(root)
        self.table.data.index_add_(0, rows_R, change.mul_(share * -rate))


class DeviceOptimizer:
    """Moves all parameters by the gradients of a step, those named in `lazy` only by their rows in use."""

    def __init__(self, model: Model, config: TrainConfig, lazy: set[str]) -> None:
        named, table_names = dict(model.named_parameters()), set(tables(model))
        self._lazy = {name: DeviceLazyAdam(named[name]) for name in sorted(lazy)}
        self._dense = {name: parameter for name, parameter in named.items() if name not in lazy}
        decays: dict[float, list[str]] = {}
        for name, parameter in self._dense.items():
            decayed = name not in table_names and parameter.ndim > 1
            decays.setdefault(config.weight_decay if decayed else 0.0, []).append(name)
        self._decays = decays
        device = next(model.parameters()).device
        self._state = {
            name: {
                "step": torch.zeros((), device=device),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
            for name, parameter in self._dense.items()
        }
        self._rate = torch.zeros((), device=device)

    @property
    def dense(self) -> list[Tensor]:
        """The parameters whose gradient has their own shape."""
        return list(self._dense.values())

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the updates from now on, recorded ones included."""
        self._rate.fill_(rate)

    @torch.no_grad()
    def move(self, gradients: Gradients) -> None:
        """One update with the learning rate that was set."""
        for decay, names in self._decays.items():
            states = [self._state[name] for name in names]
            parameters: list[Tensor] = [self._dense[name] for name in names]
            adamw(
                parameters,
                [gradients[parameter].values for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                capturable=self._rate.is_cuda,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=self._rate,
                weight_decay=decay,
                eps=EPS,
                maximize=False,
            )
        for adam in self._lazy.values():
            gradient = gradients[adam.table]
            rows = gradient.rows
            if rows is None:
                rows = torch.arange(len(adam.table), device=adam.table.device)
            adam.move(rows, gradient.values, self._rate)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a later step depends on, by name."""
        kept = {name: adam.state() for name, adam in self._lazy.items()} | self._state
        return {f"{name}.{key}": value for name, values in kept.items() for key, value in values.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what a `state` gave, here or on another kind of device; what is missing starts at zero."""
        for name, value in self.state().items():
            if name in state:
                value.copy_(state[name])
            else:
                value.zero_()
