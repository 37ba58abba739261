"""An epoch of a model of sequences: windows of users' items in a new order, and the negatives of each step.

In: the users' sequences. Out: steps of windows, each cut so that every item but a user's first is predicted
once an epoch. Windows of about equal length share a step, so that little is computed for nothing. What a step
holds follows from (seed, epoch, step), so a resumed run and each of several processes draw what one would.

The decision worth knowing: all positions of a step share its negatives, drawn uniformly without repetition.
Hundreds of them then cost one product, where negatives of each position's own would cost a look-up each
(sampled softmax with shared negatives; Jean et al., ACL'15).

Legend: B windows of this process in a step, L items of the longest and one more, K negatives.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ncf.data import Dataset
from ncf.errors import ConfigError, DataError
from ncf.models.sequences import Places, Sequences
from ncf.runtime import Workers, seed_of
from ncf.training.sampling import Step


@dataclass(frozen=True)
class SequenceStep(Step):
    """This process's windows: `users` [B], and `items` [B, L] whose end is filled up by I.

    `groups` are the positions of all processes, `negatives` [K] ascending, `weights` [B, L] float32 if any.
    """

    negatives: Tensor
    weights: Tensor | None

    @property
    def candidates(self) -> int:
        return 1 + len(self.negatives)


class SequenceSampler:
    """Draws the steps of an epoch, or process `rank`'s part of them."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        sequences: Sequences,
        length: int,
        batch_size: int,
        negatives: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        size: int = 1,
        exponent: float = 0.0,
        exclude: str = "training",  # noqa: ARG002 - what samplers are given
    ) -> None:
        """`length` is the number of items that predict the next, `batch_size` about that of a step's
        positions. `exclude` does not matter: no item but the next is known to be the next.

        Raises `ConfigError` for an `exponent`, as shared negatives are drawn uniformly, and `DataError` where
        no user has two interactions.
        """
        if exponent:
            raise ConfigError(
                "A model of sequences draws its negatives uniformly: set train.sampler = 'uniform'."
            )
        self.device, self.seed = torch.device(device), seed
        self.full_users = 0  # negatives are shared, so no user is without one
        self._sequences, self._rank, self._size = sequences, rank, size
        self._items = len(dataset.items)
        self._negatives = min(negatives, self._items)
        self._owners, self._firsts, self._stops = _windows(sequences.offsets, length)
        self._lengths = self._stops - self._firsts - 1
        self.positives = int(self._lengths.sum())
        if not self.positives:
            raise DataError(
                "No user has two interactions, so nothing follows anything: choose a model.kind that does "
                "not read sequences."
            )
        # Of equal shares that are no smaller than the longest window, in each a window begins.
        self.steps = max(1, self.positives // max(batch_size, int(self._lengths.max())))

    def epoch(self, epoch: int, _: Workers, first_step: int = 0) -> Iterator[SequenceStep]:
        """The steps of `epoch` from `first_step` on."""
        random = np.random.default_rng(seed_of(self.seed, "order", epoch))
        lengths = self._lengths
        # Nearly sorted by length: windows whose lengths differ by less than half may change places.
        order = np.argsort(np.log2(lengths) + random.random(len(lengths)), kind="stable")
        before = np.cumsum(lengths[order]) - lengths[order]
        cuts = np.searchsorted(before * self.steps, np.arange(self.steps + 1) * self.positives)
        shuffled = random.permutation(self.steps)
        for number in range(first_step, self.steps):
            part = shuffled[number]
            yield self._step(epoch, number, order[cuts[part] : cuts[part + 1]])

    def _step(self, epoch: int, number: int, windows: Places) -> SequenceStep:
        groups = int(self._lengths[windows].sum())
        own_B = windows[self._rank :: self._size]
        places_BL = self._sequences.windows(self._firsts[own_B], self._stops[own_B])
        weights, sequence_weights = None, self._sequences.weights
        if sequence_weights is not None:
            weights = torch.from_numpy(np.where(places_BL >= 0, sequence_weights[places_BL], 0))
        return SequenceStep(
            epoch,
            number,
            groups,
            torch.from_numpy(self._owners[own_B]).to(self.device),
            self._sequences.items_at(places_BL, self._items).to(self.device),
            self._drawn(epoch, number).to(self.device),
            None if weights is None else weights.to(self.device),
        )

    def _drawn(self, epoch: int, number: int) -> Tensor:
        """[K] of the items, none twice."""
        random = np.random.default_rng(seed_of(self.seed, "negatives", epoch, number))
        return torch.from_numpy(np.sort(random.choice(self._items, self._negatives, replace=False)))


def _windows(offsets: Places, length: int) -> tuple[Places, Places, Places]:
    """Users of windows, and their bounds: from the latest item back, `length` + 1 items each.

    A window begins with the item that the one before it ends with, so each item but the first has its turn.
    """
    counts = np.diff(offsets)
    pieces = np.maximum(-(-(counts - 1) // length), 0)
    owners = np.repeat(np.arange(len(counts)), pieces)
    back = np.arange(len(owners)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    stops = offsets[1:][owners] - back * length
    return owners, np.maximum(offsets[:-1][owners], stops - length - 1), stops
