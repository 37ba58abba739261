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

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ncf.baselines.base import sparse_rows, uses
from ncf.baselines.ease import Side, ease_factors, ease_scores, is_exact
from ncf.baselines.products import Factors, KernelScores
from ncf.config import TrainConfig
from ncf.data import Csr, Dataset
from ncf.models import GMF, Model, NeuMF, branches
from ncf.runtime import Workers, generator, seed_of, spans
from ncf.training.decomposition import OVERSAMPLE, Logits, LowRankLogits, Progress, power_passes
from ncf.training.sampling import draw_weights

_DROPOUT, _WEIGHT_EXPONENT = 0.33, 0.5
_ITEM_L2, _USER_L2 = 200.0, 300.0
"""Ridge penalties. On six tables, of 2 to 270 interactions an item, the best were between 100 and 1,000."""
_LOW_RANK_L2 = 100.0
"""That of the item side at low rank: on Amazon Games and Gowalla 100 was better than 200 and 30."""
_PAIRS_LIMIT = 2**31
_BLOCK_PAIRS = 2**21
_FIT_POSITIVES = 200_000
_NEWTON_STEPS = 12
_GUESS_ITERATIONS = 2
_MLP_STD = 0.3
_STEPS_BEFORE = 2
"""Steps of the progress before the passes: the two sides."""
_LOGIT_LIMIT = 9.2


def ignore(_step: int, _steps: int) -> None:
    """No progress is wanted."""


