"""The truncated singular value decomposition of logits that are never held as one matrix.

In: the logits of every pair, by blocks of users or as a product of two tables. Out: tables whose product is
near them. It is a randomised subspace iteration (Halko et al., SIAM Review '11): a guess of the right
singular vectors, one or two passes that sharpen it, and a last pass. The decision worth knowing: sums over
users are added in a fixed number of parts, and signs follow a rule. So the tables are the same for any
number of threads.

Legend: U users, I items, B users of a block, D table width, K columns of all projections.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ncf.runtime import Workers, spans

OVERSAMPLE = 10
_KEPT_PAIRS = 2**27
"""A matrix of logits up to this size (512 MB) is computed once, a larger one in each pass."""
_BLOCK_PAIRS = 2**21
_GROUPS = 8
"""Sums over all users are added in this many parts, so that they do not depend on the number of threads."""
Progress = Callable[[int, int], None]


def _are_kept(users: int, items: int) -> bool:
    return users * items <= _KEPT_PAIRS


def power_passes(users: int, items: int) -> int:
    """Passes before the last: two where the logits are kept, since the second then costs little."""
    return 1 + _are_kept(users, items)


@dataclass(frozen=True)
class Logits:
    """Logits of every pair, by blocks of users."""

    users: int
    items: int
    rows: Callable[[slice], Tensor]
    """[B, I] float32 of a slice of the users; the caller may overwrite them."""
    guess: Callable[[int, torch.Generator], Tensor]
    """[I, K]: something near the first K right singular vectors."""

    def decompose(
        self, widths: Sequence[tuple[int, bool]], random: torch.Generator, workers: Workers, done: Progress
    ) -> tuple[list[tuple[Tensor, Tensor]], float]:
        """The best tables [U, D] and [I, D] of each of the `widths` D, and the mean of the logits.

        Their product approximates the logits less that mean, or less the mean of each item where a width
        comes with True. `done` is told the passes, `random` draws the first guess.
        """
        sizes = [min(width + OVERSAMPLE, self.users, self.items) for width, _ in widths]
        start = self.guess(max(sizes), random)
        kept: dict[int, Tensor] | None = {} if _are_kept(self.users, self.items) else None
        bases = [start[:, :size] for size in sizes]
        passes = power_passes(self.users, self.items)
        means_I = torch.zeros(self.items)
        for step in range(passes):
            squares_IK, sums_I, image_K = self._power(torch.cat(bases, 1), kept, workers)
            means_I = (sums_I / self.users).float()
            centres = self._centres(widths, means_I)
            split = torch.split(squares_IK, sizes, 1), torch.split(image_K, sizes)
            bases = [
                torch.linalg.qr(_centred(squares, sums_I, image, basis, centre, self.users)).Q
                for squares, image, basis, centre in zip(*split, bases, centres, strict=True)
            ]
            done(step + 1, passes + 1)
        centres = self._centres(widths, means_I)
        images = torch.split(self._images(torch.cat(bases, 1), kept, workers), sizes, 1)
        tables = [
            _tables(image - (centre @ basis), basis, width)
            for image, basis, centre, (width, _) in zip(images, bases, centres, widths, strict=True)
        ]
        done(passes + 1, passes + 1)
        return tables, float(means_I.mean())

    def _centres(self, widths: Sequence[tuple[int, bool]], means_I: Tensor) -> list[Tensor]:
        return [means_I if by_item else means_I.mean().expand(self.items) for _, by_item in widths]

    def _blocks(self, part: slice) -> list[slice]:
        rows = max(1, _BLOCK_PAIRS // self.items)
        parts = spans(part.stop - part.start, -(-(part.stop - part.start) // rows))
        return [slice(part.start + inner.start, part.start + inner.stop) for inner in parts]

    def _block(self, part: slice, kept: dict[int, Tensor] | None) -> Tensor:
        if kept is None:
            return self.rows(part)
        if part.start not in kept:
            kept[part.start] = self.rows(part)
        return kept[part.start]

    def _power(
        self, basis_IK: Tensor, kept: dict[int, Tensor] | None, workers: Workers
    ) -> tuple[Tensor, Tensor, Tensor]:
        """L'L Q [I, K], L'1 [I] and 1'L Q [K], of the logits L and the basis Q."""

        def add(part: slice) -> tuple[Tensor, Tensor, Tensor]:
            squares, sums = torch.zeros_like(basis_IK), torch.zeros(self.items, dtype=torch.float64)
            image_K = torch.zeros(basis_IK.shape[1], dtype=torch.float64)
            for block in self._blocks(part):
                rows = self._block(block, kept)
                image = rows @ basis_IK
                squares.addmm_(rows.T, image)
                sums += rows.sum(0)
                image_K += image.sum(0)
            return squares, sums, image_K

        sums = workers.map(add, spans(self.users, _GROUPS))
        squares, rows, images = (torch.stack(parts).sum(0) for parts in zip(*sums, strict=True))
        return squares, rows, images

    def _images(self, basis_IK: Tensor, kept: dict[int, Tensor] | None, workers: Workers) -> Tensor:
        """L Q: [U, K]."""
        images = torch.empty(self.users, basis_IK.shape[1])

        def fill(part: slice) -> None:
            torch.mm(self._block(part, kept), basis_IK, out=images[part])

        workers.map(fill, [block for part in spans(self.users, _GROUPS) for block in self._blocks(part)])
        return images


