"""Spectral initialization: tables that start at what a closed-form model already knows.

In: the training interactions. Out: first values of the tables. Three steps, each of seconds on ML-1M:

1. EASE (Steck, WWW'19) in its denoising form (Steck, NeurIPS'20), twice. Item-item weights are
   B = I - P diag(P)^-1 with P = (G + lambda I + p / (1 - p) diag(G))^-1 and G = X'WX. The diagonal of B is
   zero, so the score X B of a used item does not count its own use. W weighs users by n_u^-1/2, as an item in
   a short history says more. User-user weights are the same of X transposed.
2. Calibration of each: a logistic regression turns scores into the logits of the probabilities that training
   with cross-entropy looks for. The mean of the two is used.
3. Truncated singular value decomposition (Halko et al., SIAM Review '11) of these logits, centred, and
   rotated at random so that no column of a table is more important than another.

Gradient descent then starts near the best low-rank model instead of at noise. The decision worth knowing:
only the model's first values change, and only training interactions are read. docs/accuracy.md has what it
brings.

Legend: U users, I items, N sampled pairs, D table width.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ncf.baselines.base import dense_rows
from ncf.baselines.ease import ITEMS_LIMIT, ease_weights, user_side_scores
from ncf.data import Csr
from ncf.errors import ConfigError
from ncf.models import GMF, Model, branches
from ncf.runtime import Workers, generator, seed_of, spans
from ncf.training.sampling import draw_weights

_EASE_L2, _EASE_DROPOUT, _WEIGHT_EXPONENT = 200.0, 0.33, 0.5
_USER_SIDE_L2 = 300.0
_LOGITS_LIMIT = 2**30
_FIT_POSITIVES = 200_000
_NEWTON_STEPS = 12
_USERS_AT_ONCE = 512
_OVERSAMPLE, _POWER_ITERATIONS = 8, 2
_MLP_STD = 0.3
_LOGIT_LIMIT = 9.2


@dataclass(frozen=True)
class Logits:
    """Calibrated logits of every pair, without their mean: `centred` [U, I] float32, and the `mean`."""

    centred: Tensor
    mean: float


def init_spectral(
    model: Model, train: Csr, items: int, negatives: int, seed: int, workers: Workers, exponent: float = 0.0
) -> None:
    """Overwrite the tables of `model` from the `items` of the users in `train`.

    `negatives` and `exponent` are those of training: negatives a positive, drawn by (1 +
    popularity)^exponent. Raises `ConfigError` for data that are too large for a closed form.
    """
    refuse_too_large(train.users, items, "set train.init = 'random'")
    logits = closed_form_logits(train, items, negatives, seed, workers, exponent)
    for branch in branches(model):
        with torch.no_grad():
            if isinstance(branch, GMF):
                init_gmf(branch, logits, seed)
            else:
                _init_mlp(branch.user_table, branch.item_table, logits, seed)


def is_small_enough(users: int, items: int) -> bool:
    """Whether the closed form fits: 20,000 items (1.6 GB for their matrix) and 2^30 logits (4 GB)."""
    return items <= ITEMS_LIMIT and users * items <= _LOGITS_LIMIT


def refuse_too_large(users: int, items: int, remedy: str) -> None:
    """Raise `ConfigError` where the closed form does not fit; `remedy` ends its message."""
    if not is_small_enough(users, items):
        raise ConfigError(
            "A closed form inverts an items x items matrix and holds users x items logits, which for "
            f"{users:,} users and {items:,} items is too much: {remedy}."
        )


def init_gmf(branch: GMF, logits: Logits, seed: int) -> None:
    """Set p . q to the rank-D approximation of the centred logits, h to one, and the bias to their mean."""
    users, items = factorise(logits.centred, branch.output.numel(), generator(seed, "spectral", 0))
    # Factors have the same product at any balance; equal spreads suit one learning rate for both tables.
    balance = (users.std() / items.std()).sqrt()
    branch.user_table.copy_(users / balance)
    branch.item_table.copy_(items * balance)
    branch.output.fill_(1.0)
    branch.bias.fill_(logits.mean)


def _init_mlp(user_table: Tensor, item_table: Tensor, logits: Logits, seed: int) -> None:
    """Set the tables to directions of one scale, without the items' popularity; the tower learns the rest."""
    # Without the items' means, or the first direction of both tables would be popularity.
    centred = logits.centred - logits.centred.mean(0, keepdim=True)
    for table, values in zip(
        (user_table, item_table),
        factorise(centred, user_table.shape[1], generator(seed, "spectral", 1)),
        strict=True,
    ):
        table.copy_(values * (_MLP_STD / values.std()))


def closed_form_logits(
    train: Csr, items: int, negatives: int, seed: int, workers: Workers, exponent: float = 0.0
) -> Logits:
    """The mean of the logits of both sides; where both take more than 4 GB, those of the item side alone.

    The arguments are those of `init_spectral`.
    """
    logits = _scores(train, items, start_weights(train, items, workers), workers)
    _calibrate(logits, train, items, negatives, seed, workers)
    if logits.numel() <= _LOGITS_LIMIT // 2:
        other = user_side_scores(train, items, workers, _USER_SIDE_L2, _EASE_DROPOUT, _WEIGHT_EXPONENT)
        _calibrate(other, train, items, negatives, seed, workers)
        logits.add_(other).mul_(0.5)
    if exponent:
        logits.sub_(_log_density(train, items, exponent))
    mean = logits.mean().item()
    return Logits(logits.sub_(mean), mean)


