"""Runs judged on held-out rows: one protocol, both, and two runs against each other.

In: runs. Out: `EvaluationResult`s, with one value a row in the same order of rows under both protocols. The decision worth knowing:
the full ranking stands beside the sampled one wherever it takes seconds, because sampled metrics can put models in
another order than full ones (Krichene & Rendle, KDD'20).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncf.analysis.evaluated_run import EvaluatedRun, open_subject
from ncf.errors import ConfigError, DataError
from ncf.evaluation import Comparison, EvaluationResult, compare, evaluate_full, evaluate_sampled
from ncf.evaluation.slices import Group, by_activity, by_item_count, by_popularity
from ncf.models import ModelScorer
from ncf.runtime import choose_threads, workers
from ncf.serving.artifact import Artifact

PROTOCOLS = ("sampled", "full")
WARNING = (
    "Sampled metrics can put models in another order than full ones (Krichene & Rendle, KDD'20): "
    "compare with published figures by them, and your own models by the full ranking."
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
    """Judge an artifact or run again: on its own data, or on the prepared folder that is given."""
    subject = open_subject(path, data, split=split, ties=ties, cutoffs=cutoffs)
    protocol = "full" if full else "sampled"
    return evaluate_both(subject, (protocol,))[protocol], subject.artifact


def evaluate_both(subject: EvaluatedRun, protocols: Sequence[str] = PROTOCOLS) -> dict[str, EvaluationResult]:
    """The judgement under each of the protocols."""
    scorer, held_out, rules = ModelScorer(subject.artifact.model), subject.held_out, subject.rules
    with workers(choose_threads()) as pool:
        return {
            protocol: evaluate_full(scorer, subject.dataset, held_out, rules, pool)
            if protocol == "full"
            else evaluate_sampled(scorer, held_out, rules, pool)
            for protocol in protocols
        }


def is_quick(subject: EvaluatedRun) -> bool:
    """Whether ranking the whole catalogue takes seconds: at most 50 million scores (ML-1M has 22 million)."""
    return len(subject.held_out) * len(subject.dataset.items) <= _QUICK_SCORES


def compare_runs(
    a: str | Path, b: str | Path, data: str | Path | None = None, *, full: bool = False, k: int = 10
) -> dict[str, Comparison]:
    """Both runs on the same held-out rows: paired figures for HR@k, NDCG@k and MRR."""
    first, artifact_a = evaluate(a, data, full=full, cutoffs=(k,))
    second, artifact_b = evaluate(b, data, full=full, cutoffs=(k,))
    digests = [artifact.manifest["data"]["digest"] for artifact in (artifact_a, artifact_b)]
    if digests[0] != digests[1]:
        raise DataError(
            f"{a} and {b} were trained on different data, so their held-out rows cannot be paired."
        )
    return {
        name: compare(first.values[name], second.values[name], users=first.user_rows)
        for name in (f"hr@{k}", f"ndcg@{k}", "mrr")
    }


Table = dict[str, list[Group]]
"""Groups by protocol."""


def _activity(subject: EvaluatedRun, judgement: EvaluationResult) -> list[Group]:
    counts = subject.trained_on.counts[subject.held_out.user_rows]
    return by_activity(counts, judgement.values, subject.rules.bootstrap, judgement.user_rows)


def _popularity(subject: EvaluatedRun, judgement: EvaluationResult) -> list[Group]:
    return by_popularity(
        subject.held_out.positives,
        subject.item_counts,
        judgement.values,
        subject.rules.bootstrap,
        judgement.user_rows,
    )


def _rarity(subject: EvaluatedRun, judgement: EvaluationResult) -> list[Group]:
    counts = subject.item_counts[subject.held_out.positives]
    return by_item_count(counts, judgement.values, subject.rules.bootstrap, judgement.user_rows)


@dataclass(frozen=True)
class Grouping:
    """What rows are grouped by, in words, and how."""

    title: str
    cut: Callable[[EvaluatedRun, EvaluationResult], list[Group]]


GROUPS = {
    "activity": Grouping("interactions of the user", _activity),
    "popularity": Grouping("popularity of the held-out item", _popularity),
    "rarity": Grouping("interactions of the held-out item", _rarity),
}


def grouped(subject: EvaluatedRun, judged: Mapping[str, EvaluationResult], by: str) -> Table:
    """Groups by protocol; `by` is one of `GROUPS`."""
    if by not in GROUPS:
        raise ConfigError(f"--by must be one of {', '.join(GROUPS)}, not {by!r}.")
    return {protocol: GROUPS[by].cut(subject, judgement) for protocol, judgement in judged.items()}
