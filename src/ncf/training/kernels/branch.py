"""What the steps of all branches share: what is minimised, and the gradients of both tables.

Legend: B groups, C = 1 + K candidates, R rows that take part, U users, I items, W width of a table.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ncf.models import GMF, MLP
from ncf.runtime import Workers
from ncf.training.kernels.batch import Batch, Gradients, RowGradient
from ncf.training.losses import Loss


@dataclass(frozen=True)
class Objective:
    """What a step minimises (the formula is in `step.py`), and how it computes."""

    loss: Loss
    l2_gmf: float = 0.0
    l2_mlp: float = 0.0
    precision: torch.dtype = torch.float32
    chunk: int = 2048
    """Groups that go forward and backward at once."""


@dataclass(frozen=True)
class StepParts:
    """How a step is cut, so that sums do not depend on who computes them."""

    own: list[slice]
    """Spans of this process's groups."""
    slices: int
    """The number of slices that rows of tables are cut into."""
    first: int = 0
    """The number of this process's first part among those of all processes."""


def add_l2(values: Tensor, table: Tensor, times_drawn: Tensor, strength: float, draws: int) -> None:
    """Add to `values`, in place, the gradient of strength / draws * sum over the draws of |row|²."""
    drawn = times_drawn.view(-1, *[1] * (table.ndim - 1))
    values.addcmul_(table, drawn, value=2.0 * strength / draws)


class BranchStep:
    """One step of a branch: the rows that take part, and where their gradients are added up.

    Subclasses make a worker for each part (`worker`) and take the sums over all parts (`take`).
    """

    d_users: Tensor
    d_items: Tensor

    def __init__(self, model: GMF | MLP, batch: Batch, l2: float) -> None:
        self.batch, self.l2 = batch, l2
        self.user_table = batch.users.take(model.user_table.detach())
        self.item_table = batch.items.take(model.item_table.detach())
        self.output = model.output.detach()
        self.bias = model.bias.detach()
        self.d_user_BD = self.user_table.new_empty(batch.groups, self.user_table.shape[1])
        self.by_part = batch.users.rows is None
        """Whether each part sums its users' gradients; with rows in use, all parts do so together."""

    def prepare(self, workers: Workers, count: int) -> None:
        """Compute what all workers need, in `count` slices over the threads."""

    def draws(self) -> list[Tensor]:
        """[R] of users and of items: how often each row is drawn. Only L2 needs it."""
        if not self.l2:
            return []
        drawn = [self.batch.users.times_drawn, self.batch.items.times_drawn]
        return drawn if self.batch.counts else [torch.zeros_like(counts) for counts in drawn]

    def take(self, values: Iterator[Tensor], counts: Iterator[Tensor]) -> None:
        """Take the sums over all parts: `values` in the order of `sums` of workers, `counts` of `draws`."""
        raise NotImplementedError

    def take_counts(self, counts: Iterator[Tensor]) -> None:
        """Take what `draws` gave, summed over all processes."""
        if self.l2:
            self.user_draws, self.item_draws = next(counts), next(counts)

    def user_gradient(self, span: slice) -> Tensor:
        """[R, D]: the gradient of the users' rows from the groups in `span`."""
        d_users = torch.zeros_like(self.user_table)
        return d_users.index_add_(0, self.batch.users.index[span], self.d_user_BD[span])

    def sum_by_user(self) -> Tensor:
        """[R, D]: the same from all groups."""
        return self.user_gradient(slice(0, self.batch.groups))

    def user_tasks(self, _: int) -> list[Callable[[], None]]:
        """What is left to do for the users' gradients, for the threads to share."""
        return [partial(self.add_user_l2, slice(None))]

    def add_user_l2(self, part: slice) -> None:
        """Add L2 of the users' rows in `part`, once their gradient is there."""
        if self.l2:
            groups = self.batch.all_groups
            add_l2(self.d_users[part], self.user_table[part], self.user_draws[part], self.l2, groups)

    def add_item_l2(self, part: slice) -> None:
        """Add L2 of the items' rows in `part`, once their gradient is there."""
        if self.l2:
            draws = self.batch.all_groups * self.batch.candidates
            add_l2(self.d_items[part], self.item_table[part], self.item_draws[part], self.l2, draws)

    def table_gradients(self, model: GMF | MLP) -> Gradients:
        """The gradients of both tables, by parameter of `model`."""
        return {
            model.user_table: RowGradient(self.batch.users.rows, self.d_users),
            model.item_table: RowGradient(self.batch.items.rows, self.d_items),
        }


def add_in_pairs(parts: list[Tensor]) -> Tensor:
    """The sum of tensors of one shape, in place in the first: in pairs, then in pairs of pairs, and so on.

    The order is that of the parts, so several processes can each do a subtree of it to the same bits.
    """
    while len(parts) > 1:
        # An odd tensor at the end has no partner and moves up a level.
        for first, second in zip(parts[::2], parts[1::2], strict=False):
            first += second
        parts = parts[::2]
    return parts[0]
