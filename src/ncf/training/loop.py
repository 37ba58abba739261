"""The loop around the trainer: judge after each epoch, stop early, save checkpoints, tell the tracker.

In: a trainer and what to judge it on. Out: the trainer's model with its final weights, and a `FitResult` that says how they
came about. Selection is on validation only; test figures of single epochs are made when asked for, and never used.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ncf.config import EvaluationConfig
from ncf.data import Dataset, HeldOut
from ncf.errors import Interrupted, NcfError
from ncf.evaluation import EvaluationResult
from ncf.tracking.tracker import Tracker
from ncf.training.checkpoint import Checkpoint, Checkpoints
from ncf.training.parallel.communicator import broadcast_checkpoint
from ncf.training.parallel.sharded_checkpoint import forget_tables, load_tables, save_tables
from ncf.training.trainer import EpochResult, Trainer

SELECTION_METRIC = "ndcg@10"


@dataclass
class FitResult:
    """What came out of a run. `history` has one dictionary an epoch; `best` is the epoch kept, None for the last."""

    history: list[dict[str, Any]] = field(default_factory=list)
    best: int | None = None
    best_figure: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stopped_early: bool = False


@dataclass(frozen=True)
class EvaluationPlan:
    """How `fit` judges: the data, the rules, and whether the test figures of every epoch are wanted as well."""

    dataset: Dataset
    evaluation: EvaluationConfig
    every_epoch_on_test: bool = False


def fit(
    trainer: Trainer,
    judging: EvaluationPlan,
    tracker: Tracker,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Train to the end, or to the best epoch on validation where `patience` is set; the model then has its weights.

    Raises `Interrupted` when `stop` asks to end, after a checkpoint was written.
    """
    fitted = FitResult()
    if resume and checkpoints is not None:
        fitted = _resume(trainer, checkpoints, tracker)
    config = trainer.config
    while trainer.position.epoch < config.epochs and not fitted.stopped_early:
        result = trainer.train_epoch(tracker.progress, stop)
        if result is None:
            _save(trainer, fitted, checkpoints)
            raise Interrupted(_farewell(trainer, checkpoints))
        _after_epoch(trainer, judging, fitted, result, tracker)
        last = trainer.position.epoch == config.epochs or fitted.stopped_early
        stopping = trainer.communicator.broadcast(stop()) and not last
        if checkpoints is not None and (last or stopping or result.epoch % config.checkpoint_every == 0):
            _save(trainer, fitted, checkpoints)
        if stopping:
            raise Interrupted(_farewell(trainer, checkpoints))
    if fitted.best is not None:
        trainer.judged.load_state_dict(fitted.best_weights)
        if trainer.sharded is not None:
            trainer.sharded.take_best()
    return fitted


def _after_epoch(
    trainer: Trainer, judging: EvaluationPlan, fitted: FitResult, result: EpochResult, tracker: Tracker
) -> None:
    if not torch.isfinite(torch.tensor(result.loss)):
        raise NcfError(
            f"The loss is no longer a number after epoch {result.epoch}: lower train.learning_rate, "
            "or set train.precision = 'float32'."
        )
    figures: dict[str, Any] = {
        "epoch": result.epoch,
        "loss": result.loss,
        "seconds": round(result.seconds, 3),
        "samples_per_second": round(result.samples / max(result.seconds, 1e-9)),
    }
    quick = judging.evaluation.model_copy(update={"cutoffs": (10,), "bootstrap": 0})
    due = result.epoch % trainer.config.evaluate_every == 0 or result.epoch == trainer.config.epochs
    if due and len(judging.dataset.validation):
        means = _judge(trainer, judging.dataset.validation, quick).means
        figures |= {f"validation_{name}": value for name, value in means.items() if name != "recall@10"}
        _keep_best(trainer, fitted, result.epoch, means[SELECTION_METRIC])
    if judging.every_epoch_on_test:
        means = _judge(trainer, judging.dataset.test, quick).means
        figures |= {f"test_{name}": value for name, value in means.items() if name != "recall@10"}
    fitted.history.append(figures)
    tracker.epoch(result.epoch, {name: value for name, value in figures.items() if name != "epoch"})


def _judge(trainer: Trainer, held_out: HeldOut, evaluation: EvaluationConfig) -> EvaluationResult:
    trainer.communicator.phase(f"judging after epoch {trainer.position.epoch}")
    return trainer.judge(held_out, evaluation)


def _keep_best(trainer: Trainer, fitted: FitResult, epoch: int, figure: float) -> None:
    if not trainer.config.patience:
        return
    if figure > fitted.best_figure:
        fitted.best, fitted.best_figure = epoch, figure
        fitted.best_weights = {name: value.clone() for name, value in trainer.judged.state_dict().items()}
        if trainer.sharded is not None:
            trainer.sharded.keep_best()
    elif fitted.best is not None and epoch - fitted.best >= trainer.config.patience:
        fitted.stopped_early = True


def _save(trainer: Trainer, fitted: FitResult, checkpoints: Checkpoints | None) -> None:
    trainer.communicator.phase(f"writing a checkpoint after epoch {trainer.position.epoch}")
    if checkpoints is None:
        return
    position, sharded = trainer.position, {}
    if trainer.sharded is not None:
        sharded = save_tables(trainer.sharded, checkpoints, position.epoch, position.step)
    if trainer.communicator.rank:
        return
    tensors = trainer.tensors() | {f"best.{name}": value for name, value in fitted.best_weights.items()}
    state = {
        "position": asdict(position),
        "tables": sharded,
        "threads": trainer.workers.threads,
        "processes": trainer.communicator.size,
        "history": fitted.history,
        "best": fitted.best,
        "best_figure": fitted.best_figure,
        "stopped_early": fitted.stopped_early,
    }
    checkpoints.save(position.epoch, position.step, Checkpoint(tensors, state))
    forget_tables(checkpoints)


def _resume(trainer: Trainer, checkpoints: Checkpoints, tracker: Tracker) -> FitResult:
    communicator = trainer.communicator
    communicator.phase("reading a checkpoint")
    checkpoint = broadcast_checkpoint(communicator, None if communicator.rank else checkpoints.latest())
    if checkpoint is None:
        tracker.log(f"There is no checkpoint in {checkpoints.folder} yet: starting from the beginning.")
        return FitResult()
    trainer.restore(checkpoint)
    if trainer.sharded is not None:
        load_tables(trainer.sharded, checkpoints, checkpoint.state["tables"])
    position, state = trainer.position, checkpoint.state
    tracker.log(f"Resumed after {position.epoch} epochs and {position.step} steps.")
    made, now = (state["processes"], state["threads"]), (communicator.size, trainer.workers.threads)
    if made != now:
        tracker.log(
            f"The checkpoint was made by {made[0]} processes with {made[1]} threads each and this run has {now[0]} with "
            f"{now[1]}: losses will agree closely, not to the last bit (--nproc and train.threads make them equal)."
        )
    return FitResult(
        state["history"], state["best"], state["best_figure"], checkpoint.part("best"), state["stopped_early"]
    )


def _farewell(trainer: Trainer, checkpoints: Checkpoints | None) -> str:
    position = trainer.position
    where = f"Stopped after {position.epoch} epochs and {position.step} steps of the next"
    if checkpoints is None:
        return f"{where}; nothing was saved, since no output folder was given."
    return f"{where}; the checkpoint is in {checkpoints.folder}: run the same command with --resume to go on."
