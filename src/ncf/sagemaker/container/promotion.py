"""Decides whether to register a new model: a paired test against its rival on the same held-out rows.

In: the new artifact, the prepared data that it was trained on, and the registered model (the champion) or
None. Out: a document that is written as `evaluation.json`.

The decision worth knowing is what happens when the champion was trained on other data, as in every weekly
retraining. It is evaluated on the *new* candidate lists by the caller's ids (`ncf.evaluation.cross_dataset`).
Rows whose held-out item is in the champion's history of that user are left out, since it may have been
trained on them. Where fewer than `FEWEST_ROWS` remain, all rows count, which can only favour the champion.
Without a champion the rival is popularity.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ncf.baselines.non_personalized import PopularityScorer
from ncf.config import EvaluationConfig
from ncf.data import Dataset, HeldOut
from ncf.errors import DataError
from ncf.evaluation import Comparison, EvaluationResult, compare, evaluate_sampled
from ncf.evaluation.cross_dataset import TranslatedScorer, rows_at
from ncf.evaluation.ranking import Scorer
from ncf.models import ModelScorer
from ncf.runtime import Workers, choose_threads, workers
from ncf.sagemaker.container.criteria import PromotionCriteria
from ncf.serving.artifact import Artifact

FEWEST_ROWS = 200
METRIC = "ndcg@10"
"""What decides; the other figures are for information."""
COMPARED = ("hr@10", METRIC, "mrr")


@dataclass(frozen=True)
class _Rival:
    """What the new model is compared with, on which rows, and why on those."""

    kind: str
    name: str
    scorer: Scorer
    rows: HeldOut
    why: str


def evaluate(
    artifact: Artifact, dataset: Dataset, champion: Artifact | None, bar: PromotionCriteria
) -> dict[str, Any]:
    """Compare the model of `artifact` with the champion, or with popularity, and return evaluation.json's
    document.

    `dataset` is what the model was trained on, `bar` what it must reach. Raises `DataError` for other data,
    or data without test interactions.
    """
    if artifact.manifest["data"]["digest"] != dataset.digest:
        raise DataError(f"The model was not trained on the data to evaluate it on ({dataset.name}).")
    if not len(dataset.test):
        raise DataError("The data hold no test interactions: prepare them with a split that does.")
    rules = _rules(artifact.experiment.evaluation)
    rival = _popularity(dataset) if champion is None else _champion(champion, dataset)
    with workers(choose_threads()) as pool:
        own = evaluate_sampled(ModelScorer(artifact.model), dataset.test, rules, pool)
        pair = _pair(artifact, rival, rules, pool)
    users = pair[0].user_rows
    comparisons = {
        name: compare(pair[1].values[name], pair[0].values[name], users=users) for name in COMPARED
    }
    sentence, better = _verdict(own, comparisons[METRIC], rival, bar)
    return _document(artifact, champion, own, rival, comparisons, bar, sentence, better)


def _rules(rules: EvaluationConfig) -> EvaluationConfig:
    cutoffs = tuple(sorted({*rules.cutoffs, 10}))
    return EvaluationConfig.checked(rules.model_dump() | {"cutoffs": cutoffs}, "evaluation")


def _popularity(dataset: Dataset) -> _Rival:
    why = "no model is approved yet, so the rival is popularity"
    return _Rival("popularity", "popularity", PopularityScorer(dataset.popularity), dataset.test, why)


def _champion(champion: Artifact, dataset: Dataset) -> _Rival:
    scorer = ModelScorer(champion.model)
    name = champion.experiment.name
    if champion.manifest["data"]["digest"] == dataset.digest:
        return _Rival("champion", name, scorer, dataset.test, "both were trained on the same data")
    popularity = champion.item_columns["popularity"].to_numpy()
    by_ids = TranslatedScorer(
        scorer, champion.users, champion.items, popularity, dataset, champion.untrained_users
    )
    fresh = ~by_ids.on_record(champion.seen, dataset.test)
    if int(fresh.sum()) >= FEWEST_ROWS:
        why = "the approved model was trained on other data; rows that are new to it, paired by ids"
        return _Rival("champion", name, by_ids, rows_at(dataset.test, fresh), why)
    why = (
        f"the approved model was trained on other data, and only {int(fresh.sum())} rows are new to it; "
        "all rows, paired by ids, which favours it"
    )
    return _Rival("champion", name, by_ids, dataset.test, why)


def _pair(
    artifact: Artifact, rival: _Rival, rules: EvaluationConfig, pool: Workers
) -> tuple[EvaluationResult, EvaluationResult]:
    quick = EvaluationConfig.checked(rules.model_dump() | {"bootstrap": 0}, "evaluation")
    ours = evaluate_sampled(ModelScorer(artifact.model), rival.rows, quick, pool)
    return ours, evaluate_sampled(rival.scorer, rival.rows, quick, pool)


def _verdict(
    own: EvaluationResult, result: Comparison, rival: _Rival, bar: PromotionCriteria
) -> tuple[str, bool]:
    """The sentence that explains the decision, and whether to register."""
    figures = (
        f"NDCG@10 {result.mean_b:.4f} against {result.mean_a:.4f} of {rival.name} on {len(rival.rows):,} "
        f"rows ({result.difference:+.4f}, 95% interval {result.low:+.4f} to {result.high:+.4f}, p "
        f"{result.p_value:.4f})"
    )
    if own.nonnumbers:
        return f"Not registered: {own.nonnumbers} lists have scores that are not numbers.", False
    if own.means[METRIC] < bar.floor:
        return f"Not registered: NDCG@10 {own.means[METRIC]:.4f} is below the floor of {bar.floor:g}.", False
    if result.p_value >= bar.alpha:
        return f"Not registered: no clear difference at alpha {bar.alpha:g}: {figures}.", False
    if result.difference <= bar.minimum_gain:
        return f"Not registered: the gain is not above {bar.minimum_gain:g}: {figures}.", False
    return f"Better: {figures}.", True


def _document(
    artifact: Artifact,
    champion: Artifact | None,
    own: EvaluationResult,
    rival: _Rival,
    comparisons: dict[str, Comparison],
    bar: PromotionCriteria,
    sentence: str,
    better: bool,
) -> dict[str, Any]:
    deciding = comparisons[METRIC]
    return {
        "version": 1.0,
        "ranking_metrics": {name: _figure(own, name) for name in own.means},
        "candidate": _identity(artifact),
        "rival": {"kind": rival.kind, "name": rival.name, **(_identity(champion) if champion else {})},
        "rows": {"judged": len(own.values[METRIC]), "compared": len(rival.rows), "why": rival.why},
        "comparison": {name: asdict(result) for name, result in comparisons.items()},
        "difference": deciding.difference,
        "p_value": deciding.p_value,
        "bar": asdict(bar),
        "better": better,
        "verdict": {"register": int(better), "sentence": sentence},
        "properties": _properties(artifact, own.means, deciding, rival),
    }


def _figure(own: EvaluationResult, name: str) -> dict[str, Any]:
    """A value in the form of SageMaker's model quality reports, with our interval."""
    values = own.values[name]
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    figure = {"value": own.means[name], "standard_deviation": error}
    return figure | ({"interval": list(own.intervals[name])} if name in own.intervals else {})


def _identity(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    return {name: manifest[name] for name in ("created", "experiment", "data", "versions")}


def _properties(
    artifact: Artifact, means: Mapping[str, float], result: Comparison, rival: _Rival
) -> dict[str, str]:
    """What the registry shows with a package: texts of at most 256 characters."""
    manifest = artifact.manifest
    return {
        "recipe": manifest["experiment"]["name"],
        "experiment_digest": manifest["experiment"]["digest"],
        "data_name": manifest["data"]["name"][:256],
        "data_digest": manifest["data"]["digest"],
        "hr_at_10": f"{means['hr@10']:.4f}",
        "ndcg_at_10": f"{means[METRIC]:.4f}",
        "rival": rival.name[:256],
        "gain": f"{result.difference:+.4f}",
        "p_value": f"{result.p_value:.4f}",
    }
