"""An epoch's groups: positives in a new order, each with K negatives drawn afresh and verified.

In: training positives, and for every user the positives that no negative may be: those of training, or all that are
known (train, validation and test). Out: the steps of an epoch: users [B] and items [B, 1 + K] with the positive in
column 0. What a step holds follows from (seed, epoch, position) alone, so a resumed run draws what the killed one would
have, and each of several processes draws only its own part of what one process would.

Two decisions worth knowing. The positives, sorted by user, are cut into `shards`, and every step takes its share of
each: a process meets the same few shards all the time, so it reads and remembers only their interactions and users.
And sparing the held-out positives tells the model something about them, which flatters what is measured afterwards
(docs/protocol.md has the figures); so measured runs exclude the positives of training only.

Legend: N draws, U users, I items, B groups of this process in a step, K negatives of a positive, S shards.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ncf.data import Csr, Dataset
from ncf.errors import DataError
from ncf.runtime import Workers, seed_of, spans
from ncf.training import counter_rng
from ncf.training.known_positives import KnownPositives

_DRAWS_A_BLOCK = 2**20
_DRAWS_AT_ONCE = {"cpu": 2**16, "cuda": 2**24}
ROUNDS = 60
COUNTERS_A_DRAW = 64
_GROUPS_A_SHARD = 256
_MOST_SHARDS = 64


def draw_weights(popularity: Tensor, exponent: float) -> Tensor:
    """[I] float64: what each item is drawn in proportion to, (1 + popularity)^exponent."""
    return (1.0 + popularity.double()).pow(exponent)


class NegativeSampler:
    """Draws items, uniformly or in proportion to (1 + popularity)^exponent, and redraws what is known."""

    def __init__(
        self, known: KnownPositives, popularity: Tensor | None = None, exponent: float = 0.0
    ) -> None:
        self._known = known
        self._cumulative: Tensor | None = None
        if popularity is not None and exponent:
            weights = draw_weights(popularity, exponent)
            # Summed on the CPU, so that every device draws the same.
            self._cumulative = (weights.cumsum(0) / weights.sum()).contiguous().to(known.device)

    def draw(self, users_N: Tensor, counters_N: Tensor, seed: int) -> Tensor:
        """[N] int64: one verified negative for each user; equal (user, counter, seed) get the same."""
        at_once = _DRAWS_AT_ONCE.get(users_N.device.type, 2**20)
        parts = zip(torch.split(users_N, at_once), torch.split(counters_N, at_once), strict=True)
        return torch.cat([self._draw(users, counters, seed) for users, counters in parts])

    def _draw(self, users_N: Tensor, counters_N: Tensor, seed: int) -> Tensor:
        counters_N = counters_N * COUNTERS_A_DRAW
        items_N = self._propose(counters_N, seed)
        pending = self._known.contains(users_N, items_N).nonzero().squeeze(1)
        for number in range(1, ROUNDS):
            if not len(pending):
                return items_N
            proposal = self._propose(counters_N[pending] + number, seed)
            items_N[pending] = proposal
            pending = pending[self._known.contains(users_N[pending], proposal)]
        self._choose(pending, users_N, counters_N, seed, items_N)
        return items_N

    def _choose(
        self, pending: Tensor, users_N: Tensor, counters_N: Tensor, seed: int, items_N: Tensor
    ) -> None:
        """Write what is free for the few that only ever drew what is known."""
        for place in pending.tolist():
            free = self._known.negatives_of(int(users_N[place]))
            items_N[place] = free[int(counter_rng.below(seed, counters_N[place].view(1) + ROUNDS, len(free)))]

    def _propose(self, counters_N: Tensor, seed: int) -> Tensor:
        if self._cumulative is None:
            return counter_rng.below(seed, counters_N, self._known.items)
        points_N = counter_rng.fractions(seed, counters_N)
        return torch.searchsorted(self._cumulative, points_N).clamp_(max=self._known.items - 1)


@dataclass(frozen=True)
class Step:
    """This process's part of a step: `users` [B] and `items` [B, 1 + K], of `groups` over all processes."""

    epoch: int
    number: int
    groups: int
    users: Tensor
    items: Tensor

    @property
    def counts(self) -> bool:
        """False where there are more processes than groups, and this one has none."""
        return len(self.users) > 0

    def filled(self) -> tuple[Tensor, Tensor]:
        """Users and items; where there is no group any one, which does not count, so that shapes are as elsewhere."""
        if self.counts:
            return self.users, self.items
        return self.users.new_zeros(1), self.items.new_zeros(1, self.items.shape[1])


