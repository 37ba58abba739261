"""Cold users: what the model is worth to somebody of whom one, two, or three to five items are known.

In: a run and its held-out rows. Out: judgements of the same rows with short histories folded in, beside popularity as the
floor and whole histories as the ceiling. The decision worth knowing: the users are those that were trained on, with most of
their history taken away afterwards; the items' vectors still know them, so this flatters a little.
benchmarks/fold_in.py leaves users out of training, and takes two trainings for it.

Legend: B batch, C candidates, Q width of a query, T held-out rows, I items.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ncf.analysis.evaluated_run import EvaluatedRun
from ncf.data import HeldOut, Interactions
from ncf.errors import DataError
from ncf.evaluation import EvaluationResult, evaluate_sampled
from ncf.evaluation.cross_dataset import ByPopularity
from ncf.models import ModelScorer
from ncf.runtime import choose_threads, seed_of, workers
from ncf.serving.numpy_model import Floats, NumpyModel, Rows

LENGTHS = ((1, 1), (2, 2), (3, 5))
"""Items that stay of each history: least and most; between them the number is drawn for each user."""
_ENOUGH = 5


@dataclass(frozen=True)
class ColdUsers:
    """`judgements` by what was known of the users, coldest first; all of the same rows, `users` users.

    `latest`: whether the items that stayed are the latest of each user; else they were drawn, as there are no times.
    """

    judgements: dict[str, EvaluationResult]
    users: int
    latest: bool

    @property
    def remark(self) -> str:
        """What the reader has to know."""
        which = "their latest items" if self.latest else "items drawn at random, as there are no times"
        return (
            f"{self.users:,} users with {_ENOUGH} items or more, known by {which}. They were in training whole, so "
            "the items' vectors know them; benchmarks/fold_in.py leaves users out of training."
        )


class FoldedIn:
    """Scores of users whose queries are given: `queries_UQ` for the user rows `users`, which ascend."""

    def __init__(self, network: NumpyModel, users: Rows, queries_UQ: Floats) -> None:
        self._network, self._users, self._queries_UQ = network, users, queries_UQ

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Logits [B, C]."""
        queries_BQ = self._queries_UQ[np.searchsorted(self._users, users_B.numpy())]
        return torch.from_numpy(self._network.scores(queries_BQ, self._network.sides(items_BC.numpy())))


def evaluate_cold_users(subject: EvaluatedRun) -> ColdUsers:
    """Judge the candidate lists with histories of 1, 2, 3-5 and all items folded in, and as trained.

    Raises `DataError` where no held-out row belongs to a user with five items or more.
    """
    trained_on = subject.trained_on
    rows = subject.held_out.user_rows
    kept = trained_on.counts[rows] >= _ENOUGH
    if not kept.any():
        raise DataError(
            f"No user that is judged has {_ENOUGH} training interactions, so there is nothing to take away: "
            "every user is cold already, see --by activity."
        )
    held_out = HeldOut(rows[kept], subject.held_out.candidates[kept])
    users = np.unique(held_out.user_rows)
    histories = _ordered(subject, users)
    network = NumpyModel(subject.artifact.weights)
    fold_in = subject.artifact.fold_in(network)
    drawn = np.random.default_rng(seed_of(subject.artifact.experiment.train.seed, "cold users"))

    def folded(parts: Sequence[Rows]) -> FoldedIn:
        oldest_first = [part[::-1] for part in parts]
        return FoldedIn(network, users, network.queries(fold_in.vectors(oldest_first)))

    scorers: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"popularity": ByPopularity(subject.item_counts)}
    for low, high in LENGTHS:
        lengths = drawn.integers(low, high + 1, len(users))
        parts = [history[:length] for history, length in zip(histories, lengths, strict=True)]
        scorers[f"{low}-{high} items" if high > low else f"{low} item{'s' * (low > 1)}"] = folded(parts)
    scorers["all items, folded in"] = folded(histories)
    scorers["all items, as trained"] = ModelScorer(subject.artifact.model)
    with workers(choose_threads()) as pool:
        judgements = {
            name: evaluate_sampled(scorer, held_out, subject.rules, pool) for name, scorer in scorers.items()
        }
    return ColdUsers(judgements, len(users), subject.dataset.train.timestamps is not None)


def _ordered(subject: EvaluatedRun, users: Rows) -> list[Rows]:
    """What the model was trained on of each user: the latest first where there are times, else at random.

    A validation positive that was trained on has its user's latest time (`Dataset.with_validation_in_training`).
    """
    train: Interactions = subject.dataset.train
    if subject.artifact.experiment.train.validation == "include":
        train = subject.dataset.with_validation_in_training().train
    random = np.random.default_rng(seed_of(subject.artifact.experiment.train.seed, "cold histories"))
    noise = random.random(len(train))
    times = noise if train.timestamps is None else -train.timestamps.astype(np.float64)
    order = np.lexsort((noise, times, train.user_rows))
    offsets = np.searchsorted(train.user_rows, np.append(users, users[-1] + 1))
    ends = np.searchsorted(train.user_rows, users, side="right")
    return [train.item_rows[order[a:b]] for a, b in zip(offsets[:-1], ends, strict=True)]
