"""What a person sees of a leaderboard while it runs: whose turn it is, each trial, the best so far, about how long it takes."""

import time
from typing import Any

from ncf.cli.console import log
from ncf.cli.tune_watch import WithBar
from ncf.leaderboard.entries import Entry
from ncf.leaderboard.run import LeaderboardListener
from ncf.tuning.page import written
from ncf.tuning.trials import Trial

_MINUTE, _HOUR = 60, 3600


class ShownLeaderboard(WithBar, LeaderboardListener):
    """Lines on standard error, and a bar below them on a terminal."""

    def __init__(self, trials: int, seeds: int) -> None:
        super().__init__()
        self._trials, self._seeds = trials, seeds
        self._ended, self._spent, self._best = 0, 0.0, float("-inf")
        self._number = self._total = self._finals = 0
        self._began: list[float] = []
        self._entry: Entry | None = None
        self._task = self._bar.add_task("leaderboard", total=None)

    def entry_started(self, number: int, total: int, entry: Entry) -> None:
        """The next entry starts."""
        self._number, self._total, self._entry = number, total, entry
        self._ended, self._spent, self._best, self._finals = 0, 0.0, float("-inf"), 0
        self._began.append(time.monotonic())
        log(f"{number}/{total}  {entry.title}")
        self._move("")

    def counted(self, ended: int) -> None:
        """Trials of an earlier run."""
        self._ended = ended
        if ended:
            log(f"     {ended} trials were there already")

    def begun(self, number: int, epochs: int) -> None:
        """A trial begins."""
        self._move(f"trial {number + 1} of {self._of_search}, {epochs} epochs")

    def epoch(self, number: int, epoch: int, value: float) -> None:
        """An epoch of it was judged."""
        self._move(f"trial {number + 1} of {self._of_search}, epoch {epoch}, NDCG@10 {value:.4f}")

    def ended(self, trial: Trial) -> None:
        """One line: what came out, the best so far, about how long all takes."""
        self._ended += 1
        self._spent += trial.seconds
        is_best = trial.value is not None and trial.value > self._best
        self._best = max(self._best, trial.value or float("-inf"))
        what = trial.state if trial.value is None else f"NDCG@10 {trial.value:.4f}"
        best = "the best so far" if is_best else f"best {self._best:.4f}"
        settings = ", ".join(
            f"{name.rpartition('.')[2]}={written(value)}" for name, value in trial.parameters.items()
        )
        place = f"trial {self._ended:>2}/{self._of_search}"
        log(f"     {place}  {trial.seconds:6.1f} s  {what}  {best}  {self._left()}  {settings}")
        if trial.reason:
            log(f"            {trial.reason}")
        self._move("")

    def final_run(self, entry: Entry, seed: int, figures: dict[str, Any]) -> None:  # noqa: ARG002 - its turn began
        """A final run, now or earlier."""
        self._finals += 1
        of = figures["figures"]
        log(
            f"     seed {seed}  {figures['seconds']:6.1f} s  test NDCG@10 {of['sampled/ndcg@10']:.4f} sampled, "
            f"{of['full/ndcg@10']:.4f} full; HR@10 {of['sampled/hr@10']:.4f}, {of['full/hr@10']:.4f}"
        )
        self._move("final runs")

    def failed(self, entry: Entry, reason: str) -> None:  # noqa: ARG002 - its turn began
        """It failed."""
        log(f"     failed: {reason}")

    def log(self, sentence: str) -> None:
        """A line of its own."""
        log(f"     {sentence}")

    @property
    def _of_search(self) -> int:
        return self._trials if self._entry and self._entry.space else 1

    def _left(self) -> str:
        """An estimate: this one's trials and final runs at its own pace, the others at the pace of those before."""
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
