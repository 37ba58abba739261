"""Which rows of an embedding table a step touches.

A small table takes part whole: its gradient has the table's shape. Of a large one only the rows in the batch take
part, gathered into a small table of their own; its gradient has that small shape, and the optimiser updates only
those rows.

Legend: N draws in the step, R rows that take part.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """`rows` [R] of a table, or None for all of it; `index` [...] says which of them each draw means."""

    rows: Tensor | None
    index: Tensor
    count: int

    @classmethod
    def whole(cls, draws: Tensor, table_rows: int) -> "Rows":
        """Every row of a table of `table_rows` rows takes part."""
        return cls(None, draws, table_rows)

    @classmethod
    def used(cls, draws: Tensor) -> "Rows":
        """Only the rows that are drawn take part."""
        rows, index = torch.unique(draws, return_inverse=True)
        return cls(rows, index, len(rows))

    def take(self, table: Tensor) -> Tensor:
        """[R, width]: the rows of `table` that take part."""
        return table if self.rows is None else table.index_select(0, self.rows)

    @cached_property
    def times_drawn(self) -> Tensor:
        """[R] float32: how often each row is drawn in this step."""
        return torch.bincount(self.index.reshape(-1), minlength=self.count).float()


@dataclass(frozen=True)
class RowGradient:
    """The gradient of a table: `values` [R, width] for `rows` [R], or for all rows where that is None."""

    rows: Tensor | None
    values: Tensor


Gradients = dict[Tensor, RowGradient]
"""By parameter."""
