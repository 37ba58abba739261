"""Cold users: how well the model serves a user of whom only one, two, or three to five items are known.

In: a run and its held-out rows. Out: results for the same rows with short histories folded in, with
popularity as the floor and whole histories as the ceiling. The decision worth knowing: these users were in
training, and most of their history is taken away afterwards. The item vectors have still learned from them,
so the figures are a little optimistic. benchmarks/fold_in.py leaves users out of training, at the cost of two
trainings.

Legend: B batch, C candidates, Q width of a query, T held-out rows, U users.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ncf.analysis.evaluated_run import EvaluatedRun
from ncf.baselines.non_personalized import PopularityScorer
from ncf.data import HeldOut, Interactions
from ncf.errors import DataError
from ncf.evaluation import EvaluationResult, evaluate_sampled
from ncf.models import ModelScorer
from ncf.runtime import choose_threads, seed_of, workers
from ncf.serving.numpy_model import Floats, NumpyModel, Rows

LENGTHS = ((1, 1), (2, 2), (3, 5))
"""Least and most items that are kept of a history; between them the number is drawn for each user."""
_ENOUGH = 5


@dataclass(frozen=True)
class ColdUsers:
    """`results` by what was known of the users, coldest first; all of the same rows of `users` users.

    `latest` is true where the latest items of each user were kept, and false where items were drawn for lack
    of times.
    """

    results: dict[str, EvaluationResult]
    users: int
    latest: bool

    @property
    def remark(self) -> str:
        """What a reader of the figures has to know."""
        items = "their latest items" if self.latest else "items drawn at random, since there are no times"
        return (
            f"{self.users:,} users with {_ENOUGH} items or more, known by {items}. Training saw all their "
            "items, so the item vectors have learned from them; benchmarks/fold_in.py leaves users out of "
            "training."
        )


class FoldedIn:
    """A scorer of users whose queries are given: `queries_UQ` of the ascending user rows `users`."""

    def __init__(self, network: NumpyModel, users: Rows, queries_UQ: Floats) -> None:
        self._network, self._users, self._queries_UQ = network, users, queries_UQ

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Logits [B, C]."""
        queries_BQ = self._queries_UQ[np.searchsorted(self._users, users_B.numpy())]
        return torch.from_numpy(self._network.scores(queries_BQ, self._network.sides(items_BC.numpy())))


def evaluate_cold_users(run: EvaluatedRun) -> ColdUsers:
    """Evaluate the candidate lists of `run` with 1, 2, 3-5 and all items of each user folded in, and as
    trained.

    Raises `DataError` where no held-out row belongs to a user with five items or more.
    """
    rows = run.held_out.user_rows
    kept = run.trained_on.counts[rows] >= _ENOUGH
    if not kept.any():
        raise DataError(
            f"No evaluated user has {_ENOUGH} training interactions, so every user is cold already: use --by "
            "activity."
        )
    held_out = HeldOut(rows[kept], run.held_out.candidates[kept])
    users = np.unique(held_out.user_rows)
    histories = _ordered(run, users)
    network = NumpyModel(run.artifact.weights)
    fold_in = run.artifact.fold_in(network)
    random = np.random.default_rng(seed_of(run.artifact.experiment.train.seed, "cold users"))

    def folded(parts: Sequence[Rows]) -> FoldedIn:
        oldest_first = [part[::-1] for part in parts]
        return FoldedIn(network, users, network.queries(fold_in.vectors(oldest_first)))

    scorers: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"popularity": PopularityScorer(run.item_counts)}
    for low, high in LENGTHS:
        lengths = random.integers(low, high + 1, len(users))
        parts = [history[:length] for history, length in zip(histories, lengths, strict=True)]
        scorers[f"{low}-{high} items" if high > low else f"{low} item{'s' * (low > 1)}"] = folded(parts)
    scorers["all items, folded in"] = folded(histories)
    scorers["all items, as trained"] = ModelScorer(run.artifact.model)
    with workers(choose_threads()) as pool:
        results = {
            name: evaluate_sampled(scorer, held_out, run.rules, pool) for name, scorer in scorers.items()
        }
    return ColdUsers(results, len(users), run.dataset.train.timestamps is not None)


def _ordered(run: EvaluatedRun, users: Rows) -> list[Rows]:
    """The items of each user that the model was trained on: latest first where there are times, else at
    random.

    A validation positive that was trained on has its user's latest time
    (`Dataset.with_validation_in_training`).
    """
    train: Interactions = run.dataset.train
    if run.artifact.experiment.train.validation == "include":
        train = run.dataset.with_validation_in_training().train
    random = np.random.default_rng(seed_of(run.artifact.experiment.train.seed, "cold histories"))
    noise = random.random(len(train))
    times = noise if train.timestamps is None else -train.timestamps.astype(np.float64)
    order = np.lexsort(
        (noise, times, train.user_rows)
    )  # by user, then time; noise decides between equal times
    offsets = np.searchsorted(train.user_rows, np.append(users, users[-1] + 1))
    ends = np.searchsorted(train.user_rows, users, side="right")
    return [train.item_rows[order[a:b]] for a, b in zip(offsets[:-1], ends, strict=True)]
