"""The sampler for a GPU: positives, their order and the known positives are in its memory, and it draws the
steps.

In and out: as `sampling.GroupSampler`, and the same steps bit by bit, as draws follow from counters.

The decision worth knowing: what has to wait for the device is done once a block, never once a step. A block
is large: most of an epoch of a million positives. The CPU computes where each step's positives begin, for all
steps of a block at once. Known negatives are redrawn several times before the CPU asks how many are left.

Legend: N draws, B groups of this process in a block, n steps, S shards, P pieces: what a step takes of a
shard.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncf.data import Csr
from ncf.runtime import Workers
from ncf.training.known_positives import KnownPositives
from ncf.training.sampling import COUNTERS_A_DRAW, ROUNDS, GroupSampler, NegativeSampler, Step

_DRAWS_A_BLOCK = 2**24
_ROUNDS_A_LOOK = 8
_BITMAP_LIMIT_BYTES = 4 * 2**30


class DeviceNegativeSampler(NegativeSampler):
    """Redraws all pending items for several rounds at a time; those that are no longer known stay."""

    def _draw(self, users_N: Tensor, counters_N: Tensor, seed: int) -> Tensor:
        counters_N = counters_N * COUNTERS_A_DRAW
        items_N = self._propose(counters_N, seed)
        pending = self._known.contains(users_N, items_N).nonzero().squeeze(1)
        for first in range(1, ROUNDS, _ROUNDS_A_LOOK):
            if not len(pending):
                return items_N
            rounds = range(first, min(ROUNDS, first + _ROUNDS_A_LOOK))
            redrawn, known = self._redraw(users_N[pending], counters_N[pending], rounds, seed)
            items_N[pending] = redrawn
            pending = pending[known]
        self._choose(pending, users_N, counters_N, seed, items_N)
        return items_N

    def _redraw(self, users_N: Tensor, counters_N: Tensor, rounds: range, seed: int) -> tuple[Tensor, Tensor]:
        """[N] items after these rounds, and [N] bool: which of them are still known."""
        # All pairs are drawn in every round, and `where` picks: to select the known ones would be to wait.
        items_N, known_N = torch.zeros_like(users_N), torch.ones_like(users_N, dtype=torch.bool)
        for number in rounds:
            items_N = torch.where(known_N, self._propose(counters_N + number, seed), items_N)
            known_N = self._known.contains(users_N, items_N)
        return items_N, known_N


class DeviceGroupSampler(GroupSampler):
    """`GroupSampler` with its arrays on the device."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._first = int(self._bounds[self._own_shards().start])
        self._first_positive, end = self._own_positives()
        self._own = [
            torch.from_numpy(np.array(rows[self._first_positive : end])).to(self.device)
            for rows in (self._users, self._items)
        ]
        self._steps_a_block = max(1, _DRAWS_A_BLOCK // self._own_draws)
        self._alone = Workers(1)

    def _negative_sampler(
        self, known: Csr, items: int, popularity: Tensor, exponent: float
    ) -> NegativeSampler:
        positives = KnownPositives(known, items, self.device, _BITMAP_LIMIT_BYTES)
        return DeviceNegativeSampler(positives, popularity, exponent)

    def epoch(self, epoch: int, workers: Workers, first_step: int = 0) -> Iterator[Step]:  # noqa: ARG002
        """As on CPU, but one block at a time: the device is parallel in itself."""
        return super().epoch(epoch, self._alone, first_step)

    def _orders(self, epoch: int, workers: Workers) -> dict[int, Tensor]:
        """The orders of all shards as one, under the first of them; positions count from this process's
        first.
        """
        orders = super()._orders(epoch, workers)
        moved = [order.add_(int(self._bounds[shard]) - self._first) for shard, order in orders.items()]
        return {min(orders): torch.cat(moved)}

    def _positions_of(self, steps: range, orders: dict[int, Tensor]) -> tuple[Tensor, list[int]]:
        """As on CPU; only the starts and lengths of the pieces are sent to the device."""
        (order,) = orders.values()
        starts, lengths = self._pieces(steps)
        starts += self._bounds[:-1] - self._first
        # Position i of the block, in piece p, is order[shifts[p] + i]: one repeat and one addition give all
        # positions, with a size that the CPU knows already.
        total, flat = int(lengths.sum()), lengths.ravel()
        shifts_P, lengths_P = (
            torch.from_numpy(values).to(self.device)
            for values in (starts.ravel() - (np.cumsum(flat) - flat), flat)
        )
        places_B = torch.repeat_interleave(shifts_P, lengths_P, output_size=total)
        places_B += torch.arange(total, device=self.device)
        return order[places_B].add_(self._first), lengths.sum(axis=1).tolist()

    def _read(self, positions_B: Tensor) -> tuple[Tensor, Tensor]:
        users, items = (rows[positions_B - self._first_positive].long() for rows in self._own)
        return users, items
