"""Progress of a running search: one line per trial, and a progress bar on a terminal."""

from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from ncf.tracking.console import ERR, log
from ncf.tuning.page import written
from ncf.tuning.trials import ProgressListener, Trial


class WithBar:
    """Owns a progress bar on standard error, which is shown on a terminal until the context ends."""

    def __init__(self, *columns: ProgressColumn) -> None:
        """`columns` come between the bar and the elapsed time."""
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), *columns, TimeElapsedColumn(),
            console=ERR, transient=True, disable=not ERR.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()


class ShownSearch(WithBar, ProgressListener):
    """Shows the trials of a search on standard error."""

    def __init__(self, trials: int | None) -> None:
        """`trials` is the number of trials of the whole study, None where only the time ends it."""
        super().__init__(MofNCompleteColumn())
        self._best = float("-inf")
        self._trials = self._bar.add_task("trials", total=trials)
        self._epoch = self._bar.add_task("epochs", total=None, visible=False)

    def counted(self, ended: int) -> None:
        self._bar.update(self._trials, completed=ended)

    def begun(self, number: int, epochs: int) -> None:
        self._bar.reset(self._epoch, total=epochs, visible=True, description=f"trial {number}")

    def epoch(self, number: int, epoch: int, value: float) -> None:
        self._bar.update(self._epoch, completed=epoch, description=f"trial {number}, NDCG@10 {value:.4f}")

    def ended(self, trial: Trial) -> None:
        """Print one line with the result and the settings."""
        result = trial.state if trial.value is None else f"NDCG@10 {trial.value:.4f}"
        if trial.state == "pruned":
            result += f"  pruned after epoch {trial.epochs}"
        if trial.state == "complete" and trial.value is not None and trial.value > self._best:
            self._best = trial.value
            result += "  best so far"
        settings = ", ".join(f"{name}={written(value)}" for name, value in trial.parameters.items())
        log(f"trial {trial.number:>3}  {trial.seconds:6.1f} s  {result}  {settings}")
        if trial.reason:
            log(f"           {trial.reason}")
        self._bar.advance(self._trials)
        self._bar.update(self._epoch, visible=False)

    def log(self, sentence: str) -> None:
        log(sentence)
