"""A final run: an entry with its chosen settings, trained on training and validation positives, evaluated
once on test.

In: data, settings, a seed. Out: figures (a JSON object) and each measure's value by user. The decisions worth
knowing: all entries go through the same code for evaluation and timing. A user with several held-out
positives counts once, with their mean, so intervals and tests are about users.

Legend: V users with held-out positives, T held-out rows.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ncf.baselines import Baseline
from ncf.config import Experiment
from ncf.data import Dataset
from ncf.errors import NcfError
from ncf.evaluation import EvaluationResult, evaluate_full, evaluate_sampled
from ncf.evaluation.ranking import Scorer
from ncf.evaluation.significance import sums_by_user
from ncf.experiment import RunOptions, train
from ncf.leaderboard.folder import Values
from ncf.leaderboard.search import RULES
from ncf.models import ModelScorer, mask_items
from ncf.runtime import Workers, seed_of
from ncf.serving.artifact import open_artifact
from ncf.tracking.tracker import Silent

MEASURES = ("hr@10", "ndcg@10", "mrr")
TOP = 10
_TIMED_USERS, _TIMED_SECONDS, _WARM = 300, 3.0, 10


@dataclass(frozen=True)
class FittedEntry:
    """A fitted entry: its `scorer`, the `seconds` of fitting without evaluation and writing, and its size in
    `bytes`.
    """

    scorer: Scorer
    seconds: float
    bytes: int


def fit_model(
    dataset: Dataset,
    experiment: Experiment,
    folder: Path,
    data_path: Path,
    halves: Mapping[str, Path],
    stop: Callable[[], bool],
) -> FittedEntry:
    """Train `experiment` on `dataset` in `folder`.

    `data_path` is where the data are, `halves` are finished runs of the `gmf` and `mlp` to fuse, and `stop`
    interrupts training. It always starts from the beginning, so the seconds are those of one uninterrupted
    run.
    """
    clock = _Clock()
    options = RunOptions(overwrite=True, serves=False, verdict=False, tracker=clock, stop=stop)
    run = train(dataset, experiment, folder, data_path=data_path, options=options, **halves)
    artifact = open_artifact(run.artifact)
    size = sum(int(weights.nbytes) for weights in artifact.weights.values())
    return FittedEntry(ModelScorer(artifact.model), clock.seconds, size)


def fit_baseline(
    seen: Dataset, baseline: Baseline, settings: Mapping[str, Any], seed: int, pool: Workers
) -> FittedEntry:
    """Fit `baseline` with `settings` and `seed` on the training positives of `seen`, which include
    validation.
    """
    began = time.perf_counter()
    settings = {**baseline.defaults, **settings}
    fitted = baseline.fit(seen.seen_in_training, len(seen.items), settings, seed, pool)
    return FittedEntry(fitted, time.perf_counter() - began, int(fitted.bytes))


def final_recipe(chosen: Experiment, seed: int, halves: Mapping[str, Experiment]) -> Experiment:
    """The chosen recipe with this seed and the recipes of its halves, trained on validation positives as
    well.
    """
    values = chosen.model_dump(mode="json")
    for half, experiment in halves.items():
        values["pretraining"][half] = experiment.model_dump(mode="json")
    return Experiment.parse(values, [f"train.seed={seed}", 'train.validation="include"'])


def evaluate_final(fitted: FittedEntry, seen: Dataset, pool: Workers) -> tuple[dict[str, Any], Values]:
    """Figures of both protocols on the test rows of `seen`, and values by user.

    Raises `NcfError` where scores are not numbers.
    """
    sampled = evaluate_sampled(fitted.scorer, seen.test, RULES, pool)
    full = evaluate_full(fitted.scorer, seen, seen.test, RULES, pool, TOP)
    if sampled.nonnumbers or full.nonnumbers:
        raise NcfError(
            f"The scores of {max(sampled.nonnumbers, full.nonnumbers):,} test rows are not numbers: training "
            "did not converge."
        )
    values = {f"sampled/{name}": by_user for name, by_user in _by_user(sampled).items()}
    values |= {f"full/{name}": by_user for name, by_user in _by_user(full).items()}
    figures = {name: float(by_user.mean()) for name, by_user in values.items()}
    figures |= {f"full/{name}": value for name, value in full.catalogue.items()}
    return {
        "figures": figures,
        "seconds": round(fitted.seconds, 3),
        "milliseconds": round(milliseconds(fitted.scorer, seen), 4),
        "bytes": fitted.bytes,
        "versions": {"ncf": version("ncf"), "torch": torch.__version__},
    }, values


def _by_user(result: EvaluationResult) -> Values:
    """The mean of each measure over the rows of a user: [V], in the order of user rows."""
    values_MT = np.stack([result.values[name] for name in MEASURES])
    sums_MV, rows_V = sums_by_user(values_MT, result.user_rows)
    return dict(zip(MEASURES, sums_MV / rows_V, strict=True))


def milliseconds(scorer: Scorer, seen: Dataset) -> float:
    """Median milliseconds to find one user's first 10 items in the whole catalogue, with torch on one thread.

    All items are scored with `scorer`, items used in `seen` are masked, and the first 10 are taken, for 300
    random users, or fewer where that takes more than three seconds.
    """
    random = np.random.default_rng(seed_of(0, "timed users"))
    users = random.choice(np.unique(seen.test.user_rows), _TIMED_USERS + _WARM).astype(np.int64)
    threads, taken = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        began = time.perf_counter()
        for user in users:
            start = time.perf_counter()
            _first_items(scorer, seen, user)
            taken.append(time.perf_counter() - start)
            if time.perf_counter() - began > _TIMED_SECONDS and len(taken) > _WARM:
                break
    finally:
        torch.set_num_threads(threads)
    return 1000.0 * float(np.median(taken[_WARM:]))


def _first_items(scorer: Scorer, seen: Dataset, user: np.int64) -> torch.Tensor:
    row = np.array([user])
    with torch.inference_mode():
        scores = scorer.catalogue(torch.from_numpy(row))
        mask_items(scores, seen.seen_in_training, row)
        return scores.topk(min(TOP, scores.shape[1]), dim=1).indices


class _Clock(Silent):
    """Seconds from the start of a run to the end of its last epoch, or of its initialization where it has no
    epochs.
    """

    def __init__(self) -> None:
        self._began = self._ended = time.perf_counter()

    def log(self, sentence: str) -> None:  # noqa: ARG002 - only when matters
        """The last message before the first epoch comes after the initialization."""
        self._ended = time.perf_counter()

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:  # noqa: ARG002 - only when matters
        self._ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._ended - self._began
