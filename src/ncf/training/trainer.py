"""One training run: `Trainer.train_epoch` moves the weights, `fit` adds judging, stopping, checkpoints and tracking.

After every epoch the trainer's model is usable as it is. Whoever stops a run in the middle of an epoch gets it back
from the same step, to the same losses: the order of the positives, the negatives and the dropout masks all follow
from (seed, epoch, step).
"""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ncf.config import EvaluationConfig, TrainConfig
from ncf.data import Dataset
from ncf.errors import ConfigError, Interrupted, NcfError
from ncf.evaluation.protocol import Judgement, judge_sampled
from ncf.models import Model, Scorer
from ncf.runtime import Workers, choose_precision, generator
from ncf.training.checkpoint import Checkpoint, Checkpoints
from ncf.training.kernels import Batch, Objective, loss_and_gradients
from ncf.training.losses import LOSSES
from ncf.training.optimizers import Optimizer, lazy_tables, learning_rate, tables
from ncf.training.rows import Rows
from ncf.training.sampling import GroupSampler
from ncf.training.tracking import Tracker

_CPU_CHUNK = 1024
_DEVICE_CHUNK = 2**20
SELECTION_METRIC = "ndcg@10"


@dataclass
class Position:
    """Where a run is: whole epochs done, steps done of the next, and the loss summed over its terms so far."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    terms: int = 0


@dataclass(frozen=True)
class EpochResult:
    """`loss` is the mean over all terms of the epoch; `samples` are the logits trained on since the last start."""

    epoch: int
    loss: float
    seconds: float
    samples: int


Progress = Callable[[int, int, int], None]


class Trainer:
    """The model, its optimiser and its place in the run. One verb: `train_epoch`."""

    def __init__(self, dataset: Dataset, model: Model, config: TrainConfig, workers: Workers) -> None:
        device = next(model.parameters()).device
        self.model, self.config, self.workers = model, config, workers
        self.position = Position()
        self.lazy = lazy_tables(model, config.optimizer)
        if self.lazy and config.averaging:
            raise ConfigError(
                f"train.averaging keeps a second copy of every row in step, which the lazy update of "
                f"{', '.join(sorted(self.lazy))} does not allow: set train.averaging = 0 or train.optimizer = 'dense'."
            )
        self.optimizer = Optimizer(model, config, self.lazy)
        self.average = copy.deepcopy(model) if config.averaging else None
        self.sampler = GroupSampler(
            dataset,
            batch_size=config.batch_size,
            negatives=config.negatives,
            exponent=config.popularity_exponent if config.sampler == "popularity" else 0.0,
            exclude=config.exclude,
            seed=config.seed,
            device=device,
        )
        self.objective = Objective(
            LOSSES[config.loss],
            config.l2_gmf,
            config.l2_mlp,
            choose_precision(config.precision, device),
            _CPU_CHUNK if device.type == "cpu" else _DEVICE_CHUNK,
        )
        named = tables(model)
        self._lazy_users = any(name in self.lazy for name in named if name.endswith("user_table"))
        self._lazy_items = any(name in self.lazy for name in named if name.endswith("item_table"))

    @property
    def judged(self) -> Model:
        """The model that is judged and kept: the averaged weights where they are on, else the weights."""
        return self.model if self.average is None else self.average

    def train_epoch(
        self, progress: Progress | None = None, stop: Callable[[], bool] = lambda: False
    ) -> EpochResult | None:
        """Train to the end of the epoch. None when `stop` asked to end before; `position` then says where it is."""
        position, began, samples = self.position, time.perf_counter(), 0
        losses: list[Tensor] = []
        for block in self.sampler.epoch(position.epoch, self.workers, position.step):
            for step, users_B, items_BC in block.steps(self.sampler.batch_size):
                if step < position.step:
                    continue
                losses.append(self._step(step, users_B, items_BC))
                position.step = step + 1
                position.terms += self.objective.loss.terms(*items_BC.shape)
                samples += items_BC.numel()
                if progress is not None:
                    progress(position.epoch, position.step, self.sampler.steps)
                if position.step < self.sampler.steps and stop():
                    self._settle(losses)
                    return None
        self._settle(losses)
        result = EpochResult(
            position.epoch + 1, position.loss / max(1, position.terms), time.perf_counter() - began, samples
        )
        self.position = Position(epoch=position.epoch + 1)
        return result

    def _settle(self, losses: list[Tensor]) -> None:
        """Add the losses one by one, so that a stopped and resumed epoch adds the same numbers in the same order."""
        for loss in torch.stack(losses).double().tolist() if losses else []:
            self.position.loss += loss

    def _step(self, step: int, users_B: Tensor, items_BC: Tensor) -> Tensor:
        batch = Batch(
            Rows.used(users_B) if self._lazy_users else Rows.whole(users_B, self._table_rows("user_table")),
            Rows.used(items_BC) if self._lazy_items else Rows.whole(items_BC, self._table_rows("item_table")),
        )
        loss, gradients = loss_and_gradients(
            self.model, batch, self.objective, self.workers, self._dropout_generators(step)
        )
        done = self.position.epoch * self.sampler.steps + step
        rate = learning_rate(self.config, done, self.config.epochs * self.sampler.steps)
        self.optimizer.step(gradients, rate)
        self._update_average(done)
        return loss

    def _table_rows(self, kind: str) -> int:
        return next(len(table) for name, table in tables(self.model).items() if name.endswith(kind))

    def _dropout_generators(self, step: int) -> list[torch.Generator]:
        seed, epoch, device = self.config.seed, self.position.epoch, self.sampler.device
        return [
            generator(seed, "dropout", epoch, step, n, device=device) for n in range(self.workers.threads)
        ]

    @torch.no_grad()
    def _update_average(self, done: int) -> None:
        """Exponential moving average; the first steps average over what there is."""
        if self.average is None:
            return
        decay = min(self.config.averaging, (1 + done) / (10 + done))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1.0 - decay)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on."""
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        state |= {f"optimizer.{name}": value for name, value in self.optimizer.state().items()}
        if self.average is not None:
            state |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        return state

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where the checkpoint was taken."""
        self.model.load_state_dict(checkpoint.part("model"))
        self.optimizer.load_state(checkpoint.part("optimizer"))
        if self.average is not None:
            self.average.load_state_dict(checkpoint.part("average"))
        self.position = Position(**checkpoint.state["position"])


@dataclass
class Fit:
    """What came out of a run. `history` has one dictionary an epoch; `best` is the epoch kept, None for the last."""

    history: list[dict[str, Any]] = field(default_factory=list)
    best: int | None = None
    best_figure: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stopped_early: bool = False


@dataclass(frozen=True)
class Judging:
    """How `fit` judges: the data, the rules, and whether the test figures of every epoch are wanted as well."""

    dataset: Dataset
    evaluation: EvaluationConfig
    every_epoch_on_test: bool = False


def fit(
    trainer: Trainer,
    judging: Judging,
    tracker: Tracker,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Fit:
    """Train to the end, or to the best epoch on validation where `patience` is set; the model then has its weights.

    Raises `Interrupted` when `stop` asks to end, after a checkpoint was written.
    """
    fitted = Fit()
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
        stopping = stop() and not last
        if checkpoints is not None and (last or stopping or result.epoch % config.checkpoint_every == 0):
            _save(trainer, fitted, checkpoints)
        if stopping:
            raise Interrupted(_farewell(trainer, checkpoints))
    if fitted.best is not None:
        trainer.judged.load_state_dict(fitted.best_weights)
    return fitted


def _after_epoch(
    trainer: Trainer, judging: Judging, fitted: Fit, result: EpochResult, tracker: Tracker
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


def _judge(trainer: Trainer, held_out: Any, evaluation: EvaluationConfig) -> Judgement:
    return judge_sampled(
        Scorer(trainer.judged), held_out, evaluation, trainer.workers, trainer.sampler.device
    )


def _keep_best(trainer: Trainer, fitted: Fit, epoch: int, figure: float) -> None:
    if not trainer.config.patience:
        return
    if figure > fitted.best_figure:
        fitted.best, fitted.best_figure = epoch, figure
        fitted.best_weights = {name: value.clone() for name, value in trainer.judged.state_dict().items()}
    elif fitted.best is not None and epoch - fitted.best >= trainer.config.patience:
        fitted.stopped_early = True


def _save(trainer: Trainer, fitted: Fit, checkpoints: Checkpoints | None) -> None:
    if checkpoints is None:
        return
    tensors = trainer.tensors() | {f"best.{name}": value for name, value in fitted.best_weights.items()}
    state = {
        "position": asdict(trainer.position),
        "threads": trainer.workers.threads,
        "history": fitted.history,
        "best": fitted.best,
        "best_figure": fitted.best_figure,
        "stopped_early": fitted.stopped_early,
    }
    checkpoints.save(trainer.position.epoch, trainer.position.step, Checkpoint(tensors, state))


def _resume(trainer: Trainer, checkpoints: Checkpoints, tracker: Tracker) -> Fit:
    checkpoint = checkpoints.latest()
    if checkpoint is None:
        tracker.say(f"There is no checkpoint in {checkpoints.folder} yet: starting from the beginning.")
        return Fit()
    trainer.restore(checkpoint)
    position, state = trainer.position, checkpoint.state
    tracker.say(f"Resumed after {position.epoch} epochs and {position.step} steps.")
    if state["threads"] != trainer.workers.threads:
        tracker.say(
            f"The checkpoint was made with {state['threads']} threads and this run has {trainer.workers.threads}: "
            "losses will agree closely, not to the last bit (set train.threads to have them equal)."
        )
    return Fit(
        state["history"], state["best"], state["best_figure"], checkpoint.part("best"), state["stopped_early"]
    )


def _farewell(trainer: Trainer, checkpoints: Checkpoints | None) -> str:
    position = trainer.position
    where = f"Stopped after {position.epoch} epochs and {position.step} steps of the next"
    if checkpoints is None:
        return f"{where}; nothing was saved, since no output folder was given."
    return f"{where}; the checkpoint is in {checkpoints.folder}: run the same command with --resume to go on."
