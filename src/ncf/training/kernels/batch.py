"""The groups of a step, the table rows that they use, and the gradients that come out.

A small table takes part whole: its gradient has the table's shape. Of a large one only the rows of the batch
take part. They are gathered into a small table of their own; its gradient has that small shape, and the
optimiser updates only those rows.

Legend: B groups, C = 1 + K candidates, N draws in the step, R rows that take part.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """The rows of one table that a step uses."""

    rows: Tensor | None
    """[R] int64: their numbers in the table; None where all of the table takes part."""
    index: Tensor
    """int64, of any shape: for each draw, its position among `rows`."""
    count: int
    """R."""

    @classmethod
    def whole(cls, draws: Tensor, table_rows: int) -> Self:
        """Every row of a table of `table_rows` rows takes part; `draws` holds row numbers."""
        return cls(None, draws, table_rows)

    @classmethod
    def used(cls, draws: Tensor) -> Self:
        """Only the rows that are drawn take part, each once and in ascending order."""
        rows, index = torch.unique(draws, return_inverse=True)
        return cls(rows, index, len(rows))

    def take(self, table: Tensor) -> Tensor:
        """[R, width]: the rows of `table` that take part; the table itself where all do."""
        return table if self.rows is None else table.index_select(0, self.rows)

    @cached_property
    def times_drawn(self) -> Tensor:
        """[R] float32: how often each row is drawn in this step."""
        return torch.bincount(self.index.reshape(-1), minlength=self.count).float()


@dataclass(frozen=True)
class Batch:
    """B groups, as rows of the user table [B] and of the item table [B, C], the positive first."""

    users: Rows
    items: Rows
    total: int = 0
    """Groups of the step over all processes; 0 where this process has all of them."""
    counts: bool = True
    """False where this process has no group; it then has one that does not count, to keep the shapes."""

    @property
    def groups(self) -> int:
        """B."""
        return len(self.users.index)

    @property
    def all_groups(self) -> int:
        """B over all processes."""
        return self.total or self.groups

    @property
    def candidates(self) -> int:
        """C."""
        return self.items.index.shape[1]


@dataclass(frozen=True)
class RowSelection:
    """How the tables take part: their numbers of rows, and which sides take part only by the rows in use."""

    users: int
    items: int
    lazy_users: bool = False
    lazy_items: bool = False

    @property
    def lazy(self) -> bool:
        """Whether a side takes part by its rows in use."""
        return self.lazy_users or self.lazy_items

    def batch(
        self, users_B: Tensor, items_BC: Tensor, total: int, counts: bool, rows: type[Rows] = Rows
    ) -> Batch:
        """The batch of these rows of both tables; `total` and `counts` as in `Batch`."""
        return Batch(
            rows.used(users_B) if self.lazy_users else rows.whole(users_B, self.users),
            rows.used(items_BC) if self.lazy_items else rows.whole(items_BC, self.items),
            total,
            counts,
        )


@dataclass(frozen=True)
class RowGradient:
    """The gradient of a table: `values` [R, width] for `rows` [R], or for all rows where that is None."""

    rows: Tensor | None
    values: Tensor


Gradients = dict[Tensor, RowGradient]
"""By parameter."""
