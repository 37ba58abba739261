"""The trainer: one model and its position in a run. A `StepRunner` says what each step is.

After every epoch the trainer's model can be used as it is. A run that was stopped in the middle of an epoch
goes on from the same step to the same losses: the order of the positives, the negatives and the dropout masks
all follow from (seed, epoch, step).
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ncf.config import TrainConfig
from ncf.data import Dataset
from ncf.models import Model, parameter_count, sequence_branch
from ncf.runtime import Workers, choose_precision
from ncf.training.checkpoint import Checkpoint, add_prefix, part
from ncf.training.kernels.branch import Objective
from ncf.training.losses import LOSSES
from ncf.training.optimizers import learning_rate
from ncf.training.parallel.communicator import Communicator, SingleProcess
from ncf.training.parallel.sharding import ShardedTables
from ncf.training.sampling import Step
from ncf.training.step_runner import RunContext, choose_runner

_CPU_CHUNK = 2048
_DEVICE_CHUNK = 2**20
Progress = Callable[[int, int, int], None]
"""Called after each step with the epoch from 0, the steps done and the steps of the epoch."""


@dataclass
class Position:
    """Where a run is: whole epochs done, steps done of the next, the sum of its losses and their terms."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    terms: int = 0


@dataclass(frozen=True)
class EpochResult:
    """What came out of an epoch; `seconds` and `samples` count from the last start or resumption."""

    epoch: int
    loss: float
    """Mean over all terms of the epoch."""
    seconds: float
    samples: int
    """Logits trained on."""


class Trainer:
    """The model and its position in the run."""

    def __init__(
        self,
        dataset: Dataset,
        model: Model,
        config: TrainConfig,
        workers: Workers,
        communicator: Communicator | None = None,
        sharded: ShardedTables | None = None,
    ) -> None:
        """`workers` are this process's threads and `communicator` its link to the others, if there are any.

        With `sharded`, which holds the tables, `model` is the rest. Raises `ConfigError` for settings that do
        not go together, and `DataError` for users without negatives.
        """
        device = next(model.parameters()).device
        self.dataset, self.model, self.config, self.workers = dataset, model, config, workers
        self.communicator = communicator or SingleProcess()
        self.position = Position()
        self.objective = Objective(
            LOSSES[config.loss],
            config.l2_gmf,
            config.l2_mlp,
            choose_precision(config.precision, device, sequence_branch(model) is not None),
            _CPU_CHUNK if device.type == "cpu" else _DEVICE_CHUNK,
        )
        context = RunContext(dataset, model, config, self.objective, workers, self.communicator)
        self.runner, self.tables = choose_runner(context, sharded)
        # The copy comes after the runner, which gives a history-aware model its users' histories.
        self.average = copy.deepcopy(model) if config.averaging else None
        self.sampler = self.runner.sampler(
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

    @property
    def evaluated_model(self) -> Model:
        """The model that is evaluated and kept: the average with `train.averaging`, else the model itself."""
        return self.model if self.average is None else self.average

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return parameter_count(self.model) + self.tables.parameters

    def train_epoch(
        self, progress: Progress | None = None, stop: Callable[[], bool] = lambda: False
    ) -> EpochResult | None:
        """Train to the end of the epoch.

        `progress` is called after each step. `stop` is asked before each step but the last of an epoch; once
        it says yes, the current step is finished and None is returned, and `position` says where the run is.
        """
        position, began, samples = self.position, time.perf_counter(), 0
        losses: list[Tensor] = []
        self.communicator.phase(f"drawing epoch {position.epoch + 1}")
        for step in self.sampler.epoch(position.epoch, self.workers, position.step):
            self.communicator.phase(f"training, step {step.number + 1} of epoch {position.epoch + 1}")
            loss, stopping = self._step(step, stop)
            losses.append(loss)  # on the device: reading it now would wait for the step
            candidates = step.candidates
            position.step = step.number + 1
            position.terms += self.objective.loss.terms(step.groups, candidates)
            samples += step.groups * candidates
            if progress is not None:
                progress(position.epoch, position.step, self.sampler.steps)
            if stopping:
                self._add_losses(losses)
                return None
        self._add_losses(losses)
        result = EpochResult(
            position.epoch + 1, position.loss / max(1, position.terms), time.perf_counter() - began, samples
        )
        self.position = Position(epoch=position.epoch + 1)
        return result

    def _add_losses(self, losses: list[Tensor]) -> None:
        """Add the losses one by one: a stopped and resumed epoch adds the same numbers in the same order."""
        for loss in torch.stack(losses).double().tolist() if losses else []:
            self.position.loss += loss

    def _step(self, step: Step, stop: Callable[[], bool]) -> tuple[Tensor, bool]:
        """The loss of the step over all processes, and whether any of them was asked to stop."""
        done = self.position.epoch * self.sampler.steps + step.number
        rate = learning_rate(self.config, done, self.config.epochs * self.sampler.steps)
        asked = step.number + 1 < self.sampler.steps and stop()
        loss, stopping = self.runner.run(step, rate, asked)
        self._update_average(done)
        return loss, stopping

    @torch.no_grad()
    def _update_average(self, done: int) -> None:
        """Move the averaged weights towards the weights, after `done` steps before this one."""
        if self.average is None:
            return
        # The first steps average over what there is, else the random start would weigh too much.
        decay = min(self.config.averaging, (1 + done) / (10 + done))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1.0 - decay)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name."""
        state = add_prefix("model", self.model.state_dict()) | self.runner.state()
        if self.average is not None:
            state |= add_prefix("average", self.average.state_dict())
        return state

    def restore(self, checkpoint: Checkpoint) -> Position:
        """Go back to where the checkpoint was taken; that position."""
        self.model.load_state_dict(part(checkpoint.tensors, "model"))
        self.runner.load_state(checkpoint.tensors)
        if self.average is not None:
            self.average.load_state_dict(part(checkpoint.tensors, "average"))
        self.position = Position(**checkpoint.state["position"])
        return self.position