@dataclass(frozen=True)
class ClosedForm:
    """What the closed form is fitted to, and how."""

    train: Csr
    """With weights, histories hold those over their mean, and the calibration counts a pair as often."""
    items: int
    """Items of the catalogue."""
    negatives: int
    """Negatives a positive in training, drawn in proportion to (1 + popularity)^`exponent`."""
    seed: int
    exponent: float = 0.0
    l2: float = 0.0
    """Ridge penalty of the item side; 0 takes `default_l2`."""

    @classmethod
    def of(cls, dataset: Dataset, config: TrainConfig) -> "ClosedForm":
        """That of a data set as a run sees it, and of the run's settings."""
        train, items = dataset.seen_in_training, len(dataset.items)
        return cls(train, items, config.negatives, config.seed, config.negatives_exponent, config.init_l2)

    def with_l2(self, l2: float) -> "ClosedForm":
        """The same with another penalty."""
        return replace(self, l2=l2)

    @property
    def is_exact(self) -> bool:
        """Whether both sides are solved exactly; else the item side is at low rank."""
        return is_exact(self.train.users, self.items) and self.train.users * self.items <= _PAIRS_LIMIT

    @property
    def default_l2(self) -> float:
        """The penalty where none is set."""
        return _ITEM_L2 if self.is_exact else _LOW_RANK_L2

    def logits(self, width: int = 0, progress: Progress = ignore) -> Logits:
        """The mean of the logits of both sides, or those of the item side at low rank.

        `width` is that of the widest table that is wanted. `progress` is told how many of how many steps are
        done.
        """
        histories, l2 = sparse_rows(self.train, self.items), self.l2 or self.default_l2
        density_I = _log_density(self.train, self.items, self.exponent)
        if not self.is_exact:
            seed, rank = seed_of(self.seed, "low rank"), width + OVERSAMPLE
            factors = ease_factors(histories, l2, _DROPOUT, _WEIGHT_EXPONENT, seed, rank)
            progress(_STEPS_BEFORE, _STEPS_BEFORE + 1)
            return self._low_rank_logits(factors, density_I)
        sides = []
        penalties: dict[Side, float] = {"items": l2, "users": l2 * _USER_L2 / _ITEM_L2}
        for side, penalty in penalties.items():
            scores = ease_scores(histories, penalty, _DROPOUT, _WEIGHT_EXPONENT, side)
            sides.append((scores, self._calibration(scores)))
            progress(len(sides), _STEPS_BEFORE + 1 + power_passes(self.train.users, self.items))

        def rows(part: slice) -> Tensor:
            total = torch.zeros(part.stop - part.start, self.items)
            for scores, weights in sides:
                total.add_(_calibrated(torch.from_numpy(scores.rows(part)), weights))
            return total.mul_(1.0 / len(sides)).sub_(density_I)

        def guess(size: int, random: torch.Generator) -> Tensor:
            return _guess(sides[0][0], self.items, size, random)

        return Logits(self.train.users, self.items, rows, guess)

    def _low_rank_logits(self, factors: Factors, density_I: Tensor) -> LowRankLogits:
        """Calibrated linearly: a weight of the scores, one of the logarithm of popularity, and a constant."""
        popularity_I = torch.from_numpy(np.log1p(uses(self.train, self.items))).float()
        users_N, items_N, labels_N, weights_N = self.sampled_pairs()
        scores_N = torch.cat(
            [
                (factors.users_UD[users_N[part]] * factors.items_ID[items_N[part]]).sum(1)
                for part in spans(len(users_N), -(-len(users_N) // 2**16))
            ]
        )
        features = torch.stack([scores_N, popularity_I[items_N], torch.ones_like(scores_N)], 1)
        slope, popular, constant = _logistic_regression(features, labels_N, weights_N)
        left = torch.cat([factors.users_UD * slope, torch.ones(self.train.users, 1)], 1)
        bias_I = popular * popularity_I + constant - density_I
        return LowRankLogits.of(left, torch.cat([factors.items_ID, bias_I[:, None]], 1))

    def _calibration(self, scores: KernelScores) -> list[float]:
        """Weights of the score, the logarithm of its positive part, and one: see `_calibrated`."""
        users_N, items_N, labels_N, weights_N = self.sampled_pairs()
        values_N = torch.empty(len(users_N))
        distinct, position_N = np.unique(users_N.numpy(), return_inverse=True)
        order = np.argsort(position_N, kind="stable")
        bounds = np.searchsorted(position_N[order], np.arange(len(distinct) + 1))
        for part in spans(len(distinct), -(-len(distinct) * self.items // _BLOCK_PAIRS)):
            pairs = order[bounds[part.start] : bounds[part.stop]]
            block = torch.from_numpy(scores.rows(distinct[part]))
            values_N[pairs] = block[torch.from_numpy(position_N[pairs] - part.start), items_N[pairs]]
        logs = values_N.clamp(min=0.0).add_(0.01).log_()
        features = torch.stack([values_N, logs, torch.ones_like(logs)], dim=1)
        return _logistic_regression(features, labels_N, weights_N)

    def sampled_pairs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Users, items, labels and weights [N] of sampled pairs: positives of whole users, and negatives for
        each, which weigh as it does.

        The scores are of a model without self-similarity, so a positive is scored as a held-out item would
        be; the regression may be fitted on training pairs. Drawn pairs that are positives are left out.
        """
        train = self.train
        random = np.random.default_rng(seed_of(self.seed, "calibration"))
        drawn_users = random.permutation(train.users)
        enough = np.searchsorted(np.cumsum(train.counts[drawn_users]), _FIT_POSITIVES) + 1
        chosen = np.sort(drawn_users[:enough])
        users = np.repeat(chosen, train.counts[chosen])
        places = np.concatenate([np.arange(*train.offsets[user : user + 2]) for user in chosen])
        positives = train.columns[places].astype(np.int64)
        weights = np.ones(len(places)) if train.weights is None else train.values[places].astype(np.float64)
        negative_users = np.repeat(users, self.negatives)
        drawn = random.integers(0, self.items, len(negative_users))
        fresh = ~train.contains(negative_users, drawn)
        labels = torch.zeros(len(users) + int(fresh.sum()), dtype=torch.float64)
        labels[: len(users)] = 1.0
        return (
            torch.from_numpy(np.concatenate([users, negative_users[fresh]])),
            torch.from_numpy(np.concatenate([positives, drawn[fresh]])),
            labels,
            torch.from_numpy(np.concatenate([weights, np.repeat(weights, self.negatives)[fresh]])),
        )


def init_spectral(
    model: Model,
    closed: ClosedForm,
    workers: Workers,
    progress: Progress = ignore,
    logits: Logits | None = None,
) -> None:
    """Overwrite the tables of `model` from the `closed` form, or from its `logits` where they are at hand.

    `progress` is told how many of how many steps are done.
    """
    if logits is None:
        width = max(branch.user_table.shape[1] for branch in branches(model))
        logits = closed.logits(width, progress)
    init_tables(model, logits, closed.seed, workers, progress)


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


def _logistic_regression(features: Tensor, labels: Tensor, counts: Tensor) -> list[float]:
    """The weights of the `features` [N, 3], by Newton's method; `counts` [N] is how often each row counts."""
    features = features.double()
    weights = torch.zeros(features.shape[1], dtype=torch.float64)
    ridge = 1e-6 * torch.eye(features.shape[1], dtype=torch.float64)
    # The ridge keeps it solvable where a feature is constant.
    for _ in range(_NEWTON_STEPS):
        shares = torch.sigmoid(features @ weights)
        curvature = (features * (counts * shares * (1.0 - shares))[:, None]).T @ features + ridge
        weights += torch.linalg.solve(curvature, features.T @ (counts * (labels - shares)))
    return [float(weight) for weight in weights]
