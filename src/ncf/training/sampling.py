"""An epoch's groups: positives in a new order, each with K negatives drawn afresh and verified.

In: training positives, and for every user the positives that no negative may be: those of training, or all
that are known (train, validation and test). Out: the steps of an epoch: users [B] and items [B, 1 + K] with
the positive in column 0. What a step holds follows from (seed, epoch, position) alone. So a resumed run draws
what the killed one would have drawn, and each of several processes draws only its own part of one process's
steps.

Two decisions worth knowing. The positives, sorted by user, are cut into `shards`, and every step takes its
share of each. So a process meets the same few shards all the time, and reads and remembers only their
interactions and users. And never drawing held-out positives would tell the model something about them, which
flatters the measurements (docs/protocol.md has the figures). So measured runs exclude only the positives of
training.

With weights, an epoch has as many groups as there are positives, and draws each positive in proportion to its
weight. So every loss is the weighted one, and no loss has to know. The groups are places on a line on which
each positive has a stretch as long as its weight: a place follows from its position and one fraction, and
positives stay in the order of their users.

Legend: N draws, U users, I items, B groups of this process in a step, K negatives of a positive, S shards, n
steps drawn together.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ncf.data import Csr, Dataset
from ncf.data.interactions import Int32
from ncf.errors import DataError
from ncf.runtime import Workers, seed_of, spans
from ncf.training import counter_rng
from ncf.training.known_positives import KnownPositives

Floats = npt.NDArray[np.float32]

_DRAWS_A_BLOCK = 2**20
_DRAWS_AT_ONCE = {"cpu": 2**16, "cuda": 2**24}
ROUNDS = 60
COUNTERS_A_DRAW = 64
_GROUPS_A_SHARD = 256
_MOST_SHARDS = 64


def draw_weights(popularity: Tensor, exponent: float) -> Tensor:
    """[I] float64: the weights (1 + popularity)^exponent that items are drawn in proportion to."""
    return (1.0 + popularity.double()).pow(exponent)


class NegativeSampler:
    """Draws items, uniformly or in proportion to `draw_weights`, and redraws those that are known.

    `popularity` [I] and a positive `exponent` give the weights; without them items are drawn uniformly.
    """

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
        """[N] int64: a verified negative for each user; equal (user, counter, seed) always get the same item.

        `users_N` are rows of the known positives, and `counters_N` number the draws, both int64.
        """
        at_once = _DRAWS_AT_ONCE.get(users_N.device.type, 2**20)
        parts = zip(torch.split(users_N, at_once), torch.split(counters_N, at_once), strict=True)
        return torch.cat([self._draw(users, counters, seed) for users, counters in parts])

    def _draw(self, users_N: Tensor, counters_N: Tensor, seed: int) -> Tensor:
        # Each draw owns COUNTERS_A_DRAW counters: its ROUNDS proposals, and one for `_choose`.
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
        """Draw from the list of a user's negatives, for the few who only ever drew known items."""
        for index in pending.tolist():
            negatives = self._known.negatives_of(int(users_N[index]))
            last = counters_N[index].view(1) + ROUNDS
            items_N[index] = negatives[int(counter_rng.below(seed, last, len(negatives)))]

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
    def candidates(self) -> int:
        """C = 1 + K."""
        return self.items.shape[1]

    @property
    def counts(self) -> bool:
        """False where this process has no group, since there are more processes than groups."""
        return len(self.users) > 0

    def filled(self) -> tuple[Tensor, Tensor]:
        """Users and items; without a group, one that does not count, so that shapes are as elsewhere."""
        if self.counts:
            return self.users, self.items
        return self.users.new_zeros(1), self.items.new_zeros(1, self.items.shape[1])


