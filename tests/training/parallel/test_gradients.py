"""Sums over two processes, here two threads that share memory: rows alone give the bits of whole tables."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor

from ncf.training.kernels.batch import Gradients, RowGradient
from ncf.training.parallel import communicator
from ncf.training.parallel.communicator import Collective

ROWS, WIDTHS, LAYER = 1000, (4, 8), torch.zeros(3)


class Pair(Collective):
    """One of two; `box` is both's."""

    size = 2

    def __init__(self, rank: int, box: list[Any], barrier: Barrier) -> None:
        self.rank, self.box, self.barrier, self.bytes = rank, box, barrier, 0

    def _gather(self, rows: Tensor) -> list[Tensor]:
        self.bytes += rows.nbytes
        self.box[self.rank] = rows.clone()
        self.barrier.wait()
        both = list(self.box)
        self.barrier.wait()
        return both

    def _sum(self, flat: Tensor) -> Tensor:
        first, second = self._gather(flat)
        return first + second


def together(work: Callable[[Pair], Gradients]) -> list[tuple[Pair, Gradients]]:
    pairs = [Pair(rank, box, barrier) for box, barrier in [([None, None], Barrier(2))] for rank in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        return list(zip(pairs, pool.map(work, pairs), strict=True))


def gradients(rank: int, tables: list[Tensor], used: int) -> Gradients:
    """Whole tables of which each process has `used` rows; layers."""
    random = torch.Generator().manual_seed(rank)
    rows = torch.randperm(ROWS, generator=random)[:used]
    made: Gradients = {LAYER: RowGradient(None, torch.ones(3))}
    for table in tables:
        values = torch.zeros_like(table)
        values[rows] = torch.randn(used, table.shape[1], generator=random)
        made[table] = RowGradient(None, values)
    return made


@pytest.mark.parametrize(("used", "thin"), [(0, True), (100, True), (500, True), (501, False), (1000, False)])
def test_few_rows_of_a_large_table_are_exchanged_alone(
    used: int, thin: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(communicator, "_LARGE_TABLE", ROWS * min(WIDTHS) * 4)
    tables = [torch.zeros(ROWS, width) for width in WIDTHS]
    expected = [
        sum((gradients(rank, tables, used)[table].values for rank in (0, 1)), torch.zeros_like(table))
        for table in tables
    ]
    whole = ROWS * sum(WIDTHS) * 4
    for pair, added in together(lambda pair: pair.add(gradients(pair.rank, tables, used))):
        assert added[LAYER].values.tolist() == [2.0] * 3
        for table, value in zip(tables, expected, strict=True):
            assert added[table].rows is None
            assert added[table].values.dtype == torch.float32
            assert torch.equal(added[table].values, value)
        assert (pair.bytes <= whole * 0.7) == thin
        assert pair.bytes >= used * sum(WIDTHS) * 4


def test_tables_of_a_side_share_one_exchange_of_rows() -> None:
    tables = [torch.zeros(ROWS, width) for width in WIDTHS]

    def work(pair: Pair) -> Gradients:
        rows = torch.arange(10) + 5 * pair.rank
        layer = {LAYER: RowGradient(None, torch.ones(3))}
        return pair.add(
            {table: RowGradient(rows, torch.ones(10, table.shape[1])) for table in tables} | layer
        )

    for pair, added in together(work):
        assert pair.bytes == 10 * 8 + 10 * sum(WIDTHS) * 4 + LAYER.nbytes
        for table in tables:
            summed = added[table]
            assert summed.rows is not None
            assert summed.rows.tolist() == list(range(15))
            assert torch.equal(summed.values[:, 0], torch.tensor([1.0] * 5 + [2.0] * 5 + [1.0] * 5))
