"""Spectral initialization: tables that start at what a closed-form model already knows.

In: the training interactions. Out: first values of the tables. Three steps, each of seconds on ML-1M:

1. EASE between items and between users (`baselines/ease.py`), in its denoising form. A user weighs n_u^-1/2,
   as an item in a short history says more; an item likewise.
2. Calibration of each: a logistic regression turns scores into the logits of the probabilities that training
   with cross-entropy looks for. The mean of the two is used.
3. Truncated singular value decomposition (Halko et al., SIAM Review '11) of these logits, centred, and
   rotated at random so that no column of a table is more important than another.

Gradient descent then starts near the best low-rank model instead of at noise. The decision worth knowing: the
logits are computed in blocks of users whenever they are needed, and only a small matrix of them is kept.
Where both sides are large, or there are more than 2^31 pairs, they are a product of two tables from the
start: the item side at low rank, with a linear calibration. Only the first values of a model change, and only
training interactions are read. docs/accuracy.md has what it brings.

Legend: U users, I items, B users of a block, N sampled pairs, D table width, K columns of all projections.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ncf.baselines.base import sparse_rows
from ncf.baselines.ease import Side, ease_factors, ease_scores, is_exact
from ncf.baselines.products import Factors, KernelScores
from ncf.data import Csr
from ncf.models import GMF, Model, NeuMF, branches
from ncf.runtime import Workers, generator, seed_of, spans
from ncf.training.sampling import draw_weights

_DROPOUT, _WEIGHT_EXPONENT = 0.33, 0.5
_ITEM_L2, _USER_L2 = 200.0, 300.0
"""Ridge penalties. On six tables, of 2 to 270 interactions an item, the best were between 100 and 1,000."""
_LOW_RANK_L2 = 100.0
"""That of the item side at low rank: on Amazon Games and Gowalla 100 was better than 200 and 30."""
_PAIRS_LIMIT = 2**31
_KEPT_PAIRS = 2**26
"""A matrix of logits up to this size (256 MB) is computed once, a larger one in each pass."""
_BLOCK_PAIRS = 2**21
_GROUPS = 8
"""Sums over all users are added in this many parts, so that they do not depend on the number of threads."""
_FIT_POSITIVES = 200_000
_NEWTON_STEPS = 12
_OVERSAMPLE, _GUESS_ITERATIONS = 10, 2
_MLP_STD = 0.3
_STEPS_BEFORE = 2
"""Steps of the progress before the passes: the two sides."""
_LOGIT_LIMIT = 9.2
Progress = Callable[[int, int], None]


def ignore(_step: int, _steps: int) -> None:
    """No progress is wanted."""


def _are_kept(users: int, items: int) -> bool:
    return users * items <= _KEPT_PAIRS


def _power_passes(users: int, items: int) -> int:
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
        sizes = [min(width + _OVERSAMPLE, self.users, self.items) for width, _ in widths]
        start = self.guess(max(sizes), random)
        kept: dict[int, Tensor] | None = {} if _are_kept(self.users, self.items) else None
        bases = [start[:, :size] for size in sizes]
        passes = _power_passes(self.users, self.items)
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


def init_spectral(
    model: Model,
    train: Csr,
    items: int,
    negatives: int,
    seed: int,
    workers: Workers,
    exponent: float = 0.0,
    progress: Progress = ignore,
) -> None:
    """Overwrite the tables of `model` from the `items` of the users in `train`.

    `negatives` and `exponent` are those of training: negatives a positive, drawn by (1 +
    popularity)^exponent. `progress` is told how many of how many steps are done.
    """
    width = max(branch.user_table.shape[1] for branch in branches(model))
    logits = closed_form_logits(train, items, negatives, seed, exponent, width, progress)
    init_tables(model, logits, seed, workers, progress)


def init_tables(
    model: Model,
    logits: Logits,
    seed: int,
    workers: Workers,
    progress: Progress = ignore,
) -> None:
    """Overwrite the tables of `model`, its GMF's output layer as well, from the decomposed `logits`."""
    wanted = [(branch, isinstance(branch, GMF)) for branch in branches(model)]
    # The MLP's tables do without the items' means, or the first direction of both would be popularity.
    widths = [(branch.user_table.shape[1], not is_gmf) for branch, is_gmf in wanted]
    random = generator(seed, "spectral", 0)
    tables, mean = logits.decompose(
        widths, random, workers, lambda step, steps: progress(_STEPS_BEFORE + step, _STEPS_BEFORE + steps)
    )
    with torch.no_grad():
        if isinstance(model, NeuMF):
            # The sum starts as the GMF, and the tower learns what is left. At random it would be noise.
            model.mlp.output.zero_()
            model.mlp.bias.zero_()
        for (branch, is_gmf), (users, items) in zip(wanted, tables, strict=True):
            width = users.shape[1]
            rotation = torch.linalg.qr(torch.randn(width, width, generator=random)).Q
            if is_gmf:
                # Factors have the same product at any balance; equal spreads suit one learning rate for both.
                balance = (users.std() / items.std()).sqrt()
                branch.user_table.copy_(users @ rotation / balance)
                branch.item_table.copy_(items @ rotation * balance)
                branch.output.fill_(1.0)
                branch.bias.fill_(mean)
            else:
                branch.user_table.copy_(users @ rotation * (_MLP_STD / users.std()))
                branch.item_table.copy_(items @ rotation * (_MLP_STD / items.std()))


