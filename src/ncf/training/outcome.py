"""What a training came to: its metrics, the epoch whose weights were kept, and the verdict.

In: the trained model and its evaluations. Out: the content of `metrics.json`. The decision worth knowing: the
number of the kept epoch is recorded beside the sentence about it, as a final fit repeats that many.
"""

from copy import deepcopy
from typing import Any

from ncf.baselines.verdict import judge
from ncf.evaluation import EvaluationResult
from ncf.evaluation.slices import sorted_by_user
from ncf.models import ModelScorer
from ncf.training.loop import EvaluationPlan, FitResult
from ncf.training.trainer import Trainer


def measure(plan: EvaluationPlan, fitted: FitResult, tested: EvaluationResult) -> dict[str, Any]:
    """`metrics.json` of the artifact, but for the seconds and the verdict."""
    metrics: dict[str, Any] = {
        "test": tested.to_json(),
        "selected": selected(fitted),
        "selected_epoch": kept_epoch(fitted),
    }
    if len(plan.dataset.validation):
        metrics["validation"] = plan.evaluate(plan.dataset.validation, plan.rules).to_json()
    shown = (
        ("test_hr@10", "test_ndcg@10") if plan.dataset.test.has_lists else ("test_recall@20", "test_ndcg@20")
    )
    best = max(
        (row for row in fitted.history if shown[0] in row), key=lambda row: row[shown[0]], default=None
    )
    if best is not None:
        metrics["best_on_test"] = {
            "warning": "chosen on the test set, as in many papers: optimistic, not an estimate",
            **{name: best[name] for name in ("epoch", *shown)},
        }
    metrics["history"] = fitted.history
    return metrics


def quoted(judged: dict[str, Any], mark: dict[str, Any], fitted: FitResult) -> dict[str, Any]:
    """`metrics.json` of a final fit: the figures of its `judged` twin, named by `mark`."""
    metrics: dict[str, Any] = {"final": mark}
    for name in ("test", "validation"):
        if name in judged:
            metrics[name] = {**judged[name], "of": mark["twin"]}
    after = f"epoch {mark['epochs']}" if mark["epochs"] else "the start"
    metrics["selected"] = f"{after}, as in the judged twin {mark['twin']}"
    metrics["selected_epoch"] = mark["epochs"]
    return metrics | {"verdict": judged.get("verdict"), "history": fitted.history}


def verdict_on_trained(
    trainer: Trainer, plan: EvaluationPlan, tested: EvaluationResult
) -> dict[str, Any] | None:
    """The verdict on the trained model as JSON values; process 0 makes it, with the rows `tested` already."""
    if trainer.communicator.rank or not len(plan.dataset.test):
        return None
    data, scorer, cost = plan.dataset, None, 0
    if not trainer.tables.collective:  # else no process can score every item
        model = trainer.evaluated_model
        scorer = ModelScorer(model if trainer.sampler.device.type == "cpu" else deepcopy(model).cpu())
        cost = scorer.multiplications
    rows = data.test if data.test.has_lists else sorted_by_user(data.test)
    results = {tested.protocol: (rows, tested)}
    verdict = judge(scorer, data.seen_in_training, data, "test", plan.rules, trainer.workers, results, cost)
    return verdict.to_json() if verdict else None


def selected(fitted: FitResult) -> str:
    """Which weights were kept, in words."""
    if fitted.best == 0:
        return "the start, which no epoch improved on validation"
    if fitted.best is not None:
        return f"epoch {fitted.best}, the best on validation"
    return f"epoch {kept_epoch(fitted)}, the last" if fitted.history else "the start, not trained on"


def kept_epoch(fitted: FitResult) -> int:
    """The number of epochs behind the kept weights, 0 for the start."""
    if fitted.best is not None:
        return fitted.best
    return int(fitted.history[-1]["epoch"]) if fitted.history else 0
