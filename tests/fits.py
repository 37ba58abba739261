"""A run of the training loop in the test's own process: to the end, or to where it is asked to stop."""

from pathlib import Path
from typing import Any

import torch

from ncf.config import Experiment
from ncf.data import Dataset
from ncf.errors import Interrupted
from ncf.models import Model, build_model
from ncf.runtime import Workers, generator
from ncf.tracking.tracker import Silent
from ncf.training import EvaluationPlan, FitResult, Trainer, evaluator, fit
from ncf.training.checkpoint import Checkpoints


class Recorder(Silent):
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.notes: list[str] = []

    def epoch(self, epoch: int, figures: Any) -> None:
        self.losses.append(figures["loss"])

    def log(self, sentence: str) -> None:
        self.notes.append(sentence)


def trainer_of(settings: Experiment, dataset: Dataset, threads: int = 1) -> Trainer:
    model = build_model(settings.model, len(dataset.users), len(dataset.items), generator(0, "init"))
    return Trainer(dataset, model, settings.train, Workers(threads))


def checkpoints_of(settings: Experiment, dataset: Dataset, folder: Path) -> Checkpoints:
    return Checkpoints(folder, settings.digest(), dataset.digest, settings.train.keep_checkpoints)


def run(
    settings: Experiment,
    dataset: Dataset,
    folder: Path | None = None,
    *,
    resume: bool = False,
    stop_at: int = 0,
) -> tuple[Model, Recorder, FitResult | None]:
    """Train; with `stop_at`, ask to stop after that many steps."""
    trainer, recorder, steps = trainer_of(settings, dataset), Recorder(), 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps == stop_at

    checkpoints = checkpoints_of(settings, dataset, folder) if folder else None
    try:
        plan = EvaluationPlan(evaluator(trainer), dataset, settings.evaluation)
        return trainer.model, recorder, fit(trainer, plan, recorder, checkpoints, resume, stop)
    except Interrupted:
        return trainer.model, recorder, None


def same(a: Model, b: Model) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
