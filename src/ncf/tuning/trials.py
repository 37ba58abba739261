"""One trial of a search: a run like any other, evaluated on validation after each epoch and pruned when it
falls behind.

In: a recipe and a folder. Out: validation NDCG@10 of the weights that were kept, never a test figure. A
pruned trial keeps no artifact and no checkpoints; an interrupted trial keeps its checkpoints and resumes from
them.
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
"""Takes an epoch and its value, and returns whether to prune the trial."""
State = Literal["complete", "pruned", "failed", "interrupted", "running", "waiting"]


@dataclass(frozen=True)
class Trial:
    """A trial. `value` is validation NDCG@10: of the kept weights, or the last one before it was pruned.

    `epochs` is the last epoch that was evaluated, `folder` the name of its folder, and `reason` why it
    failed.
    """

    number: int
    state: State
    value: float | None
    parameters: dict[str, Any]
    epochs: int
    seconds: float
    folder: str
    reason: str = ""


class GivenUp(Exception):
    """Pruned: the trial is behind the others. This is not a mistake, so not an `NcfError`."""


class ProgressListener:
    """Hears of the progress of a search; the base of those that show it."""

    def counted(self, ended: int) -> None:
        """The search starts, and `ended` trials of the study are finished already."""

    def begun(self, number: int, epochs: int) -> None:
        """A trial of so many epochs starts or resumes."""

    def epoch(self, number: int, epoch: int, value: float) -> None:
        """An epoch of the trial was evaluated."""

    def ended(self, trial: Trial) -> None:
        """The trial ended."""

    def log(self, sentence: str) -> None:
        """A sentence for the user."""


@dataclass
class Pruning(Silent):
    """Passes each epoch of the trial's own run (not of its halves) to `report`, and prunes the trial where it
    asks.
    """

    report: Report
    _open: list[Path] = field(default_factory=list)

    def opened(self, folder: Path) -> None:
        """Epochs up to the next `finish` are of the run in `folder`; those before an interruption are
        reported again.
        """
        self._open.append(folder)
        if len(self._open) == 1:
            for epoch, figures in sorted(epochs_of(folder).items()):
                if OBJECTIVE in figures:
                    self.report(epoch, figures[OBJECTIVE])

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Raise `GivenUp` where the trial is to be pruned."""
        if len(self._open) == 1 and OBJECTIVE in figures and self.report(epoch, figures[OBJECTIVE]):
            raise GivenUp

    def finish(self, figures: Mapping[str, Any]) -> None:  # noqa: ARG002 - the run's metrics are read instead
        """The last opened run is finished."""
        self._open.pop()


def run_trial(
    dataset: Dataset,
    experiment: Experiment,
    folder: Path,
    data_path: Path,
    report: Report,
    stop: Callable[[], bool],
    halves: Mapping[str, Path] | None = None,
) -> float:
    """Train `experiment` on `dataset` in `folder`, resuming where it stopped; validation NDCG@10 is returned.

    `data_path` is where the data are, and `report(epoch, value)` returns whether to prune the trial. `halves`
    are runs of a pre-trained NeuMF's `gmf` and `mlp`, to fuse instead of training them. Nothing is prepared
    for serving: most trials never serve. Raises `GivenUp` for a pruned trial, `Interrupted` once `stop`
    returns true, and whatever else training raises.
    """
    options = RunOptions(resume=True, serves=False, verdict=False, tracker=Pruning(report), stop=stop)
    try:
        run = train(dataset, experiment, folder, data_path=data_path, options=options, **(halves or {}))
    except GivenUp:
        _remove_checkpoints(folder)
        raise
    _remove_checkpoints(folder)
    return float(run.metrics["validation"]["metrics"][SELECTION_METRIC])


def _remove_checkpoints(folder: Path) -> None:
    for checkpoints in folder.rglob("checkpoints"):
        shutil.rmtree(checkpoints)
