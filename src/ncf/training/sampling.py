"""An epoch's groups: positives in a new order, each with K negatives drawn afresh and verified.

In: training positives, and for every user the positives that no negative may be: those of training, or all that are
known (train, validation and test). Out: blocks of groups, users [B] and items [B, 1 + K] with the positive in column 0.
What a block holds follows from (seed, epoch, block) alone, so a resumed run draws what the killed one would have.

The decision worth knowing: sparing the held-out positives tells the model something about them, which flatters what is
measured afterwards (docs/protocol.md has the figures); so measured runs exclude the positives of training only.

Legend: N draws, U users, I items, B groups, K negatives of a positive.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ncf.data import Dataset
from ncf.errors import DataError
from ncf.runtime import Workers, generator, seed_of
from ncf.training.membership import KnownPositives

_DRAWS_A_BLOCK = 2**20
_ROUNDS = 60


class NegativeSampler:
    """Draws items, uniformly or in proportion to (1 + popularity)^exponent, and redraws what is known."""

    def __init__(
        self, known: KnownPositives, popularity: Tensor | None = None, exponent: float = 0.0
    ) -> None:
        self._known = known
        self._cumulative: Tensor | None = None
        if popularity is not None and exponent:
            weights = (1.0 + popularity.double()).pow(exponent)
            self._cumulative = (weights.cumsum(0) / weights.sum()).contiguous()

    def draw(self, users_N: Tensor, random: torch.Generator) -> Tensor:
        """[N] int64: one verified negative for each user, independent of each other."""
        items_N = self._propose(len(users_N), random)
        pending = self._known.contains(users_N, items_N).nonzero().squeeze(1)
        for _ in range(_ROUNDS):
            if not len(pending):
                return items_N
            proposal = self._propose(len(pending), random)
            items_N[pending] = proposal
            pending = pending[self._known.contains(users_N[pending], proposal)]
        for place in pending.tolist():
            free = self._known.negatives_of(int(users_N[place]))
            pick = torch.randint(len(free), (1,), generator=random, device=random.device)
            items_N[place] = free[int(pick)]
        return items_N

    def _propose(self, count: int, random: torch.Generator) -> Tensor:
        device = random.device
        if self._cumulative is None:
            return torch.randint(self._known.items, (count,), generator=random, device=device)
        points = torch.rand(count, dtype=torch.float64, generator=random, device=device)
        return torch.searchsorted(self._cumulative, points).clamp_(max=self._known.items - 1)


@dataclass(frozen=True)
class Block:
    """Consecutive steps of an epoch: `users` [B] and `items` [B, 1 + K], cut into steps by `batch_size`."""

    first_step: int
    users: Tensor
    items: Tensor

    def steps(self, batch_size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(step, users, items); the last one of an epoch may be smaller, and none is dropped."""
        for number, start in enumerate(range(0, len(self.users), batch_size)):
            part = slice(start, start + batch_size)
            yield self.first_step + number, self.users[part], self.items[part]


class GroupSampler:
    """All of an epoch, block by block; only a few blocks exist at a time."""

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
    ) -> None:
        _refuse_users_without_negatives(dataset)
        excluded = dataset.known if exclude == "known" else dataset.seen_in_training
        self.device = torch.device(device)
        self._users, self._items = dataset.train.user_rows, dataset.train.item_rows
        self._sampler = NegativeSampler(
            KnownPositives(excluded, len(dataset.items), device),
            torch.from_numpy(np.array(dataset.popularity)).to(device),
            exponent,
        )
        self.batch_size, self.negatives, self.seed = batch_size, negatives, seed
        self.steps = -(-len(self._users) // batch_size)
        self._steps_a_block = max(1, _DRAWS_A_BLOCK // (batch_size * negatives))

    def epoch(self, epoch: int, workers: Workers, first_step: int = 0) -> Iterator[Block]:
        """The blocks of `epoch` from the one that holds `first_step` on; `workers.threads` are drawn at once."""
        order = self._order(epoch)
        blocks = list(range(first_step // self._steps_a_block, -(-self.steps // self._steps_a_block)))
        for start in range(0, len(blocks), workers.threads):
            batch = blocks[start : start + workers.threads]
            yield from workers.map(lambda block: self._block(epoch, block, order), batch)

    def _order(self, epoch: int) -> np.ndarray:
        random = np.random.default_rng(seed_of(self.seed, "order", epoch))
        order = np.arange(len(self._users), dtype=np.int32)
        random.shuffle(order)
        return order

    def _block(self, epoch: int, block: int, order: np.ndarray) -> Block:
        size = self._steps_a_block * self.batch_size
        positions = order[block * size : (block + 1) * size]
        users_B = torch.from_numpy(self._users[positions]).long().to(self.device)
        random = generator(self.seed, "negatives", epoch, block, device=self.device)
        repeated_N = users_B.repeat_interleave(self.negatives)
        negatives_BK = self._sampler.draw(repeated_N, random).view(len(users_B), self.negatives)
        positives_B1 = torch.from_numpy(self._items[positions]).long().to(self.device)[:, None]
        return Block(block * self._steps_a_block, users_B, torch.cat([positives_B1, negatives_BK], dim=1))


def _refuse_users_without_negatives(dataset: Dataset) -> None:
    full = np.flatnonzero(dataset.known.counts >= len(dataset.items))
    if len(full):
        user = dataset.users.ids_of(full[:1])[0]
        raise DataError(
            f"{len(full)} users have used every item (the first is {user!r}), so no negative exists for them: "
            "remove them, or prepare again with more items."
        )
