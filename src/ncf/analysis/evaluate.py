"""Evaluation of runs on held-out rows: by one protocol, by both, by groups of rows, and two runs compared.

In: runs. Out: `EvaluationResult`s, which hold one value a row, in the same order of rows under both
protocols. The decision worth knowing: the full ranking is reported next to the sampled one wherever it takes
seconds, because sampled metrics can rank models differently from full ones (Krichene & Rendle, KDD'20).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncf.analysis.evaluated_run import EvaluatedRun, open_run
from ncf.baselines.verdict import judge
from ncf.errors import ConfigError, DataError
from ncf.evaluation import Comparison, EvaluationResult, compare, evaluate_full, evaluate_sampled
from ncf.evaluation.held_out import without_cold_users
from ncf.evaluation.slices import Group, by_activity, by_item_count, by_popularity
from ncf.evaluation.top_k import evaluate_top_k
from ncf.models import ModelScorer
from ncf.runtime import choose_threads, workers
from ncf.serving.artifact import Artifact

PROTOCOLS = ("sampled", "full")
WARNING = (
    "Sampled metrics can rank models differently from full ones (Krichene & Rendle, KDD'20): use them to "
    "compare with published figures, and the full ranking to compare your own models."
)
_QUICK_SCORES = 50_000_000


def evaluate(
    path: str | Path,
    data: str | Path | None = None,
    *,
    full: bool = False,
    split: str = "test",
    ties: str | None = None,
    cutoffs: tuple[int, ...] | None = None,
) -> tuple[EvaluationResult, Artifact]:
    """Evaluate a run or an artifact on its held-out rows; the opened artifact is returned with the result.

    `full` ranks the whole catalogue instead of the candidate lists, as data without lists always do; the
    other arguments are those of `open_run`.
    """
    run = open_run(path, data, split=split, ties=ties, cutoffs=cutoffs, other_data=True)
    protocol = run.protocol(full)
    return evaluate_both(run, (protocol,))[protocol], run.artifact


def evaluate_both(run: EvaluatedRun, protocols: Sequence[str] = PROTOCOLS) -> dict[str, EvaluationResult]:
    """The results of `run` by protocol, for the `protocols` that are named."""
    dataset, held_out, rules = run.dataset, run.held_out, run.rules
    scorer = run.scorer
    with workers(choose_threads()) as pool:

        def result_of(protocol: str) -> EvaluationResult:
            if protocol == "sampled":
                return evaluate_sampled(scorer, held_out, rules, pool)
            if held_out.has_lists:
                return evaluate_full(scorer, dataset, held_out, rules, pool)
            return evaluate_top_k(scorer, dataset, run.split, rules, pool)

        return {
            protocol: without_cold_users(result_of(protocol), dataset, run.cold_users)
            for protocol in protocols
        }


def verdict_on(run: EvaluatedRun, results: Mapping[str, EvaluationResult]) -> dict[str, Any] | None:
    """Whether `run` beats popularity and a closed form, as `Verdict.to_json` has it.

    `results` are those of `evaluate_both`. What training recorded is returned where it says the same. A run
    that is judged on other data than its own has no verdict.
    """
    if run.by_ids is not None:
        return None
    recorded: dict[str, Any] | None = run.artifact.metrics.get("verdict")
    same = run.split == "test" and run.rules == run.artifact.experiment.evaluation
    if recorded and same and all(_is_of_all(recorded.get(name)) for name in results):
        return recorded
    rankings = {name: (run.held_out, result) for name, result in results.items()}
    scorer, data = ModelScorer(run.artifact.model), (run.trained_on, run.dataset, run.split)
    with workers(choose_threads()) as pool:
        verdict = judge(scorer, *data, run.rules, pool, rankings, scorer.multiplications)
    return verdict.to_json() if verdict else None


def _is_of_all(standing: dict[str, Any] | None) -> bool:
    """Whether a recorded ranking is there and is not of a sample."""
    return standing is not None and standing["rows"] == standing["total"]


def is_quick(run: EvaluatedRun) -> bool:
    """Whether ranking the whole catalogue takes seconds: at most 50 million scores (ML-1M has 22 million)."""
    return len(run.held_out) * len(run.dataset.items) <= _QUICK_SCORES


def compare_runs(
    a: str | Path, b: str | Path, data: str | Path | None = None, *, full: bool = False, k: int = 10
) -> dict[str, Comparison]:
    """Paired comparisons of two runs on the same held-out rows, for HR@k, NDCG@k and MRR.

    Where the data have no candidate lists these are recall@k and NDCG@k of the full ranking.

    `a` and `b` are runs or artifacts and `data` the prepared folder to judge them on; by default the one that
    they name. `full` ranks the whole catalogue. Raises `DataError` where the runs name different data.
    """
    runs = paired_runs(a, b, data, k)
    return compare_opened(*runs, runs[0].protocol(full))


def paired_runs(
    a: str | Path, b: str | Path, data: str | Path | None = None, k: int = 10
) -> tuple[EvaluatedRun, EvaluatedRun]:
    """Two runs on the same held-out rows, evaluated at the cutoff `k`.

    A run that was trained on other data than `data` is judged through the ids; rows on the record of either
    are left out for both. Raises `DataError` where no `data` are given and the runs have different ones.
    """
    first, second = (open_run(path, data, cutoffs=(k,), other_data=True) for path in (a, b))
    if data is None and first.dataset.digest != second.dataset.digest:
        raise DataError(
            f"{a} and {b} were trained on different data, so their held-out rows cannot be paired: give "
            "--data with the folder to judge both on."
        )
    marks = [run.fresh for run in (first, second) if run.fresh is not None]
    if marks:
        common = np.logical_and.reduce(marks)
        first, second = first.on_rows(common), second.on_rows(common)
    return first, second


def compare_opened(a: EvaluatedRun, b: EvaluatedRun, protocol: str) -> dict[str, Comparison]:
    """As `compare_runs`, for runs of `paired_runs` and a named protocol."""
    first, second = (evaluate_both(run, (protocol,))[protocol] for run in (a, b))
    k = a.rules.cutoffs[0]
    names = (f"hr@{k}", f"ndcg@{k}", "mrr") if "mrr" in first.values else tuple(first.values)
    return {name: compare(first.values[name], second.values[name], users=first.user_rows) for name in names}


Table = dict[str, list[Group]]
"""Groups by protocol."""


def _activity(run: EvaluatedRun, result: EvaluationResult) -> list[Group]:
    counts = run.trained_on.counts[result.user_rows]
    return by_activity(counts, result.values, run.rules.bootstrap, result.user_rows)


def _popularity(run: EvaluatedRun, result: EvaluationResult) -> list[Group]:
    positives, bootstrap = run.held_out.positives, run.rules.bootstrap
    return by_popularity(positives, run.item_counts, result.values, bootstrap, result.user_rows)


def _rarity(run: EvaluatedRun, result: EvaluationResult) -> list[Group]:
    counts = run.item_counts[run.held_out.positives]
    return by_item_count(counts, result.values, run.rules.bootstrap, result.user_rows)


@dataclass(frozen=True)
class Grouping:
    """A way to group held-out rows: `title` names what they are grouped by, `cut` makes the groups."""

    title: str
    cut: Callable[[EvaluatedRun, EvaluationResult], list[Group]]


GROUPS = {
    "activity": Grouping("interactions of the user", _activity),
    "popularity": Grouping("popularity of the held-out item", _popularity),
    "rarity": Grouping("interactions of the held-out item", _rarity),
}
"""Users and items are counted by what the model was trained on, validation positives included where they
were.
"""


def grouped(run: EvaluatedRun, results: Mapping[str, EvaluationResult], by: str) -> Table:
    """The metrics of each group of rows, by protocol.

    `results` are those of `evaluate_both`, `by` is one of `GROUPS`. Raises `ConfigError` for any other name.
    """
    if by not in GROUPS:
        raise ConfigError(f"--by must be one of {', '.join(GROUPS)}, not {by!r}.")
    if by != "activity" and not run.held_out.has_lists:
        raise ConfigError(
            f"--by {by} groups held-out items, and these data are evaluated by user: use --by activity."
        )
    return {protocol: GROUPS[by].cut(run, result) for protocol, result in results.items()}
