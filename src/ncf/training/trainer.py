"""The trainer: one model, its optimiser, and its place in a run. `train_epoch` moves the weights.

After every epoch the trainer's model is usable as it is. Whoever stops a run in the middle of an epoch gets it back
from the same step, to the same losses: the order of the positives, the negatives and the dropout masks all follow
from (seed, epoch, step).
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ncf.config import EvaluationConfig, TrainConfig
from ncf.data import Dataset, HeldOut
from ncf.errors import ConfigError
from ncf.evaluation import EvaluationResult, evaluate_sampled
from ncf.models import MLP, Model, ModelScorer, halves, history_half, history_of, parameter_count
from ncf.runtime import Workers, choose_precision, generator, keep_freed_memory, spans
from ncf.training.checkpoint import Checkpoint
from ncf.training.gpu.graphs import recorder_of
from ncf.training.gpu.optimizer import DeviceOptimizer
from ncf.training.gpu.sampling import DeviceGroupSampler
from ncf.training.gpu.step import DeviceStep, Tables
from ncf.training.history_table import HistoryTable, steps_between_moves
from ncf.training.kernels.recency import RecentTable
from ncf.training.kernels.step import Batch, Gradients, Objective, StepParts, loss_and_gradients
from ncf.training.losses import LOSSES
from ncf.training.optimizers import Optimizer, lazy_tables, learning_rate, tables
from ncf.training.parallel.communicator import Communicator, SingleProcess
from ncf.training.parallel.sharding import ShardedTables
from ncf.training.rows import Rows
from ncf.training.sampling import GroupSampler, Step

_CPU_CHUNK = 2048
_DEVICE_CHUNK = 2**20
_PARTS, _SMALL_TABLE, _LARGE_STEP = 4, 16 * 2**20, 16384


def _has_graphs(device: torch.device) -> bool:
    """Whether steps are drawn and recorded on the device (`device_step.py`)."""
    return device.type == "cuda"


def choose_parts(model: Model, config: TrainConfig, by_rows: bool, processes: int) -> int:
    """StepParts that a step is cut into, whoever works them out; 0 is as many as there are threads."""
    if config.parts and config.parts % processes:
        raise ConfigError(
            f"train.parts = {config.parts} cannot be shared out among {processes} processes: make it a multiple."
        )
    if config.parts:
        return config.parts
    small = all(table.numel() * table.element_size() <= _SMALL_TABLE for table in tables(model).values())
    fits = small and not by_rows and config.batch_size >= _LARGE_STEP and _PARTS % processes == 0
    return _PARTS if fits else 0


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

    def __init__(
        self,
        dataset: Dataset,
        model: Model,
        config: TrainConfig,
        workers: Workers,
        communicator: Communicator | None = None,
        sharded: ShardedTables | None = None,
    ) -> None:
        """With `sharded`, which holds the tables, `model` is the rest."""
        device = next(model.parameters()).device
        self.model, self.config, self.workers = model, config, workers
        self.communicator = communicator or SingleProcess()
        self.position = Position()
        self.sharded = sharded
        draws = config.batch_size, config.batch_size * (1 + config.negatives)
        has_history = history_half(model) is not None
        if has_history and config.optimizer == "lazy":
            raise ConfigError(
                "A history-aware model moves its tables whole: set train.optimizer = 'auto' or 'dense'."
            )
        self.lazy = set() if sharded or has_history else lazy_tables(model, config.optimizer, *draws)
        if (self.lazy or sharded) and device.type == "cpu":
            keep_freed_memory()
        if self.lazy and config.averaging:
            raise ConfigError(
                f"train.averaging keeps a second copy of every row in step, which the lazy update of "
                f"{', '.join(sorted(self.lazy))} does not allow: set train.averaging = 0 or train.optimizer = 'dense'."
            )
        on_device = _has_graphs(device) and not has_history
        self.optimizer: Optimizer | DeviceOptimizer = (
            DeviceOptimizer(model, config, self.lazy)
            if sharded is None and on_device
            else Optimizer(model, config, self.lazy, tables(model) if sharded else ())
        )
        self.history = self._history_table(dataset)
        self.average = copy.deepcopy(model) if config.averaging else None
        self.sampler = (DeviceGroupSampler if on_device else GroupSampler)(
            dataset,
            batch_size=config.batch_size,
            negatives=config.negatives,
            exponent=config.negatives_exponent,
            exclude=config.exclude,
            seed=config.seed,
            device=device,
            rank=self.communicator.rank,
            size=self.communicator.size,
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
        self._users, self._items = len(dataset.users), len(dataset.items)
        self.by_rows = bool(self.lazy or sharded)
        self.parts = choose_parts(model, config, self.by_rows, self.communicator.size)
        self._dropping = any(isinstance(half, MLP) and half.tower.dropout > 0.0 for half in halves(model))
        self._device_step: DeviceStep | None = None
        if isinstance(self.optimizer, DeviceOptimizer):
            sides = Tables(self._users, self._items, self._lazy_users, self._lazy_items)
            self._device_step = DeviceStep(
                model, self.objective, self.optimizer, sides, self.communicator, recorder_of(device)
            )

    def _history_table(self, dataset: Dataset) -> HistoryTable | RecentTable | None:
        half, config = history_half(self.model), self.config
        if half is None:
            return None
        if half.history is None:
            half.attach(history_of(dataset, half.half_life))
        if half.half_life:
            return RecentTable(half, config.l2_history)
        every = config.history_every or steps_between_moves(
            len(dataset.train), config.batch_size, 1 + config.negatives
        )
        return HistoryTable(half, every, config.l2_history, config.seed, self.workers)

    @property
    def judged(self) -> Model:
        """The model that is judged and kept: the averaged weights where they are on, else the weights."""
        return self.model if self.average is None else self.average

    @property
    def parameters(self) -> int:
        """How many numbers the training decides."""
        return parameter_count(self.model) + (self.sharded.parameters if self.sharded else 0)

    def judge(self, held_out: HeldOut, rules: EvaluationConfig) -> EvaluationResult:
        """Rank the positives of held-out rows among their candidates, all processes together."""
        score = ModelScorer(self.judged) if self.sharded is None else self.sharded.score
        return evaluate_sampled(
            score,
            held_out,
            rules,
            self.workers,
            self.sampler.device,
            self.communicator,
            self.sharded is not None,
        )

    def train_epoch(
        self, progress: Progress | None = None, stop: Callable[[], bool] = lambda: False
    ) -> EpochResult | None:
        """Train to the end of the epoch. None when `stop` asked to end before; `position` then says where it is."""
        position, began, samples = self.position, time.perf_counter(), 0
        losses: list[Tensor] = []
        self.communicator.phase(f"drawing epoch {position.epoch + 1}")
        for step in self.sampler.epoch(position.epoch, self.workers, position.step):
            self.communicator.phase(f"training, step {step.number + 1} of epoch {position.epoch + 1}")
            loss, stopping = self._step(step, stop)
            losses.append(loss)
            candidates = step.items.shape[1]
            position.step = step.number + 1
            position.terms += self.objective.loss.terms(step.groups, candidates)
            samples += step.groups * candidates
            if progress is not None:
                progress(position.epoch, position.step, self.sampler.steps)
            if stopping:
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

    def _step(self, step: Step, stop: Callable[[], bool]) -> tuple[Tensor, bool]:
        """The loss of the step over all processes, and whether one of them was asked to stop."""
        done = self.position.epoch * self.sampler.steps + step.number
        rate = learning_rate(self.config, done, self.config.epochs * self.sampler.steps)
        asked = step.number + 1 < self.sampler.steps and stop()
        if self._device_step is not None:
            whole = StepParts([slice(0, len(step.users))], 1, self.communicator.rank)
            generators = self._dropout_generators(step.number, whole)
            loss, stopping = self._device_step(step, rate, asked, generators[0] if generators else None)
            self._update_average(done)
            return loss, stopping
        if self.sharded is not None:
            self.sharded.set_rate(rate)
        loss, gradients, stopping = self._gradients(step, asked)
        if self.sharded is not None:
            gradients = self.sharded.update(gradients)
        if self.by_rows:
            gradients = self.communicator.add(gradients)
        if self.history is not None:
            gradients = self.history.gather(gradients)
        self.optimizer.step(gradients, rate, self.workers)
        if self.history is not None:
            self.history.after()
        self._update_average(done)
        return loss, stopping

    def _gradients(self, step: Step, asked: bool) -> tuple[Tensor, Gradients, bool]:
        """Loss of all processes' groups, gradients, and whether one of them was asked to stop.

        The gradients are of all groups, unless tables take part by rows: then of this process's.
        """
        batch = replace(self._batch(*step.filled()), total=step.groups, counts=step.counts)
        parts = self._parts_of(step, batch.groups)
        told: list[Tensor] = []

        def exchange(tensors: list[Tensor]) -> list[Tensor]:
            *summed, stopping = self.communicator.sum([*tensors, tensors[0].new_tensor(float(asked))])
            told.append(stopping)
            return summed

        loss, gradients = loss_and_gradients(
            self.model,
            batch,
            self.objective,
            self.workers,
            self._dropout_generators(step.number, parts),
            parts,
            None if self.by_rows else exchange,
        )
        if self.by_rows:
            loss = exchange([loss])[0]
        return loss, gradients, bool(told[0] > 0)

    def _parts_of(self, step: Step, groups: int) -> StepParts:
        """This process's parts of a step, between bounds that are those of one process; else one a thread."""
        size, rank, threads = self.communicator.size, self.communicator.rank, self.workers.threads
        if not self.parts or step.groups < self.parts:
            return StepParts(spans(groups, threads), threads, rank * threads)
        own = range(rank * self.parts // size, (rank + 1) * self.parts // size)
        bounds = [step.groups * part // self.parts for part in (*own, own.stop)]
        cut = [slice(start - bounds[0], end - bounds[0]) for start, end in pairwise(bounds)]
        return StepParts(cut, self.parts, own.start)

    def _batch(self, users_B: Tensor, items_BC: Tensor) -> Batch:
        """The groups, by the rows of the tables that take part."""
        if self.sharded is not None:
            return self.sharded.look_up(Rows.used(users_B), Rows.used(items_BC))
        return Batch(
            Rows.used(users_B) if self._lazy_users else Rows.whole(users_B, self._users),
            Rows.used(items_BC) if self._lazy_items else Rows.whole(items_BC, self._items),
        )

    def _dropout_generators(self, step: int, parts: StepParts) -> list[torch.Generator] | None:
        if not self._dropping:
            return None
        seed, epoch, device = self.config.seed, self.position.epoch, self.sampler.device
        numbers = range(parts.first, parts.first + len(parts.own))
        return [generator(seed, "dropout", epoch, step, number, device=device) for number in numbers]

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
        if self.history is not None:
            state |= {f"history.{name}": value for name, value in self.history.state().items()}
        return state

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where the checkpoint was taken."""
        self.model.load_state_dict(checkpoint.part("model"))
        self.optimizer.load_state(checkpoint.part("optimizer"))
        if self.average is not None:
            self.average.load_state_dict(checkpoint.part("average"))
        if self.history is not None:
            self.history.load_state(checkpoint.part("history"))
        self.position = Position(**checkpoint.state["position"])
