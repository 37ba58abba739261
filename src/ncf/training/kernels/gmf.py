"""One step of a GMF: logit = (h * p_u) . q_i + b_i + b, where b_i is there only in models that have it.

Legend: b groups of a chunk, C candidates, n = b x C, I items, D factors.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ncf.models import GMF
from ncf.training.kernels.batch import Batch, Gradients, RowGradient
from ncf.training.kernels.branch import BranchStep, Objective, add_l2


class GmfStep(BranchStep):
    """One step of a GMF."""

    def __init__(self, model: GMF, batch: Batch, objective: Objective) -> None:
        super().__init__(model, batch, objective.l2_gmf)
        self.model = model
        self.item_bias = None if model.item_bias is None else batch.items.take(model.item_bias.detach())

    def worker(self, span: slice, _: torch.Generator | None) -> "GmfWorker":
        """What works through the groups in `span`."""
        return GmfWorker(self, span)

    def take(self, values: Iterator[Tensor], counts: Iterator[Tensor]) -> None:
        self.d_users = next(values) if self.by_part else self.sum_by_user()
        self.d_items, self.d_output, self.d_bias = (next(values) for _ in range(3))
        if self.item_bias is not None:
            self.d_item_bias = next(values)
        self.take_counts(counts)

    def reduce_items(self, part: slice) -> None:
        """Finish the gradients of the items' rows in `part`: only L2 is left."""
        self.add_item_l2(part)
        if self.item_bias is not None and self.l2:
            draws = self.batch.all_groups * self.batch.candidates
            add_l2(self.d_item_bias[part], self.item_bias[part], self.item_draws[part], self.l2, draws)

    def gradients(self) -> Gradients:
        """By parameter."""
        gradients = self.table_gradients(self.model) | {
            self.model.output: RowGradient(None, self.d_output),
            self.model.bias: RowGradient(None, self.d_bias),
        }
        if self.model.item_bias is not None:
            gradients[self.model.item_bias] = RowGradient(self.batch.items.rows, self.d_item_bias)
        return gradients


class GmfWorker:
    """One part of a GMF step: forward and backward of its groups, into accumulators of its own."""

    def __init__(self, step: GmfStep, span: slice) -> None:
        self.step, self.span = step, span
        self.d_items = torch.zeros_like(step.item_table)
        self.d_output = torch.zeros_like(step.output)
        self.d_bias = torch.zeros_like(step.bias)
        self.d_item_bias = [] if step.item_bias is None else [torch.zeros_like(step.item_bias)]

    def vectors(self, chunk: slice) -> Tensor:
        """[b, D]: the vectors of the chunk's users."""
        return self.step.user_table.index_select(0, self.step.batch.users.index[chunk])

    def forward(self, chunk: slice) -> Tensor:
        """Logits [b, C] of the groups in `chunk`; keeps what `backward` needs."""
        step, index_bC = self.step, self.step.batch.items.index[chunk]
        self.index_n = index_bC.reshape(-1)
        self.user_bD = self.vectors(chunk)
        self.weighted_bD = self.user_bD * step.output
        self.items_bCD = step.item_table.index_select(0, self.index_n).view(*index_bC.shape, -1)
        logits_bC = (self.items_bCD * self.weighted_bD[:, None]).sum(2).add_(step.bias)
        return logits_bC if step.item_bias is None else logits_bC.add_(step.item_bias[index_bC])

    def backward(self, chunk: slice, gradient_bC: Tensor) -> None:
        """Add the gradients that follow from those of the logits of the chunk that went forward last."""
        step = self.step
        # The gathered items are not needed again, so their memory takes the product.
        d_weighted_bD = self.items_bCD.mul_(gradient_bC[:, :, None]).sum(1)
        torch.mul(d_weighted_bD, step.output, out=step.d_user_BD[chunk])
        self.d_output += d_weighted_bD.mul_(self.user_bD).sum(0)
        self.d_bias += gradient_bC.sum()
        # By candidate; an item may come more than once in a chunk, so it is added, not assigned.
        d_items_nD = (gradient_bC[:, :, None] * self.weighted_bD[:, None]).view(len(self.index_n), -1)
        self.d_items.index_add_(0, self.index_n, d_items_nD)
        for d_item_bias in self.d_item_bias:
            d_item_bias.index_add_(0, self.index_n, gradient_bC.reshape(-1))

    def finish(self) -> None:
        """Add up the users' gradients, where each part has its own sum."""
        self.d_users = [self.step.user_gradient(self.span)] if self.step.by_part else []

    def sums(self) -> list[Tensor]:
        """What is summed over the parts, in the order that `GmfStep.take` expects."""
        return [*self.d_users, self.d_items, self.d_output, self.d_bias, *self.d_item_bias]