class GroupSampler:
    """All of an epoch, or the part of process `rank` of `size`, step by step; only a few exist at a time."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        negatives: int,
        exponent: float = 0.0,
        exclude: str = "training",
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        size: int = 1,
    ) -> None:
        self.device = torch.device(device)
        self.batch_size, self.negatives, self.seed = batch_size, negatives, seed
        self._rank, self._size = rank, size
        self._users, self._items = dataset.train.user_rows, dataset.train.item_rows
        self.positives = len(self._users)
        self.steps = -(-self.positives // batch_size)
        self._bounds = _shard_bounds(self.positives, batch_size)
        first, last = self._own_users()
        self._first_user = first
        own = _known_of(dataset, exclude, first, last)
        _refuse_users_without_negatives(dataset, first, last)
        popularity = torch.from_numpy(np.array(dataset.popularity))
        self._sampler = self._negative_sampler(own, len(dataset.items), popularity, exponent)
        self._own_draws = max(1, -(-batch_size // size) * negatives)
        self._steps_a_block = max(1, _DRAWS_A_BLOCK // self._own_draws)

    def _negative_sampler(
        self, known: Csr, items: int, popularity: Tensor, exponent: float
    ) -> NegativeSampler:
        return NegativeSampler(KnownPositives(known, items, self.device), popularity, exponent)

    def epoch(self, epoch: int, workers: Workers, first_step: int = 0) -> Iterator[Step]:
        """The steps of `epoch` from `first_step` on; `workers.threads` blocks of steps are drawn at once."""
        orders = self._orders(epoch, workers)
        starts = range(first_step, self.steps, self._steps_a_block)
        for first in range(0, len(starts), workers.threads):
            blocks = workers.map(
                lambda start: self._block(epoch, start, orders), list(starts[first : first + workers.threads])
            )
            for block in blocks:
                yield from block

    def _orders(self, epoch: int, workers: Workers) -> dict[int, Tensor]:
        """The order of the positives of each shard that this process may meet."""
        lengths = np.diff(self._bounds)

        def order(shard: int) -> Tensor:
            return counter_rng.order(
                seed_of(self.seed, "order", epoch, shard), int(lengths[shard]), self.device
            )

        own = self._own_shards()
        return dict(zip(own, workers.map(order, list(own)), strict=True))

    def _own_shards(self) -> range:
        """Shares are rounded, so a group or two of a span may lie in a neighbouring shard."""
        shards = len(self._bounds) - 1
        return range(
            max(0, shards * self._rank // self._size - 1),
            min(shards, -(-shards * (self._rank + 1) // self._size) + 1),
        )

    def _own_users(self) -> tuple[int, int]:
        """First and last user of those shards; nobody where there is no positive."""
        own = self._own_shards()
        first, end = int(self._bounds[own.start]), int(self._bounds[own.stop])
        return (int(self._users[first]), int(self._users[end - 1])) if end > first else (0, -1)

    def _block(self, epoch: int, first_step: int, orders: dict[int, Tensor]) -> list[Step]:
        """Consecutive steps, drawn together."""
        numbers = range(first_step, min(self.steps, first_step + self._steps_a_block))
        positions_B, cut = self._positions_of(numbers, orders)
        users_B, items_B = self._read(positions_B)
        counters_BK = positions_B[:, None] * self.negatives + torch.arange(self.negatives, device=self.device)
        negatives_BK = self._sampler.draw(
            (users_B - self._first_user).repeat_interleave(self.negatives),
            counters_BK.reshape(-1),
            seed_of(self.seed, "negatives", epoch),
        ).view(-1, self.negatives)
        items_BC = torch.cat([items_B[:, None], negatives_BK], dim=1)
        parts = zip(numbers, torch.split(users_B, cut), torch.split(items_BC, cut), strict=True)
        return [
            Step(epoch, number, self._end(number + 1) - self._end(number), u, i) for number, u, i in parts
        ]

    def _positions_of(self, steps: range, orders: dict[int, Tensor]) -> tuple[Tensor, list[int]]:
        """Which positives of training this process has in the steps, one after the other, and how many in each."""
        starts, lengths = self._pieces(steps)
        pieces = [torch.zeros(0, dtype=torch.int64, device=self.device)]
        for step, shard in np.argwhere(lengths).tolist():
            start = int(starts[step, shard])
            piece = orders[shard][start : start + int(lengths[step, shard])]
            pieces.append(piece + int(self._bounds[shard]))
        return torch.cat(pieces), lengths.sum(axis=1).tolist()

    def _pieces(self, steps: range) -> tuple[np.ndarray, np.ndarray]:
        """[n, S] int64 each: where in a shard's order this process's part of each of n steps begins, and how long it is."""
        ends = np.array([self._end(step) for step in range(steps.start, steps.stop + 1)], dtype=np.int64)
        # Of any number of positives, each shard has given its share, rounded so that the shares add up.
        given = ends[:, None] * self._bounds // self.positives
        taken, places = (
            np.diff(given[:-1], axis=1),
            np.diff(given, axis=0),
        )  # [n, S + 1]: where shards begin in a step
        low, high = (places[:, -1:] * rank // self._size for rank in (self._rank, self._rank + 1))
        begin = np.maximum(places[:, :-1], low)
        lengths = np.maximum(np.minimum(places[:, 1:], high) - begin, 0)
        return taken + begin - places[:, :-1], lengths

    def _end(self, step: int) -> int:
        """Positives before `step`, over all processes: steps of equal size, to one group, so no small one is left over."""
        return self.positives * step // self.steps

    def _read(self, positions_B: Tensor) -> tuple[Tensor, Tensor]:
        """Users and items [B] of these positives."""
        places = positions_B.cpu().numpy()
        users, items = (torch.from_numpy(array[places]) for array in (self._users, self._items))
        return users.long().to(self.device), items.long().to(self.device)


def _shard_bounds(positives: int, batch_size: int) -> np.ndarray:
    """[S + 1] int64: so few shards that each gives something to every step, whatever the number of processes."""
    shards = max(1, min(batch_size // _GROUPS_A_SHARD, positives // _GROUPS_A_SHARD, _MOST_SHARDS))
    return np.array([0, *(part.stop for part in spans(positives, shards))], dtype=np.int64)


def _known_of(dataset: Dataset, exclude: str, first: int, last: int) -> Csr:
    """The excluded positives of the users from `first` to `last`, counted from `first`."""
    if exclude == "known":
        return dataset.known.between(first, last + 1)
    return dataset.train.csr_between(first, last + 1)


def _refuse_users_without_negatives(dataset: Dataset, first: int, last: int) -> None:
    full = np.flatnonzero(dataset.known.between(first, last + 1).counts >= len(dataset.items))
    if len(full):
        user = dataset.users.ids_of(full[:1] + first)[0]
        raise DataError(
            f"{len(full)} users have used every item (the first is {user!r}), so no negative exists for them: "
            "remove them, or prepare again with more items."
        )