def _log_density(train: Csr, items: int, exponent: float) -> Tensor:
    """[I]: the logarithm of how much likelier than uniformly each item is drawn as a negative.

    Training against such negatives learns logits that are lower by just that.
    """
    weights = draw_weights(torch.from_numpy(np.bincount(train.columns, minlength=items)), exponent)
    return (weights / weights.mean()).log().float()


def _scores(train: Csr, items: int, weights: Tensor, workers: Workers) -> Tensor:
    """[U, I]: each row's interactions times the weights."""
    scores = torch.empty(train.users, items)

    def score(part: slice) -> None:
        torch.mm(dense_rows(train, items, part), weights, out=scores[part])

    workers.map(score, spans(train.users, -(-train.users // _USERS_AT_ONCE)))
    return scores


def _calibrate(scores: Tensor, train: Csr, items: int, negatives: int, seed: int, workers: Workers) -> None:
    """Turn scores [U, I] into logits, in place, calibrated to one positive among `negatives` negatives."""
    weights_of = _calibration(scores, train, items, negatives, seed)
    # Clamped to probabilities of 1e-4 and 1 - 1e-4: a few extreme scores would take up singular vectors.

    def calibrate(part: slice) -> None:
        features = _features(scores[part])
        total = torch.stack([f.mul_(weight) for f, weight in zip(features, weights_of, strict=True)]).sum(0)
        torch.clamp(total, -_LOGIT_LIMIT, _LOGIT_LIMIT, out=scores[part])

    workers.map(calibrate, spans(train.users, -(-train.users // _USERS_AT_ONCE)))


def start_weights(train: Csr, items: int, workers: Workers) -> Tensor:
    """[I, I]: the item-item weights of the item side."""
    return ease_weights(train, items, workers, _EASE_L2, _EASE_DROPOUT, _WEIGHT_EXPONENT)


def _features(scores: Tensor) -> list[Tensor]:
    """The score, the log of its positive part, and one; each of the shape of `scores`."""
    return [scores.clone(), scores.clamp(min=0.0).add_(0.01).log_(), torch.ones_like(scores)]


def _calibration(scores: Tensor, train: Csr, items: int, negatives: int, seed: int) -> list[float]:
    """The weights of `_features` that predict which sampled pairs are positives: a logistic regression."""
    random = np.random.default_rng(seed_of(seed, "calibration"))
    size = min(_FIT_POSITIVES, len(train.columns))
    chosen = random.choice(len(train.columns), size, replace=False)
    users = np.searchsorted(train.offsets, chosen, side="right") - 1
    drawn_users, drawn = np.repeat(users, negatives), random.integers(0, items, size * negatives)
    # The scores are of a model without self-similarity, so a positive is scored as a held-out item would be;
    # the regression may be fitted on training pairs. Drawn pairs that are positives are left out.
    fresh = ~train.contains(drawn_users, drawn)
    all_users = torch.from_numpy(np.concatenate([users, drawn_users[fresh]]))
    all_items = torch.from_numpy(np.concatenate([train.columns[chosen].astype(np.int64), drawn[fresh]]))
    labels = torch.zeros(len(all_users), dtype=torch.float64)
    labels[:size] = 1.0
    features = torch.stack(_features(scores[all_users, all_items]), dim=1).double()
    weights = torch.zeros(3, dtype=torch.float64)
    ridge = 1e-6 * torch.eye(3, dtype=torch.float64)
    # Newton's method in three dimensions; the ridge keeps it solvable where a feature is constant.
    for _ in range(_NEWTON_STEPS):
        shares = torch.sigmoid(features @ weights)
        curvature = (features * (shares * (1.0 - shares))[:, None]).T @ features + ridge
        weights += torch.linalg.solve(curvature, features.T @ (labels - shares))
    return [float(weight) for weight in weights]


def factorise(matrix: Tensor, width: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """[U, D] and [I, D] whose product is the best rank-D approximation of `matrix` [U, I], D = `width`.

    It is the best up to the random projection, which `random` draws. Where the matrix has fewer than D
    singular values, the other columns are zero before the rotation.
    """
    rank = min(width, *matrix.shape)
    sketch = matrix @ torch.randn(
        matrix.shape[1], min(width + _OVERSAMPLE, *matrix.shape), generator=random, dtype=matrix.dtype
    )
    # Power iterations sharpen the sketch where singular values decay slowly; QR keeps its columns apart.
    for _ in range(_POWER_ITERATIONS):
        sketch = matrix @ (matrix.T @ torch.linalg.qr(sketch).Q)
    basis = torch.linalg.qr(sketch).Q
    left, values, right = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    root = values[:rank].sqrt()
    users, items = matrix.new_zeros(matrix.shape[0], width), matrix.new_zeros(matrix.shape[1], width)
    users[:, :rank] = (basis @ left[:, :rank]) * root
    items[:, :rank] = right[:rank].T * root
    rotation = torch.linalg.qr(torch.randn(width, width, generator=random, dtype=matrix.dtype)).Q
    return users @ rotation, items @ rotation