def closed_form_logits(
    train: Csr,
    items: int,
    negatives: int,
    seed: int,
    exponent: float = 0.0,
    width: int = 0,
    progress: Progress = ignore,
) -> Logits:
    """The mean of the logits of both sides, or those of the item side at low rank where that is too large.

    The arguments are those of `init_spectral`; `width` is that of the widest table that is wanted.
    """
    histories = sparse_rows(train, items)
    density_I = _log_density(train, items, exponent)
    if not is_exact(train.users, items) or train.users * items > _PAIRS_LIMIT:
        factors = ease_factors(
            histories,
            _LOW_RANK_L2,
            _DROPOUT,
            _WEIGHT_EXPONENT,
            seed_of(seed, "low rank"),
            width + _OVERSAMPLE,
        )
        progress(_STEPS_BEFORE, _STEPS_BEFORE + 1)
        return _low_rank_logits(factors, train, negatives, seed, density_I)
    sides = []
    penalties: dict[Side, float] = {"items": _ITEM_L2, "users": _USER_L2}
    for side, l2 in penalties.items():
        scores = ease_scores(histories, l2, _DROPOUT, _WEIGHT_EXPONENT, side)
        sides.append((scores, _calibration(scores, train, items, negatives, seed)))
        progress(len(sides), _STEPS_BEFORE + 1 + _power_passes(train.users, items))

    def rows(part: slice) -> Tensor:
        total = torch.zeros(part.stop - part.start, items)
        for scores, weights in sides:
            total.add_(_calibrated(torch.from_numpy(scores.rows(part)), weights))
        return total.mul_(1.0 / len(sides)).sub_(density_I)

    return Logits(train.users, items, rows, lambda size, random: _guess(sides[0][0], items, size, random))


def _guess(scores: KernelScores, items: int, size: int, random: torch.Generator) -> Tensor:
    """[I, K]: right singular vectors of the scores before calibration, which need products only."""
    basis = torch.randn(items, size, generator=random)
    for _ in range(_GUESS_ITERATIONS):
        basis = torch.linalg.qr(torch.from_numpy(scores.transposed_times(scores.times(basis.numpy())))).Q
    return basis


def _log_density(train: Csr, items: int, exponent: float) -> Tensor:
    """[I]: the logarithm of how much likelier than uniformly each item is drawn as a negative.

    Training against such negatives learns logits that are lower by just that.
    """
    if not exponent:
        return torch.zeros(items)
    weights = draw_weights(torch.from_numpy(np.bincount(train.columns, minlength=items)), exponent)
    return (weights / weights.mean()).log().float()


