"""Shows a job's log: a line for each epoch, a progress bar on a terminal, other lines as they come."""

import re
from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn

from ncf.tracking.console import ERR, ConsoleTracker, log

if TYPE_CHECKING:
    from ncf.sagemaker.jobs.logs import Line
    from ncf.sagemaker.jobs.training import TrainingJob

_OURS = re.compile(r"\[ncf\] (.*)")
_FIGURE = re.compile(r"(\S+)=([-+0-9.einfa]+)")
_FIRST = "algo-1"
_EPOCH = {"epoch", "loss", "seconds", "samples_per_second"}


class Follower:
    """Shows the lines and states of one training job of so many `epochs`; `close` removes the bar."""

    def __init__(self, epochs: int) -> None:
        self._tracker, self._epochs, self._changes = ConsoleTracker(), 0, 0
        self._bar = Progress(
            TextColumn("epochs"), BarColumn(), MofNCompleteColumn(), console=ERR, transient=True,
            disable=not ERR.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("epochs", total=epochs)
        self._bar.start()

    def line(self, line: "Line") -> None:
        """Show one line of the log."""
        ours = _OURS.search(line.text)
        figures = _figures(ours.group(1)) if ours else {}
        if set(figures) >= _EPOCH:
            self._tracker.epoch(int(figures.pop("epoch")), figures)
            self._epochs += 1
            self._bar.update(self._task, completed=self._epochs)
        if figures:  # results, which the command prints at the end
            return
        text = ours.group(1) if ours else line.text
        log(text if line.container.startswith(_FIRST) else f"{line.container}: {text}")

    def status(self, job: "TrainingJob") -> None:
        """Show what SageMaker does: Starting, Downloading, Training, Uploading, Interrupted, …"""
        changes = job.described.get("SecondaryStatusTransitions", ())
        for change in changes[self._changes :]:
            message = str(change.get("StatusMessage") or "").strip()
            log(f"{job.name}: {change['Status']}{f', {message}' if message else ''}")
            if change["Status"] == "Interrupted":
                log("The spot instance was taken away: SageMaker restarts the job from its last checkpoint.")
        self._changes = max(self._changes, len(changes))

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class Upload:
    """A bar of uploaded bytes where standard error is a terminal; `what` is its label."""

    def __init__(self, what: str) -> None:
        self._bar = Progress(
            TextColumn(what), BarColumn(), DownloadColumn(), console=ERR, transient=True,
            disable=not ERR.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(what, total=None)
        self._bar.start()

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


def _figures(text: str) -> dict[str, float]:
    words = text.split()
    pairs = [_FIGURE.fullmatch(word) for word in words]
    return {pair.group(1): float(pair.group(2)) for pair in pairs if pair} if words and all(pairs) else {}
