"""A step of training on a GPU: gather, forward, loss, backward and update as one recorded launch.

In: users [B] and items [B, C] on the device. Out: the loss, and moved weights. It computes with the same kernels and the
same rules as on a CPU, in one part, since a GPU has no threads to share a step out among.

Of several processes each replays the recorded gradients of its own groups; one flat sum over the processes follows, and the
recorded update. What cannot be recorded runs launch by launch: dropout, whose generators are set anew for each step, and
large tables in several processes, whose rows in use are as many as the step happens to draw.

Legend: B groups of this process, C = 1 + K candidates, N draws, R rows that take part.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ncf.models import Model
from ncf.runtime import Workers
from ncf.training.gpu.graphs import Recorded, Recorder
from ncf.training.gpu.optimizer import DeviceOptimizer
from ncf.training.kernels.step import Batch, Gradients, Objective, StepParts, loss_and_gradients
from ncf.training.parallel.communicator import Communicator
from ncf.training.rows import RowGradient, Rows
from ncf.training.sampling import Step

_ALONE = Workers(1)


@dataclass(frozen=True)
class DeviceRows(Rows):
    """`Rows` whose number does not depend on what is drawn."""

    @classmethod
    def padded(cls, draws: Tensor) -> "DeviceRows":
        """The N rows that N draws could mean at most: the distinct ones ascending, then zeros, which are never meant."""
        flat_N = draws.reshape(-1)
        sorted_N, place_N = flat_N.sort()
        fresh_N = torch.ones_like(flat_N)
        fresh_N[1:] = sorted_N[1:] != sorted_N[:-1]
        segment_N = fresh_N.cumsum(0).sub_(1)
        rows_N = torch.zeros_like(flat_N).scatter_(0, segment_N, sorted_N)
        index_N = torch.empty_like(flat_N).scatter_(0, place_N, segment_N)
        return cls(rows_N, index_N.view(draws.shape), len(flat_N))

    @cached_property
    def times_drawn(self) -> Tensor:
        """[R] float32. `bincount` would have the device tell the largest index first."""
        flat_N = self.index.reshape(-1)
        ones_N = torch.ones_like(flat_N, dtype=torch.float32)
        return ones_N.new_zeros(self.count).index_add_(0, flat_N, ones_N)


@dataclass(frozen=True)
class Tables:
    """Numbers of users and items, and whether the rows of either side are updated lazily."""

    users: int
    items: int
    lazy_users: bool = False
    lazy_items: bool = False

    @property
    def lazy(self) -> bool:
        """Whether those of any side are."""
        return self.lazy_users or self.lazy_items


class DeviceStep:
    """Carries out steps; `recorder` makes recordings of what can be recorded, None records nothing."""

    def __init__(
        self,
        model: Model,
        objective: Objective,
        optimizer: DeviceOptimizer,
        tables: Tables,
        communicator: Communicator,
        recorder: Recorder | None = None,
    ) -> None:
        self._model, self._objective, self._optimizer = model, objective, optimizer
        self._tables, self._communicator = tables, communicator
        self._whole = Recorded(self._train, recorder)
        self._part = Recorded(self._differentiate, recorder)
        self._update = Recorded(self._move, recorder)

    def __call__(
        self, step: Step, rate: float, asked: bool, generator: torch.Generator | None = None
    ) -> tuple[Tensor, bool]:
        """The loss over all processes, and whether any of them was `asked` to stop. `generator` draws dropout masks."""
        self._optimizer.set_rate(rate)
        if self._communicator.size > 1:
            return self._together(step, asked, generator)
        inputs = [step.users, step.items]
        if generator is not None:
            return self._train(inputs, generator), asked
        return self._whole(inputs).clone(), asked

    def _train(self, inputs: list[Tensor], generator: torch.Generator | None = None) -> Tensor:
        loss, gradients = self._gradients(self._batch(inputs, padded=True), generator)
        self._optimizer.move(gradients)
        return loss

    def _together(self, step: Step, asked: bool, generator: torch.Generator | None) -> tuple[Tensor, bool]:
        """Each process its part, then one sum of everything that is whole; the stop flag makes them wait for it."""
        counts, inputs = step.counts, list(step.filled())
        if self._tables.lazy or generator is not None:
            batch = self._batch(inputs, False, step.groups, counts)
            loss, gradients = self._gradients(batch, generator)
            loss, stopping = self._communicator.sum([loss, loss.new_full((), float(asked))])
            self._optimizer.move(self._communicator.add(gradients))
            return loss, bool(stopping > 0)
        loss, *values = self._part(inputs, step.groups, counts)
        *summed, loss, stopping = self._communicator.sum([*values, loss, loss.new_full((), float(asked))])
        self._update(summed)
        return loss, bool(stopping > 0)

    def _differentiate(self, inputs: list[Tensor], groups: int, counts: bool) -> list[Tensor]:
        """The loss of this process's groups, and the gradient of every parameter in the optimiser's order."""
        loss, gradients = self._gradients(self._batch(inputs, True, groups, counts), None)
        return [loss, *(gradients[parameter].values for parameter in self._optimizer.dense)]

    def _move(self, values: list[Tensor]) -> None:
        parameters = self._optimizer.dense
        self._optimizer.move(
            {p: RowGradient(None, value) for p, value in zip(parameters, values, strict=True)}
        )

    def _gradients(self, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Gradients]:
        """All groups as one part."""
        generators = None if generator is None else [generator]
        parts = StepParts([slice(0, batch.groups)], 1)
        return loss_and_gradients(self._model, batch, self._objective, _ALONE, generators, parts)

    def _batch(self, inputs: list[Tensor], padded: bool, groups: int = 0, counts: bool = True) -> Batch:
        users_B, items_BC = inputs
        used = DeviceRows.padded if padded else Rows.used
        tables = self._tables
        return Batch(
            used(users_B) if tables.lazy_users else DeviceRows.whole(users_B, tables.users),
            used(items_BC) if tables.lazy_items else DeviceRows.whole(items_BC, tables.items),
            groups,
            counts,
        )
