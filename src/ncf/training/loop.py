"""The loop around the trainer: evaluate each epoch, stop early, save checkpoints, report to the tracker.

In: a trainer and an `EvaluationPlan`. Out: the trainer's model with its final weights, and a `FitResult` that
says how they came about. The decision worth knowing: epochs are selected on validation only. Test metrics of
single epochs are computed when asked for, and never used.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ncf.config import EvaluationConfig
from ncf.data import Dataset, HeldOut
from ncf.data.tables import Stage
from ncf.errors import Interrupted, NcfError
from ncf.evaluation import EvaluationResult, evaluate_held_out
from ncf.models import ModelScorer
from ncf.tracking.tracker import Tracker
from ncf.training.checkpoint import Checkpoint, Checkpoints, add_prefix, part
from ncf.training.parallel.communicator import broadcast_checkpoint
from ncf.training.trainer import EpochResult, Trainer

SELECTION_METRIC = "ndcg@10"
_VALIDATION_SCORES = 2**27
"""Most scores of a full ranking on validation by a model with layers: one to two minutes of a processor."""
Evaluate = Callable[[HeldOut, EvaluationConfig], EvaluationResult]
"""Ranks the positives of held-out rows among their candidates, or among all items where they have none; of
several processes all call it.
"""


@dataclass
class FitResult:
    """How the weights came about: one dictionary an epoch, and the epoch kept (None: the last)."""

    history: list[dict[str, Any]] = field(default_factory=list)
    best: int | None = None
    best_value: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stopped_early: bool = False


@dataclass(frozen=True)
class EvaluationPlan:
    """What `fit` evaluates after an epoch, and with what."""

    evaluate: Evaluate
    dataset: Dataset
    rules: EvaluationConfig
    every_epoch_on_test: bool = False


def evaluator(trainer: Trainer) -> Evaluate:
    """Evaluates the trainer's model as it is when called, on the trainer's threads, device and processes."""

    def evaluate(held_out: HeldOut, rules: EvaluationConfig) -> EvaluationResult:
        tables, dataset = trainer.tables, trainer.dataset
        stage: Stage = "validation" if held_out is dataset.validation else "test"
        score, most_users = tables.scorer(trainer.evaluated_model), None
        if stage == "validation" and isinstance(score, ModelScorer) and score.has_layers:
            most_users = max(1, _VALIDATION_SCORES // len(dataset.items))
        return evaluate_held_out(
            score,
            dataset,
            stage,
            rules,
            trainer.workers,
            trainer.sampler.device,
            trainer.communicator,
            tables.collective,
            most_users,
        )

    return evaluate


def fit(
    trainer: Trainer,
    plan: EvaluationPlan,
    tracker: Tracker,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    start_counts: bool = False,
    epochs: int | None = None,
    keep_best: bool = False,
) -> FitResult:
    """Train to the end, or with `train.patience` to the best epoch on validation, whose weights are kept.

    Where `start_counts`, the first values are evaluated as epoch 0, so no epoch is kept that is worse. After
    `epochs` training ends, with a learning rate on its way through those of the settings. `keep_best` keeps
    the best epoch on validation without `train.patience` too.

    `resume` goes on from the newest of the `checkpoints`, if there is one; without `checkpoints` nothing is
    saved. `tracker` is told of every step and epoch. Raises `Interrupted` when `stop` says so, after a
    checkpoint was written, and `NcfError` when the loss is no longer a number.
    """
    fitted = FitResult()
    if resume and checkpoints is not None:
        fitted = _resume(trainer, checkpoints, tracker)
    config, wanted = trainer.config, trainer.config.epochs if epochs is None else epochs
    keep_best = keep_best or config.patience > 0
    if start_counts and keep_best and not fitted.history and trainer.position.step == 0:
        _evaluate_start(trainer, plan, fitted, tracker)
    while trainer.position.epoch < wanted and not fitted.stopped_early:
        with tracker.phase("epoch", trainer.position.epoch + 1, wanted):
            result = trainer.train_epoch(tracker.progress, stop)
        if result is None:
            _save(trainer, fitted, checkpoints)
            raise Interrupted(_farewell(trainer, checkpoints))
        _after_epoch(trainer, plan, fitted, result, tracker, keep_best)
        last = trainer.position.epoch == wanted or fitted.stopped_early
        # Process 0 decides for all: a signal may reach the others a moment later.
        stopping = trainer.communicator.broadcast(stop()) and not last
        if last or stopping or result.epoch % config.checkpoint_every == 0:
            _save(trainer, fitted, checkpoints)
        if stopping:
            raise Interrupted(_farewell(trainer, checkpoints))
    if fitted.best is not None:
        trainer.evaluated_model.load_state_dict(fitted.best_weights)
        trainer.tables.take_best()
    return fitted


def _evaluate_start(trainer: Trainer, plan: EvaluationPlan, fitted: FitResult, tracker: Tracker) -> None:
    if not len(plan.dataset.validation):
        return
    trainer.communicator.phase("evaluating the start")
    with tracker.phase("validation", 0, trainer.config.epochs):
        means = _means_at_10(plan, plan.dataset.validation)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
    tracker.log(f"The start has {figures} on validation; an epoch is kept only if it is better.")
    _keep_best(trainer, fitted, 0, means[SELECTION_METRIC])


def _after_epoch(
    trainer: Trainer,
    plan: EvaluationPlan,
    fitted: FitResult,
    result: EpochResult,
    tracker: Tracker,
    keep_best: bool,
) -> None:
    if not math.isfinite(result.loss):
        raise NcfError(
            f"The loss is no longer a number after epoch {result.epoch}: lower train.learning_rate, "
            "or set train.precision = 'float32'."
        )
    row: dict[str, Any] = {
        "epoch": result.epoch,
        "loss": result.loss,
        "seconds": round(result.seconds, 3),
        "samples_per_second": round(result.samples / max(result.seconds, 1e-9)),
    }
    due = result.epoch % trainer.config.evaluate_every == 0 or result.epoch == trainer.config.epochs
    trainer.communicator.phase(f"evaluating after epoch {result.epoch}")
    if due and len(plan.dataset.validation):
        with tracker.phase("validation", result.epoch, trainer.config.epochs):
            means = _means_at_10(plan, plan.dataset.validation)
        row |= {f"validation_{name}": value for name, value in means.items()}
        if keep_best:
            _keep_best(trainer, fitted, result.epoch, means[SELECTION_METRIC])
    if plan.every_epoch_on_test:
        with tracker.phase("test", result.epoch, trainer.config.epochs):
            means = _means_at_10(plan, plan.dataset.test)
        row |= {f"test_{name}": value for name, value in means.items()}
    fitted.history.append(row)
    tracker.epoch(result.epoch, {name: value for name, value in row.items() if name != "epoch"})


def _means_at_10(plan: EvaluationPlan, held_out: HeldOut) -> dict[str, float]:
    """What an epoch is followed by: metrics at 10, without intervals, which take longer than the epoch.

    Where all items are ranked there are also those at 20, which papers report.
    """
    cutoffs = (10,) if held_out.has_lists else (10, 20)
    quick = plan.rules.model_copy(update={"cutoffs": cutoffs, "bootstrap": 0})
    means = plan.evaluate(held_out, quick).means
    return {name: value for name, value in means.items() if name != "recall@10"}


def _keep_best(trainer: Trainer, fitted: FitResult, epoch: int, value: float) -> None:
    """Remember the weights of the best epoch so far, or stop where none was better for `patience` epochs."""
    if value > fitted.best_value:
        fitted.best, fitted.best_value = epoch, value
        fitted.best_weights = {
            name: tensor.clone() for name, tensor in trainer.evaluated_model.state_dict().items()
        }
        trainer.tables.keep_best()
    elif fitted.best is not None and 0 < trainer.config.patience <= epoch - fitted.best:
        fitted.stopped_early = True


def _save(trainer: Trainer, fitted: FitResult, checkpoints: Checkpoints | None) -> None:
    trainer.communicator.phase(f"writing a checkpoint after epoch {trainer.position.epoch}")
    if checkpoints is None:
        return
    position, tables = trainer.position, trainer.tables
    # All processes write their rows of sharded tables; the rest is the same on all, and process 0 writes it.
    stored = tables.save(checkpoints, position.epoch, position.step)
    if trainer.communicator.rank:
        return
    state = {
        "position": asdict(position),
        "tables": stored,
        "threads": trainer.workers.threads,
        "processes": trainer.communicator.size,
        "history": fitted.history,
        "best": fitted.best,
        "best_figure": fitted.best_value,
        "stopped_early": fitted.stopped_early,
    }
    tensors = trainer.tensors() | add_prefix("best", fitted.best_weights)
    checkpoints.save(position.epoch, position.step, Checkpoint(tensors, state))
    # Only now, since an older checkpoint is needed until the new one is whole.
    tables.forget(checkpoints)


def _resume(trainer: Trainer, checkpoints: Checkpoints, tracker: Tracker) -> FitResult:
    communicator = trainer.communicator
    communicator.phase("reading a checkpoint")
    checkpoint = broadcast_checkpoint(communicator, None if communicator.rank else checkpoints.latest())
    if checkpoint is None:
        tracker.log(f"There is no checkpoint in {checkpoints.folder} yet: starting from the beginning.")
        return FitResult()
    position, state = trainer.restore(checkpoint), checkpoint.state
    trainer.tables.load(checkpoints, state["tables"])
    tracker.log(f"Resumed after {position.epoch} epochs and {position.step} steps.")
    made, now = (state["processes"], state["threads"]), (communicator.size, trainer.workers.threads)
    if made != now:
        tracker.log(
            f"The checkpoint was made by {made[0]} processes with {made[1]} threads each, and this run has "
            f"{now[0]} with {now[1]}. Losses will agree closely, but not to the last bit; for that, set "
            "--nproc and train.threads as they were."
        )
    best_weights = part(checkpoint.tensors, "best")
    return FitResult(
        state["history"], state["best"], state["best_figure"], best_weights, state["stopped_early"]
    )


def _farewell(trainer: Trainer, checkpoints: Checkpoints | None) -> str:
    position = trainer.position
    where = f"Stopped after {position.epoch} epochs and {position.step} steps of the next"
    if checkpoints is None:
        return f"{where}; nothing was saved, since no output folder was given."
    return (
        f"{where}; the checkpoint is in {checkpoints.folder}: run the same command with --resume to continue."
    )
