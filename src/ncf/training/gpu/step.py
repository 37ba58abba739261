"""A step of training on a GPU: gather, forward, loss, backward and update as one recorded launch.

In: users [B] and items [B, C] on the device. Out: the loss, and moved weights. The kernels and the rules are
those of the CPU, with the step in one part.

Of several processes, each replays the recorded gradients of its own groups; then come one flat sum over the
processes and the recorded update. What cannot be recorded runs launch by launch: dropout, whose generators
are new in each step, and large tables in several processes, whose number of rows in use differs from step to
step.

Legend: B groups of this process, C = 1 + K candidates, N draws, R rows that take part.
"""

from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from ncf.config import TrainConfig
from ncf.models import Model
from ncf.runtime import Workers
from ncf.training.checkpoint import add_prefix, part
from ncf.training.gpu.graphs import Recorded, Recorder
from ncf.training.gpu.optimizer import DeviceOptimizer
from ncf.training.gpu.sampling import DeviceGroupSampler
from ncf.training.kernels.batch import Batch, Gradients, RowGradient, Rows, RowSelection
from ncf.training.kernels.branch import Objective, StepParts
from ncf.training.kernels.step import dropout_generators, loss_and_gradients
from ncf.training.parallel.communicator import Communicator
from ncf.training.sampling import GroupSampler, Step

Generators = list[torch.Generator] | None
_ALONE = Workers(1)


class DeviceRows(Rows):
    """`Rows` whose number does not depend on the draws, so that the CPU need not ask the device for it."""

    @classmethod
    def used(cls, draws: Tensor) -> Self:
        """N rows for N draws: the distinct ones ascending, then zeros as padding, which no draw means."""
        flat_N = draws.reshape(-1)
        sorted_N, order_N = flat_N.sort()
        fresh_N = torch.ones_like(flat_N)
        fresh_N[1:] = sorted_N[1:] != sorted_N[:-1]
        segment_N = fresh_N.cumsum(0).sub_(1)
        rows_N = torch.zeros_like(flat_N).scatter_(0, segment_N, sorted_N)
        index_N = torch.empty_like(flat_N).scatter_(0, order_N, segment_N)
        return cls(rows_N, index_N.view(draws.shape), len(flat_N))

    @cached_property
    def times_drawn(self) -> Tensor:
        """[R] float32. `bincount` would have the device tell the largest index first."""
        flat_N = self.index.reshape(-1)
        ones_N = torch.ones_like(flat_N, dtype=torch.float32)
        return ones_N.new_zeros(self.count).index_add_(0, flat_N, ones_N)


class GpuRunner:
    """The `StepRunner` of a GPU."""

    sampler: type[GroupSampler] = DeviceGroupSampler

    def __init__(
        self,
        model: Model,
        config: TrainConfig,
        objective: Objective,
        rows: RowSelection,
        lazy: set[str],
        communicator: Communicator,
        recorder: Recorder | None = None,
    ) -> None:
        """`lazy` tables are updated by the `rows` in use; without a `recorder` nothing is recorded."""
        self.lazy, self.optimizer = lazy, DeviceOptimizer(model, config, lazy)
        self._model, self._seed, self._objective = model, config.seed, objective
        self._rows, self._communicator = rows, communicator
        self._whole = Recorded(self._train, recorder)
        self._part = Recorded(self._differentiate, recorder)
        self._update = Recorded(self._move, recorder)

    def run(self, step: Step, rate: float, stop: bool) -> tuple[Tensor, bool]:
        self.optimizer.set_rate(rate)
        parts = StepParts([slice(0, len(step.users))], 1, self._communicator.rank)
        generators = dropout_generators(self._model, self._seed, step.epoch, step.number, parts)
        if self._communicator.size > 1:
            return self._together(step, stop, generators)
        inputs = [step.users, step.items]
        if generators is not None:
            return self._train(inputs, generators), stop
        # A copy, since the next replay overwrites the loss.
        return self._whole(inputs).clone(), stop

    def _train(self, inputs: list[Tensor], generators: Generators = None) -> Tensor:
        """A whole step of a single process; its loss."""
        loss, gradients = self._gradients(self._batch(inputs, DeviceRows), generators)
        self.optimizer.move(gradients)
        return loss

    def _together(self, step: Step, stop: bool, generators: Generators) -> tuple[Tensor, bool]:
        """Each process its own groups, then one sum of everything that is whole, the stop flag included."""
        counts, inputs = step.counts, list(step.filled())
        if self._rows.lazy or generators is not None:
            # Not recorded: the number of rows in use and the generators differ from step to step.
            batch = self._batch(inputs, Rows, step.groups, counts)
            loss, gradients = self._gradients(batch, generators)
            loss, stopping = self._communicator.sum([loss, loss.new_full((), float(stop))])
            self.optimizer.move(self._communicator.add(gradients))
            return loss, bool(stopping > 0)
        # One exchange for all gradients, the loss and the flag; whole tables have the same shape everywhere.
        loss, *values = self._part(inputs, step.groups, counts)
        *summed, loss, stopping = self._communicator.sum([*values, loss, loss.new_full((), float(stop))])
        self._update(summed)
        return loss, bool(stopping > 0)

    def _differentiate(self, inputs: list[Tensor], groups: int, counts: bool) -> list[Tensor]:
        """The loss of this process's groups, and the gradient of every parameter in the optimiser's order."""
        loss, gradients = self._gradients(self._batch(inputs, DeviceRows, groups, counts), None)
        return [loss, *(gradients[parameter].values for parameter in self.optimizer.dense)]

    def _move(self, values: list[Tensor]) -> None:
        gradients = [RowGradient(None, value) for value in values]
        self.optimizer.move(dict(zip(self.optimizer.dense, gradients, strict=True)))

    def _batch(self, inputs: list[Tensor], rows: type[Rows], total: int = 0, counts: bool = True) -> Batch:
        users_B, items_BC = inputs
        return self._rows.batch(users_B, items_BC, total, counts, rows)

    def _gradients(self, batch: Batch, generators: Generators) -> tuple[Tensor, Gradients]:
        """Of this process's groups, as one part."""
        parts = StepParts([slice(0, batch.groups)], 1)
        return loss_and_gradients(self._model, batch, self._objective, _ALONE, generators, parts)

    def state(self) -> dict[str, Tensor]:
        return add_prefix("optimizer", self.optimizer.state())

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.optimizer.load_state(part(tensors, "optimizer"))
