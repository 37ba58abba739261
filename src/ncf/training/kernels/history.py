"""One step of a history-aware GMF: v = p_u + (n_u - 1)^-a (s_u - y_i), where s_u is the sum over u's history.

In: the sums of all users, exact as long as the history's table stays as it is. Out: besides a GMF's
gradients, that of the sums [U, D] (key: the model's `sums`), and that of the table itself [I, D] for the
positives that were left out (key: `history_table`). `training/history_table.py` puts both together.

The decision worth knowing: a user's scale is the same for all groups of a step. So the gradient of the sums
is the gradient of the users' own vectors times that scale, and costs nothing.

Legend: b groups of a chunk, U users, I items, D factors.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ncf.models import HistoryGMF
from ncf.training.history_table import Sums
from ncf.training.kernels.batch import Batch, Gradients, RowGradient
from ncf.training.kernels.branch import Objective
from ncf.training.kernels.gmf import GmfStep, GmfWorker


class HistoryStep(GmfStep):
    """One step of a `HistoryGMF`, whose tables take part whole."""

    def __init__(self, model: HistoryGMF, batch: Batch, objective: Objective) -> None:
        super().__init__(model, batch, objective)
        assert batch.users.rows is None
        assert batch.items.rows is None
        self.sums = Sums.of(model)
        self.history_table = model.history_table.detach()

    def worker(self, span: slice, _: torch.Generator | None) -> "HistoryWorker":
        return HistoryWorker(self, span)

    def take(self, values: Iterator[Tensor], counts: Iterator[Tensor]) -> None:
        super().take(values, counts)
        self.d_left_out = next(values)
        self.d_sums = self.d_users * self.sums.scale_U1

    def gradients(self) -> Gradients:
        """By parameter, and of the sums."""
        assert isinstance(self.model, HistoryGMF)
        return super().gradients() | {
            self.sums.values: RowGradient(None, self.d_sums),
            self.model.history_table: RowGradient(None, self.d_left_out),
        }


class HistoryWorker(GmfWorker):
    """One part of a `HistoryStep`."""

    step: HistoryStep

    def __init__(self, step: HistoryStep, span: slice) -> None:
        super().__init__(step, span)
        self.d_left_out = torch.zeros_like(step.history_table)

    def vectors(self, chunk: slice) -> Tensor:
        """[b, D]: own vectors, and the histories without the groups' positives."""
        step, users_b = self.step, self.step.batch.users.index[chunk]
        self.positives_b = step.batch.items.index[chunk, 0]
        self.scale_b1 = step.sums.scale_U1.index_select(0, users_b)
        # With dropout, a positive that was dropped from the sum must not be taken out of it again.
        kept_b1 = step.sums.kept(users_b, self.positives_b)
        left_bD = step.history_table.index_select(0, self.positives_b)
        if kept_b1 is not None:
            left_bD.mul_(kept_b1)
            self.kept_b1 = kept_b1 * self.scale_b1
        else:
            self.kept_b1 = self.scale_b1
        others_bD = step.sums.values.index_select(0, users_b).sub_(left_bD).mul_(self.scale_b1)
        return others_bD.add_(super().vectors(chunk))

    def backward(self, chunk: slice, gradient_bC: Tensor) -> None:
        super().backward(chunk, gradient_bC)  # which leaves the gradients of the users' vectors in d_user_BD
        d_left_bD = self.step.d_user_BD[chunk] * self.kept_b1
        self.d_left_out.index_add_(0, self.positives_b, d_left_bD, alpha=-1.0)

    def sums(self) -> list[Tensor]:
        return [*super().sums(), self.d_left_out]
