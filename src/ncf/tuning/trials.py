"""One trial of a search: a run like any other, judged on validation after each epoch and given up where it is behind.

In: a recipe and a folder. Out: validation NDCG@10 of the weights that were kept, never a test figure. A trial that is
given up has no artifact and no checkpoints; a trial that was interrupted has them, and goes on from them.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ncf.config import Experiment
from ncf.data import Dataset
from ncf.experiment import RunOptions, train
from ncf.tracking.mlflow_run import epochs_of
from ncf.tracking.tracker import Silent
from ncf.training.loop import SELECTION_METRIC

OBJECTIVE = f"validation_{SELECTION_METRIC}"
Report = Callable[[int, float], bool]
"""Told an epoch and its value; says whether to give the trial up."""
State = Literal["complete", "pruned", "failed", "interrupted", "running", "waiting"]


@dataclass(frozen=True)
class Trial:
    """What is known of a trial. `value` is validation NDCG@10: of the kept weights, or the last before it was pruned."""

    number: int
    state: State
    value: float | None
    parameters: dict[str, Any]
    epochs: int
    seconds: float
    folder: str
    reason: str = ""


class GivenUp(Exception):
    """The trial is behind the others; no mistake, so no `NcfError`."""


class ProgressListener:
    """Is told how a search goes; the base of those that show it."""

    def counted(self, ended: int) -> None:
        """So many trials of the study are over when the search begins."""

    def begun(self, number: int, epochs: int) -> None:
        """A trial begins, or goes on."""

    def epoch(self, number: int, epoch: int, value: float) -> None:
        """An epoch of it was judged."""

    def ended(self, trial: Trial) -> None:
        """It is over."""

    def log(self, sentence: str) -> None:
        """Something worth a line."""


@dataclass
class Pruning(Silent):
    """Tells each epoch of the trial's own run (not of its halves) to `report`, and gives up where that says so."""

    report: Report
    _open: list[Path] = field(default_factory=list)

    def opened(self, folder: Path) -> None:
        """Epochs up to the next `finish` are of the run in `folder`; those of before an interruption are told again."""
        self._open.append(folder)
        if len(self._open) == 1:
            for epoch, figures in sorted(epochs_of(folder).items()):
                if OBJECTIVE in figures:
                    self.report(epoch, figures[OBJECTIVE])

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Raise `GivenUp` where the trial is behind."""
        if len(self._open) == 1 and OBJECTIVE in figures and self.report(epoch, figures[OBJECTIVE]):
            raise GivenUp

    def finish(self, figures: Mapping[str, Any]) -> None:  # noqa: ARG002 - the run's metrics are read instead
        """One run less is open."""
        self._open.pop()


def run_trial(
    dataset: Dataset,
    experiment: Experiment,
    folder: Path,
    data_path: Path,
    report: Report,
    stop: Callable[[], bool],
    halves: Mapping[str, Path] | None = None,
    serves: bool = True,
) -> float:
    """Train in `folder`, going on where it was; `report(epoch, value)` says whether to give up.

    `halves` are runs of a pre-trained NeuMF's `gmf` and `mlp`, to fuse instead of training them. `serves`: see `RunOptions`.

    Raises `GivenUp` then, `Interrupted` when `stop` says so, and what else training raises.
    """
    manner = RunOptions(resume=True, serves=serves, tracker=Pruning(report), stop=stop)
    try:
        run = train(dataset, experiment, folder, data_path=data_path, manner=manner, **(halves or {}))
    except GivenUp:
        for left in folder.rglob("checkpoints"):
            shutil.rmtree(left)
        raise
    for left in folder.rglob("checkpoints"):
        shutil.rmtree(left)
    return float(run.metrics["validation"]["metrics"][SELECTION_METRIC])