def _low_rank_logits(
    factors: Factors, train: Csr, negatives: int, seed: int, density_I: Tensor
) -> LowRankLogits:
    """Calibrated linearly: a weight of the scores, one of the logarithm of popularity, and a constant."""
    items = len(factors.items_ID)
    popularity_I = torch.from_numpy(np.log1p(np.bincount(train.columns, minlength=items))).float()
    users_N, items_N, labels_N = _sampled(train, items, negatives, seed)
    scores_N = torch.cat(
        [
            (factors.users_UD[users_N[part]] * factors.items_ID[items_N[part]]).sum(1)
            for part in spans(len(users_N), -(-len(users_N) // 2**16))
        ]
    )
    features = torch.stack([scores_N, popularity_I[items_N], torch.ones_like(scores_N)], 1)
    slope, popular, constant = _logistic_regression(features, labels_N)
    left = torch.cat([factors.users_UD * slope, torch.ones(train.users, 1)], 1)
    bias_I = popular * popularity_I + constant - density_I
    return LowRankLogits.of(left, torch.cat([factors.items_ID, bias_I[:, None]], 1))


def _calibrated(scores: Tensor, weights: Sequence[float]) -> Tensor:
    """Logits from `scores`, in place; clamped, as a few extreme scores would take up singular vectors."""
    # The limit is that of probabilities of 1e-4 and 1 - 1e-4.
    logs = scores.clamp(min=0.0).add_(0.01).log_()
    return (
        scores.mul_(weights[0])
        .add_(weights[2])
        .add_(logs, alpha=weights[1])
        .clamp_(-_LOGIT_LIMIT, _LOGIT_LIMIT)
    )


def _calibration(scores: KernelScores, train: Csr, items: int, negatives: int, seed: int) -> list[float]:
    """Weights of the score, the logarithm of its positive part, and one: see `_calibrated`."""
    users_N, items_N, labels_N = _sampled(train, items, negatives, seed)
    values_N = torch.empty(len(users_N))
    distinct, position_N = np.unique(users_N.numpy(), return_inverse=True)
    order = np.argsort(position_N, kind="stable")
    bounds = np.searchsorted(position_N[order], np.arange(len(distinct) + 1))
    for part in spans(len(distinct), -(-len(distinct) * items // _BLOCK_PAIRS)):
        pairs = order[bounds[part.start] : bounds[part.stop]]
        block = torch.from_numpy(scores.rows(distinct[part]))
        values_N[pairs] = block[torch.from_numpy(position_N[pairs] - part.start), items_N[pairs]]
    logs = values_N.clamp(min=0.0).add_(0.01).log_()
    return _logistic_regression(torch.stack([values_N, logs, torch.ones_like(logs)], dim=1), labels_N)


def _sampled(train: Csr, items: int, negatives: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Users, items and labels [N] of sampled pairs: positives of whole users, and negatives for each.

    The scores are of a model without self-similarity, so a positive is scored as a held-out item would be;
    the regression may be fitted on training pairs. Drawn pairs that are positives are left out.
    """
    random = np.random.default_rng(seed_of(seed, "calibration"))
    drawn_users = random.permutation(train.users)
    enough = np.searchsorted(np.cumsum(train.counts[drawn_users]), _FIT_POSITIVES) + 1
    chosen = np.sort(drawn_users[:enough])
    users = np.repeat(chosen, train.counts[chosen])
    positives = np.concatenate([train.row(user) for user in chosen]).astype(np.int64)
    negative_users = np.repeat(users, negatives)
    drawn = random.integers(0, items, len(negative_users))
    fresh = ~train.contains(negative_users, drawn)
    labels = torch.zeros(len(users) + int(fresh.sum()), dtype=torch.float64)
    labels[: len(users)] = 1.0
    return (
        torch.from_numpy(np.concatenate([users, negative_users[fresh]])),
        torch.from_numpy(np.concatenate([positives, drawn[fresh]])),
        labels,
    )


def _logistic_regression(features: Tensor, labels: Tensor) -> list[float]:
    """The weights of the `features` [N, 3], by Newton's method."""
    features = features.double()
    weights = torch.zeros(features.shape[1], dtype=torch.float64)
    ridge = 1e-6 * torch.eye(features.shape[1], dtype=torch.float64)
    # The ridge keeps it solvable where a feature is constant.
    for _ in range(_NEWTON_STEPS):
        shares = torch.sigmoid(features @ weights)
        curvature = (features * (shares * (1.0 - shares))[:, None]).T @ features + ridge
        weights += torch.linalg.solve(curvature, features.T @ (labels - shares))
    return [float(weight) for weight in weights]
