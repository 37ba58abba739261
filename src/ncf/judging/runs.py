"""Runs judged on held-out rows: one protocol, both, and two runs against each other.

In: runs. Out: `Judgement`s, with one value a row in the same order of rows under both protocols. The decision worth knowing:
the full ranking stands beside the sampled one wherever it takes seconds, because sampled metrics can put models in
another order than full ones (Krichene & Rendle, KDD'20).
"""

from collections.abc import Sequence
from pathlib import Path

from ncf.errors import DataError
from ncf.evaluation import Comparison, Judgement, compare, judge_full, judge_sampled
from ncf.judging.subject import Subject, open_subject
from ncf.models import Scorer
from ncf.runtime import choose_threads, workers
from ncf.serving.artifact import Artifact

PROTOCOLS = ("sampled", "full")
WARNING = (
    "Sampled metrics can put models in another order than full ones (Krichene & Rendle, KDD'20): "
    "compare with published figures by them, and your own models by the full ranking."
)
_QUICK_SCORES = 50_000_000


def judge(
    path: str | Path,
    data: str | Path | None = None,
    *,
    full: bool = False,
    split: str = "test",
    ties: str | None = None,
    cutoffs: tuple[int, ...] | None = None,
) -> tuple[Judgement, Artifact]:
    """Judge an artifact or run again: on its own data, or on the prepared folder that is given."""
    subject = open_subject(path, data, split=split, ties=ties, cutoffs=cutoffs)
    protocol = "full" if full else "sampled"
    return judge_both(subject, (protocol,))[protocol], subject.artifact


def judge_both(subject: Subject, protocols: Sequence[str] = PROTOCOLS) -> dict[str, Judgement]:
    """The judgement under each of the protocols."""
    scorer, held_out, rules = Scorer(subject.artifact.model), subject.held_out, subject.rules
    with workers(choose_threads()) as pool:
        return {
            protocol: judge_full(scorer, subject.dataset, held_out, rules, pool)
            if protocol == "full"
            else judge_sampled(scorer, held_out, rules, pool)
            for protocol in protocols
        }


def is_quick(subject: Subject) -> bool:
    """Whether ranking the whole catalogue takes seconds: at most 50 million scores (ML-1M has 22 million)."""
    return len(subject.held_out) * len(subject.dataset.items) <= _QUICK_SCORES


def compare_runs(
    a: str | Path, b: str | Path, data: str | Path | None = None, *, full: bool = False, k: int = 10
) -> dict[str, Comparison]:
    """Both runs on the same held-out rows: paired figures for HR@k, NDCG@k and MRR."""
    first, artifact_a = judge(a, data, full=full, cutoffs=(k,))
    second, artifact_b = judge(b, data, full=full, cutoffs=(k,))
    digests = [artifact.manifest["data"]["digest"] for artifact in (artifact_a, artifact_b)]
    if digests[0] != digests[1]:
        raise DataError(
            f"{a} and {b} were trained on different data, so their held-out rows cannot be paired."
        )
    return {
        name: compare(first.values[name], second.values[name], users=first.user_rows)
        for name in (f"hr@{k}", f"ndcg@{k}", "mrr")
    }
