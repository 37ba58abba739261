"""The held-out rows of a data set, by the protocol that the data set has, with its cold users.

In: a scorer and a data set. Out: an `EvaluationResult`. The decision worth knowing: a user whom training does
not have is answered by popularity, as in serving, since its row of a model was never trained. Such users
count in the metrics, and the result also has the means without them.

Legend: B batch, C candidates, I items, U users.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from ncf.config import EvaluationConfig
from ncf.data import Dataset
from ncf.data.tables import Stage
from ncf.errors import ConfigError
from ncf.evaluation.ranking import EvaluationResult, Exchange, Scorer, evaluate_sampled
from ncf.evaluation.top_k import evaluate_top_k
from ncf.runtime import Workers

Score = Callable[[Tensor, Tensor], Tensor]
AnyScore = TypeVar("AnyScore", bound=Score)


def evaluate_held_out(
    score: Score,
    dataset: Dataset,
    stage: Stage,
    config: EvaluationConfig,
    workers: Workers,
    device: torch.device | str = "cpu",
    exchange: Exchange | None = None,
    in_step: bool = False,
    most_users: int | None = None,
) -> EvaluationResult:
    """Evaluate `stage` of `dataset`: its candidate lists, or all items where there are no lists.

    `score` must be a `Scorer` for the latter, in which at most `most_users` are ranked, if it is given. The
    other arguments are those of `evaluate_sampled`. Raises `ConfigError` where no lists meet `in_step`, which
    cannot score all items.
    """
    held_out = dataset.validation if stage == "validation" else dataset.test
    answered = answering_cold_users(score, dataset)
    if held_out.has_lists or not len(held_out):
        result = evaluate_sampled(answered, held_out, config, workers, device, exchange, in_step)
    elif in_step:
        raise ConfigError(
            "Sharded tables are evaluated on candidate lists, which these data do not have: set "
            "train.tables = 'replicated', or prepare data with lists."
        )
    else:
        scorer = cast(Scorer, answered)
        result = evaluate_top_k(
            scorer, dataset, stage, config, workers, device, exchange, most_users=most_users
        )
    return without_cold_users(result, dataset)


def answering_cold_users(
    score: AnyScore, dataset: Dataset, popularity_I: np.ndarray | None = None
) -> AnyScore:
    """`score`, with popularity as the answer for the cold users of `dataset`, if it has any.

    `popularity_I` [I] are the interactions of each item; by default those of training.
    """
    cold_U = dataset.cold_users
    if not cold_U.any():
        return score
    popularity_I = dataset.popularity if popularity_I is None else popularity_I
    return cast(AnyScore, _WithPopularity(score, cold_U, popularity_I))


class _WithPopularity:
    """A scorer that answers the users of `cold_U` by the `popularity_I` of items, and others by `score`."""

    def __init__(self, score: Score, cold_U: np.ndarray, popularity_I: np.ndarray) -> None:
        self._score, self._cold_U = score, torch.from_numpy(cold_U)
        self._popularity_I = torch.from_numpy(popularity_I.astype(np.float32))

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Scores [B, C]."""
        return self._mixed(self._score(users_B, items_BC), users_B, self._popularity_I[items_BC.cpu()])

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I]."""
        return self._mixed(cast(Scorer, self._score).catalogue(users_B), users_B, self._popularity_I)

    def _mixed(self, scores: Tensor, users_B: Tensor, popularity: Tensor) -> Tensor:
        cold_B1 = self._cold_U[users_B.cpu()][:, None].to(scores.device)
        return torch.where(cold_B1, popularity.to(scores.device), scores.float())


def without_cold_users(
    result: EvaluationResult, dataset: Dataset, cold_U: np.ndarray | None = None
) -> EvaluationResult:
    """`result` with the number of cold users among its own, and its means without them.

    `cold_U` [U] marks the cold users, by default those of `dataset`.
    """
    cold_U = dataset.cold_users if cold_U is None else cold_U
    users = np.unique(result.user_rows)
    cold = cold_U[users]
    if not cold.any():
        return result
    means = {}
    for name, values in result.values.items():
        own = result.user_rows if len(values) == len(result.user_rows) else users
        if not cold_U[own].all():
            means[name] = float(values[~cold_U[own]].mean())
    return replace(result, cold_users=int(cold.sum()), without_cold_users=means)
