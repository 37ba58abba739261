"""One step of a history-aware GMF with a half-life: v = p_u + W^-a * sum of w_j y_j over j before the
positive.

In: the users' histories in order of time. Out: besides a GMF's gradients, that of the history's table [I, D].

The decision worth knowing: each group adds up the items of its own window, and its gradient goes back to them
in the same step. That is more arithmetic than sums that all groups of a user share, but it needs nothing
between steps.

Legend: b groups of a chunk, I items, D factors.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ncf.models import HistoryGMF
from ncf.models.recency import RecentHistory
from ncf.training.kernels.batch import Batch, Gradients, RowGradient
from ncf.training.kernels.branch import Objective
from ncf.training.kernels.gmf import GmfStep, GmfWorker


class RecentStep(GmfStep):
    """One step of a `HistoryGMF` with a half-life, whose tables take part whole."""

    def __init__(self, model: HistoryGMF, batch: Batch, objective: Objective) -> None:
        super().__init__(model, batch, objective)
        assert batch.users.rows is None
        assert batch.items.rows is None
        assert isinstance(model.attached, RecentHistory)
        self.past, self.exponent = model.attached, model.exponent
        self.history_table = model.history_table.detach()

    def worker(self, span: slice, _: torch.Generator | None) -> "RecentWorker":
        return RecentWorker(self, span)

    def take(self, values: Iterator[Tensor], counts: Iterator[Tensor]) -> None:
        super().take(values, counts)
        self.d_history = next(values)

    def gradients(self) -> Gradients:
        assert isinstance(self.model, HistoryGMF)
        return super().gradients() | {self.model.history_table: RowGradient(None, self.d_history)}


class RecentWorker(GmfWorker):
    """One part of a `RecentStep`."""

    step: RecentStep

    def __init__(self, step: RecentStep, span: slice) -> None:
        super().__init__(step, span)
        self.d_history = torch.zeros_like(step.history_table)

    def vectors(self, chunk: slice) -> Tensor:
        """[b, D]: own vectors, and what came before the groups' positives."""
        step, users_b = self.step, self.step.batch.users.index[chunk]
        self.bags = step.past.before(users_b, step.batch.items.index[chunk, 0], step.exponent)
        return self.bags.sums(step.history_table).add_(super().vectors(chunk))

    def backward(self, chunk: slice, gradient_bC: Tensor) -> None:
        super().backward(chunk, gradient_bC)  # which leaves the gradients of the users' vectors in d_user_BD
        self.bags.back(self.step.d_user_BD[chunk], self.d_history)

    def sums(self) -> list[Tensor]:
        return [*super().sums(), self.d_history]


class RecentTable:
    """`HistoryTable`'s counterpart for a half-life: the table moves with every step, and only L2 is added."""

    every = 1

    def __init__(self, model: HistoryGMF, l2: float) -> None:
        self.model, self.l2 = model, l2
        assert isinstance(model.attached, RecentHistory)
        items = model.attached.items
        drawn = torch.bincount(items, minlength=len(model.history_table)).float()
        self._shares_I1 = drawn[:, None] / max(1, len(items))

    def gather(self, gradients: Gradients) -> Gradients:
        """Add L2 to the gradient of the history's table: each item's share of the positives."""
        table = self.model.history_table
        gradients[table].values.addcmul_(table.detach(), self._shares_I1, value=2.0 * self.l2)
        return gradients

    def after(self) -> None:
        """Nothing is kept for the next step."""

    def state(self) -> dict[str, Tensor]:
        """Nothing is kept for a checkpoint."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing was kept."""