class GroupSampler:
    """Draws the steps of an epoch, or process `rank`'s part of them; only a few steps exist at a time.

    `full_users` counts the users whose positives are left out.
    """

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
        """`batch_size` is the largest number of groups in a step, over all processes.

        `negatives` is K, `exponent` that of `draw_weights`, and `exclude` which positives no negative may be:
        "training" or "known". Steps are on `device`. Positives of users who have used every item, for whom
        no negative exists, are left out; raises `DataError` if nobody else is left.
        """
        self.device = torch.device(device)
        self.batch_size, self.negatives, self.seed = batch_size, negatives, seed
        self._rank, self._size = rank, size
        self._users, self._items, weights, self.full_users = _with_negatives(dataset)
        self.positives = len(self._users)
        self._ends = None if weights is None else _ends(weights).to(self.device)
        self.steps = -(-self.positives // batch_size)
        self._bounds = _shard_bounds(self.positives, batch_size)
        first, last = self._own_users()
        self._first_user = first
        own = _known_of(dataset, exclude, first, last)
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
        """By shard that this process may meet, the order of its positives in this epoch."""
        lengths = np.diff(self._bounds)

        def order(shard: int) -> Tensor:
            return counter_rng.order(
                seed_of(self.seed, "order", epoch, shard), int(lengths[shard]), self.device
            )

        own = self._own_shards()
        return dict(zip(own, workers.map(order, list(own)), strict=True))

    def _own_shards(self) -> range:
        shards = len(self._bounds) - 1
        # Shares are rounded, so a group or two may lie in a neighbouring shard: one more on each side.
        return range(
            max(0, shards * self._rank // self._size - 1),
            min(shards, -(-shards * (self._rank + 1) // self._size) + 1),
        )

    def _own_users(self) -> tuple[int, int]:
        """First and last user of those shards; (0, -1) where there is no positive."""
        first, end = self._own_positives()
        return (int(self._users[first]), int(self._users[end - 1])) if end > first else (0, -1)

    def _own_positives(self) -> tuple[int, int]:
        """Bounds of the positives that those shards' groups can have."""
        own = self._own_shards()
        first, end = int(self._bounds[own.start]), int(self._bounds[own.stop])
        if self._ends is None or end <= first:
            return first, end
        places = torch.tensor([first, end], dtype=torch.float64, device=self.device)
        low, high = torch.searchsorted(self._ends, places, right=True).tolist()
        return low, min(high + 1, self.positives)

    def _drawn(self, positions_B: Tensor, epoch: int) -> Tensor:
        """[B]: the positives of the groups at `positions_B`, which are the same without weights."""
        if self._ends is None:
            return positions_B
        fractions_B = counter_rng.fractions(seed_of(self.seed, "weights", epoch), positions_B)
        places_B = positions_B.double() + fractions_B
        return torch.searchsorted(self._ends, places_B, right=True).clamp_(max=self.positives - 1)

    def _block(self, epoch: int, first_step: int, orders: dict[int, Tensor]) -> list[Step]:
        """Consecutive steps from `first_step` on, drawn together."""
        numbers = range(first_step, min(self.steps, first_step + self._steps_a_block))
        positions_B, cut = self._positions_of(numbers, orders)
        users_B, items_B = self._read(self._drawn(positions_B, epoch))
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
        """[B] positions of this process's positives, step after step, and how many are in each step."""
        starts, lengths = self._pieces(steps)
        pieces = [torch.zeros(0, dtype=torch.int64, device=self.device)]
        for step, shard in np.argwhere(lengths).tolist():
            start = int(starts[step, shard])
            piece = orders[shard][start : start + int(lengths[step, shard])]
            pieces.append(piece + int(self._bounds[shard]))
        return torch.cat(pieces), lengths.sum(axis=1).tolist()

    def _pieces(self, steps: range) -> tuple[np.ndarray, np.ndarray]:
        """[n, S] int64 twice: where this process's part of a step begins in a shard's order; its length."""
        ends = np.array([self._end(step) for step in range(steps.start, steps.stop + 1)], dtype=np.int64)
        # given[t, s]: how many positives the shards before s have given to the steps before t. It is a
        # rounded share, but its differences telescope: along s to whole steps, along t to whole shards. So
        # every positive is given exactly once, though no number needs the steps before it.
        given = ends[:, None] * self._bounds // self.positives
        taken = np.diff(given[:-1], axis=1)  # [n, S]: what each shard gave before each step
        starts = np.diff(given, axis=0)  # [n, S + 1]: where each shard's groups begin in a step, and its end
        # This process has the groups from low to high of each step: of a shard, what lies between these.
        low, high = (starts[:, -1:] * rank // self._size for rank in (self._rank, self._rank + 1))
        begin = np.maximum(starts[:, :-1], low)
        lengths = np.maximum(np.minimum(starts[:, 1:], high) - begin, 0)
        return taken + begin - starts[:, :-1], lengths

    def _end(self, step: int) -> int:
        """Positives before `step`, over all processes. Sizes of steps differ by one group at most."""
        return self.positives * step // self.steps

    def _read(self, positions_B: Tensor) -> tuple[Tensor, Tensor]:
        """Users and items [B] of these positives."""
        positions = positions_B.cpu().numpy()
        users, items = (torch.from_numpy(array[positions]) for array in (self._users, self._items))
        return users.long().to(self.device), items.long().to(self.device)


def _shard_bounds(positives: int, batch_size: int) -> np.ndarray:
    """[S + 1] int64: bounds of the shards, so few that each gives something to every step.

    They do not depend on the number of processes, nor does what is drawn.
    """
    shards = max(1, min(batch_size // _GROUPS_A_SHARD, positives // _GROUPS_A_SHARD, _MOST_SHARDS))
    return np.array([0, *(part.stop for part in spans(positives, shards))], dtype=np.int64)


def _known_of(dataset: Dataset, exclude: str, first: int, last: int) -> Csr:
    """The excluded positives of the users from row `first` to `last`; row 0 of the answer is `first`."""
    if exclude == "known":
        return dataset.known.between(first, last + 1)
    return dataset.train.csr_between(first, last + 1)


def _ends(weights: Floats) -> Tensor:
    """[N] float64: where the stretch of each positive ends, on a line that is N long."""
    ends = np.cumsum(weights, dtype=np.float64)
    if not len(ends) or not ends[-1] > 0:
        raise DataError(
            "All weights are 0, so there is nothing to learn: prepare the data with other --weight."
        )
    return torch.from_numpy(ends * (len(ends) / ends[-1]))


def _with_negatives(dataset: Dataset) -> tuple[Int32, Int32, Floats | None, int]:
    """Users, items and weights of the positives whose users have a negative, and how many users have none."""
    users, items, weights = dataset.train.user_rows, dataset.train.item_rows, dataset.train.weights
    full = dataset.known.counts >= len(dataset.items)
    if not bool(full.any()):
        return users, items, weights, 0
    kept = ~full[users]
    if not bool(kept.any()):
        raise DataError(
            "Every user has used every item, so no negative exists: prepare the data again with more items."
        )
    weights = None if weights is None else weights[kept]
    return users[kept], items[kept], weights, int(full.sum())
