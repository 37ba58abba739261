"""An epoch's groups: positives in a new order, each with K negatives drawn afresh and verified.

In: training positives, and for every user the positives that no negative may be: those of training, or all that are
known (train, validation and test). Out: blocks of groups, users [B] and items [B, 1 + K] with the positive in column 0.
What a block holds follows from (seed, epoch, block) alone, so a resumed run draws what the killed one would have.

The decision worth knowing: sparing the held-out positives tells the model something about them, which flatters what is
measured afterwards (docs/protocol.md has the figures); so measured runs exclude the positives of training only.

Small vocabularies are verified in a bitmap of users x items (one bit a pair), large ones by bisection in the sorted
items of each user.

Legend: N draws, U users, I items, B groups, K negatives of a positive.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ncf.data import Csr, Dataset
from ncf.errors import DataError
from ncf.runtime import Workers, generator, seed_of

_BITMAP_LIMIT_BYTES = 256 * 2**20
_DRAWS_A_BLOCK = 2**20
_ROUNDS = 60


class KnownPositives:
    """Answers, for many pairs at once, whether a user is known to have used an item."""

    def __init__(
        self,
        known: Csr,
        items: int,
        device: torch.device | str = "cpu",
        bitmap_limit: int = _BITMAP_LIMIT_BYTES,
    ) -> None:
        self.items = items
        self._known = known
        self._stride = -(-items // 8)
        self._bitmap: Tensor | None = None
        if known.users * self._stride <= bitmap_limit:
            self._bitmap = _bitmap(known, items).to(device)
            return
        self._offsets = torch.from_numpy(np.array(known.offsets)).to(device)
        self._columns = torch.from_numpy(np.append(known.columns, np.int32(-1))).to(device)  # never empty
        self._longest = int(known.counts.max(initial=0))

    def contains(self, users_N: Tensor, items_N: Tensor) -> Tensor:
        """[N] bool."""
        if self._bitmap is None:
            return self._bisect(users_N, items_N)
        bytes_N = self._bitmap[users_N * self._stride + (items_N >> 3)]
        return (bytes_N >> (items_N & 7).to(torch.uint8)) & 1 != 0

    def negatives_of(self, user: int) -> Tensor:
        """Every item the user is not known to have used, ascending."""
        return torch.from_numpy(np.setdiff1d(np.arange(self.items), self._known.row(user)))

    def _bisect(self, users_N: Tensor, items_N: Tensor) -> Tensor:
        """The lower bound of each item among its user's sorted items, all searches in step."""
        low, high = self._offsets[users_N], self._offsets[users_N + 1]
        end = high
        last = len(self._columns) - 1
        for _ in range(max(1, self._longest).bit_length()):
            middle = (low + high) >> 1
            smaller = (self._columns[middle.clamp(max=last)] < items_N) & (low < high)
            low = torch.where(smaller, middle + 1, low)
            high = torch.where(smaller, high, middle)
        return (low < end) & (self._columns[low.clamp(max=last)] == items_N)


def _bitmap(known: Csr, items: int) -> Tensor:
    """[U * ceil(I / 8)] uint8, bit i & 7 of byte i >> 3 for item i; built a slice of users at a time."""
    users = known.users
    step = max(1, _BITMAP_LIMIT_BYTES // (8 * items))
    parts = []
    for start in range(0, users, step):
        stop = min(users, start + step)
        counts = np.diff(known.offsets[start : stop + 1])
        used = np.zeros((stop - start, items), dtype=np.bool_)
        columns = known.columns[known.offsets[start] : known.offsets[stop]]
        used[np.repeat(np.arange(stop - start), counts), columns] = True
        parts.append(np.packbits(used, axis=1, bitorder="little").ravel())
    return torch.from_numpy(np.concatenate(parts) if parts else np.zeros(0, np.uint8))


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
