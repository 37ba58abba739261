"""Progress of a running leaderboard: the current entry, each trial, the best so far and the estimated time
left."""

import time
from typing import Any

from ncf.cli.tune_watch import WithBar
from ncf.leaderboard.entries import Entry
from ncf.leaderboard.run import LeaderboardListener
from ncf.tracking.console import log
from ncf.tuning.page import written
from ncf.tuning.trials import Trial

_MINUTE, _HOUR = 60, 3600


class ShownLeaderboard(WithBar, LeaderboardListener):
    """Prints lines on standard error, and a progress bar below them if that is a terminal."""

    def __init__(self, trials: int, seeds: int) -> None:
        """`trials` and `seeds` are the numbers of trials and of final runs of each entry."""
        super().__init__()
        self._trials, self._seeds = trials, seeds
        self._ended, self._spent, self._best = 0, 0.0, float("-inf")
        self._number = self._total = self._finals = 0
        self._began: list[float] = []
        self._entry: Entry | None = None
        self._task = self._bar.add_task("leaderboard", total=None)

    def entry_started(self, number: int, total: int, entry: Entry) -> None:
        self._number, self._total, self._entry = number, total, entry
        self._ended, self._spent, self._best, self._finals = 0, 0.0, float("-inf"), 0
        self._began.append(time.monotonic())
        log(f"{number}/{total}  {entry.title}")
        self._move("")

    def counted(self, ended: int) -> None:
        self._ended = ended
        if ended:
            log(f"     {ended} trials from an earlier run")

    def begun(self, number: int, epochs: int) -> None:
        self._move(f"trial {number + 1} of {self._of_search}, {epochs} epochs")

    def epoch(self, number: int, epoch: int, value: float) -> None:
        self._move(f"trial {number + 1} of {self._of_search}, epoch {epoch}, NDCG@10 {value:.4f}")

    def ended(self, trial: Trial) -> None:
        """Print the result, the best result so far and the estimated time left."""
        self._ended += 1
        self._spent += trial.seconds
        is_best = trial.value is not None and trial.value > self._best
        self._best = max(self._best, trial.value or float("-inf"))
        result = trial.state if trial.value is None else f"NDCG@10 {trial.value:.4f}"
        best = "best so far" if is_best else f"best {self._best:.4f}"
        settings = ", ".join(
            f"{name.rpartition('.')[2]}={written(value)}" for name, value in trial.parameters.items()
        )
        counter = f"trial {self._ended:>2}/{self._of_search}"
        log(f"     {counter}  {trial.seconds:6.1f} s  {result}  {best}  {self._left()}  {settings}")
        if trial.reason:
            log(f"            {trial.reason}")
        self._move("")

    def final_run(self, entry: Entry, seed: int, figures: dict[str, Any]) -> None:  # noqa: ARG002
        self._finals += 1
        test = figures["figures"]
        log(
            f"     seed {seed}  {figures['seconds']:6.1f} s  test NDCG@10 {test['sampled/ndcg@10']:.4f} "
            f"sampled, {test['full/ndcg@10']:.4f} full; HR@10 {test['sampled/hr@10']:.4f}, "
            f"{test['full/hr@10']:.4f}"
        )
        self._move("final runs")

    def failed(self, entry: Entry, reason: str) -> None:  # noqa: ARG002
        log(f"     failed: {reason}")

    def log(self, sentence: str) -> None:
        log(f"     {sentence}")

    @property
    def _of_search(self) -> int:
        return self._trials if self._entry and self._entry.space else 1

    def _left(self) -> str:
        """Estimate the rest of this entry from its own trials, and later entries from those before it."""
        runs = max(0, self._of_search - self._ended) + self._seeds
        own = self._spent / max(1, self._ended) * runs
        before = [b - a for a, b in zip(self._began, self._began[1:], strict=False)]
        each = sum(before) / len(before) if before else self._spent + own
        return f"about {_duration(own + each * (self._total - self._number))} left"

    def _move(self, doing: str) -> None:
        title = self._entry.title if self._entry else ""
        done = self._ended + self._finals
        self._bar.update(
            self._task, description=f"{self._number}/{self._total} {title} {doing}",
            total=self._of_search + self._seeds, completed=done,
        )  # fmt: skip


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"