@dataclass(frozen=True)
class LowRankLogits(Logits):
    """Logits that are a product of two tables, `left_UK` and `right_IK`; the decomposition is exact."""

    left_UK: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    right_IK: Tensor = field(default_factory=lambda: torch.zeros(0, 0))

    @classmethod
    def of(cls, left_UK: Tensor, right_IK: Tensor) -> "LowRankLogits":
        """Of the two tables."""

        def guess(size: int, random: torch.Generator) -> Tensor:
            sketch = right_IK @ torch.randn(right_IK.shape[1], size, generator=random)
            basis: Tensor = torch.linalg.qr(sketch).Q
            return basis

        rows = len(left_UK), len(right_IK), lambda part: left_UK[part] @ right_IK.T
        return cls(*rows, guess, left_UK, right_IK)

    def decompose(
        self, widths: Sequence[tuple[int, bool]], _random: torch.Generator, _workers: Workers, done: Progress
    ) -> tuple[list[tuple[Tensor, Tensor]], float]:
        """See `Logits.decompose`."""
        means_K, tables = self.left_UK.mean(0), []
        mean = float((means_K @ self.right_IK.T).mean())
        for width, by_item in widths:
            if by_item:
                left, right = self.left_UK - means_K, self.right_IK
            else:
                ones = torch.ones(self.users, 1)
                left = torch.cat([self.left_UK, ones], 1)
                right = torch.cat([self.right_IK, torch.full((self.items, 1), -mean)], 1)
            right_basis, triangle = torch.linalg.qr(right)
            tables.append(_tables(left @ triangle.T, right_basis, width))
        done(1, 1)
        return tables, mean


def _centred(
    squares_IK: Tensor, sums_I: Tensor, image_K: Tensor, basis_IK: Tensor, centre_I: Tensor, users: int
) -> Tensor:
    """(L - 1c')'(L - 1c') Q from L'L Q, L'1, 1'L Q, the basis Q and the centre c."""
    basis, centre = basis_IK.double(), centre_I.double()
    shift_K = centre @ basis
    squares = squares_IK.double() - torch.outer(sums_I, shift_K)
    squares += torch.outer(centre, users * shift_K - image_K)
    return squares.float()


def _tables(image_UK: Tensor, basis_IK: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """[U, D] and [I, D]: the largest singular triples of the image times the basis', roots on both sides.

    Where there are fewer than D singular values, the other columns are zero.
    """
    orthogonal, triangle = torch.linalg.qr(image_UK)
    left, values, right = torch.linalg.svd(triangle, full_matrices=False)
    # A decomposition leaves the signs open: without a rule, rounding would decide them.
    signs = torch.sign(right.gather(1, right.abs().argmax(1, keepdim=True)))
    left, right = left * signs.T, right * signs
    rank = min(width, len(values))
    root = values[:rank].sqrt()
    users, items = torch.zeros(len(image_UK), width), torch.zeros(len(basis_IK), width)
    users[:, :rank] = (orthogonal @ left[:, :rank]) * root
    items[:, :rank] = (basis_IK @ right[:rank].T) * root
    return users, items
