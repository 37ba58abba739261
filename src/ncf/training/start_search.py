"""The ridge penalty and the width of a closed-form start, chosen on validation.

In: a data set and a recipe with `train.init = "auto"`. Out: the recipe with numbers, and the logits of the
chosen closed form. Two steps, since each of them is nearly free once the logits are there:

1. Penalty: the usual one and its neighbours by factors of three, as long as validation gets better, at width
   64. This is left out where one closed form takes long, and where the recipe names a penalty.
2. Width, where `model.factors = "auto"`: the first columns of a decomposition are the decomposition of that
   width.

Of the penalties the one nearest to the usual is taken that is within a standard error of the best, and of
the widths the smallest (Breiman et al. '84). The error is that of the paired difference over the rows.

The decision worth knowing: the start is compared, not the trained model. On the tables of docs/accuracy.md
training moved figures by less than the width and the penalty did, and kept their order.

Legend: U users, I items, D table width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ncf.baselines.products import Factors
from ncf.config import EvaluationConfig, Experiment
from ncf.data import Dataset
from ncf.evaluation import evaluate_held_out
from ncf.evaluation.metrics import Floats
from ncf.runtime import Workers, generator
from ncf.tracking.tracker import Tracker
from ncf.training.decomposition import Logits
from ncf.training.spectral_init import ClosedForm, ignore

WIDTHS = (8, 16, 32, 64, 128, 256, 512)
USUAL_WIDTH = 128
"""Where no validation rows can choose."""
_SEARCH_WIDTH = 64
_FACTOR, _STEPS = 3.0, 3
_SEARCH_COST = 2**35
"""Multiplications of one inverse up to which the penalty is searched: 3,200 rows, some seconds a start."""
_MOST_USERS = 5_000
"""Users of the full ranking that choose, where there are no candidate lists."""


@dataclass(frozen=True)
class Start:
    """A recipe with numbers for what was "auto", and the logits of its closed form if they are at hand."""

    experiment: Experiment
    logits: Logits | None = None


def choose_start(dataset: Dataset, experiment: Experiment, workers: Workers, tracker: Tracker) -> Start:
    """Replace `init = "auto"` and `factors = "auto"` by what is best on the validation rows of `dataset`.

    Only training and validation rows are read. Without validation rows the penalty is the usual one and
    the width 128. A recipe without "auto" is returned as it is.
    """
    if experiment.train.init != "auto":
        return Start(experiment)
    search = _Search(dataset, experiment, workers)
    if not len(dataset.validation):
        return Start(search.resolved(0.0, USUAL_WIDTH))
    with tracker.phase("choosing the start"):
        l2 = search.best_penalty()
        width = search.best_width(l2)
    for sentence in search.sentences:
        tracker.log(sentence)
    # With validation rows in training the closed form is another one.
    kept = search.logits[l2] if experiment.train.validation == "hold-out" else None
    return Start(search.resolved(l2, width), kept)


class _Search:
    """The figures of one data set by penalty and width."""

    def __init__(self, dataset: Dataset, experiment: Experiment, workers: Workers) -> None:
        self._dataset, self._experiment, self._workers = dataset, experiment, workers
        self._closed = ClosedForm.of(dataset, experiment.train)
        factors = experiment.model.factors
        limit = min(len(dataset.users), len(dataset.items))
        self.widths = [width for width in WIDTHS if width <= limit] or [min(WIDTHS)]
        if factors != "auto":
            self.widths = [factors]
        self.logits: dict[float, Logits] = {}
        self.sentences: list[str] = []

    def resolved(self, l2: float, width: int) -> Experiment:
        """The recipe with these numbers; a number of factors that it has stays."""
        factors = width if self._experiment.model.factors == "auto" else self._experiment.model.factors
        return self._experiment.model_copy(
            update={
                "model": self._experiment.model.model_copy(update={"factors": factors}),
                "train": self._experiment.train.model_copy(update={"init": "spectral", "init_l2": l2}),
            }
        )

    def best_penalty(self) -> float:
        """The penalty to take; logits of others are forgotten."""
        closed = self._closed
        usual = closed.l2 or closed.default_l2
        sides = min(closed.train.users, closed.items)
        if closed.l2 or not closed.is_exact or sides**3 > _SEARCH_COST:
            self._fit(usual)
            return usual
        ladder = {step: float(f"{usual * _FACTOR**step:.3g}") for step in range(-_STEPS, _STEPS + 1)}
        values = {0: self._search_values(usual)}
        for direction in (-1, 1):
            if max(values, key=lambda step: values[step].mean()):
                break  # the other direction is downhill
            for step in range(direction, direction * _STEPS + direction, direction):
                values[step] = self._search_values(ladder[step])
                if values[step].mean() <= values[step - direction].mean():
                    break
        best = ladder[min(_near_best(values), key=abs)]
        self.logits = {best: self.logits[best]}
        figures = ", ".join(f"{ladder[step]:.4g}: {values[step].mean():.4f}" for step in sorted(values))
        self.sentences.append(f"Ridge penalty {best:.4g}, by NDCG on validation ({figures}).")
        return best

    def best_width(self, l2: float) -> int:
        """The smallest width that is within a standard error of the best."""
        if len(self.widths) == 1:
            return self.widths[0]
        values: dict[int, Floats] = {}
        for widths in (self.widths[:-1], self.widths[-1:]):
            # The largest is worth its time only where more width still helps.
            if len(values) > 1 and min(_near_best(values)) != self.widths[-2]:
                break
            values |= self._values(l2, widths)
        chosen = min(_near_best(values))
        figures = ", ".join(f"{width}: {found.mean():.4f}" for width, found in values.items())
        self.sentences.append(
            f"{chosen} factors, the fewest within a standard error of the best on validation ({figures})."
        )
        return chosen

    def _fit(self, l2: float) -> Logits:
        if l2 not in self.logits:
            self.logits[l2] = self._closed.with_l2(l2).logits(max(self.widths))
        return self.logits[l2]

    def _search_values(self, l2: float) -> Floats:
        width = min(_SEARCH_WIDTH, max(self.widths))
        return self._values(l2, [width])[width]

    def _values(self, l2: float, widths: Sequence[int]) -> dict[int, Floats]:
        """The deciding metric of each validation row (or user) by width."""
        random = generator(self._experiment.train.seed, "spectral", 0)
        wanted = [(max(widths), False)]
        [(users, items)], _ = self._fit(l2).decompose(wanted, random, self._workers, ignore)
        return {width: self._ndcg(users[:, :width], items[:, :width]) for width in widths}

    def _ndcg(self, users_UD: Tensor, items_ID: Tensor) -> Floats:
        listed = self._dataset.validation.has_lists
        rules = EvaluationConfig(cutoffs=(10 if listed else 20,), bootstrap=0)
        result = evaluate_held_out(
            Factors(users_UD, items_ID),
            self._dataset,
            "validation",
            rules,
            self._workers,
            most_users=_MOST_USERS,
        )
        return result.values[f"ndcg@{rules.cutoffs[0]}"]


def _near_best(values: dict[int, Floats]) -> list[int]:
    """The keys of those that are behind the best by less than a standard error of the paired difference."""
    best = max(values.values(), key=lambda found: found.mean())
    behind = {key: best - found for key, found in values.items()}
    return [key for key, loss in behind.items() if loss.mean() <= loss.std() / np.sqrt(len(loss))]
