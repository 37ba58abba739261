"""What a run reports while it trains: its settings, each epoch and the result.

The trainer knows only `Tracker`. `JsonLines` writes `events.jsonl`, one object a line; `ncf.tracking.console`
shows a person the progress; `ncf.tracking.mlflow_run` records the run in MLflow. Other destinations are added
by another subclass.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncf.data.files import json_text, storage_errors


@dataclass(frozen=True)
class Phase:
    """A named part of a run; `number` of `of` where it comes several times, as epochs do."""

    name: str
    number: int = 0
    of: int = 0

    def __str__(self) -> str:
        return f"{self.name} {self.number}/{self.of}" if self.of else self.name


class Tracker:
    """Called in this order: `opened`, `start`, any number of `progress` and `epoch`, `finish`; `log` at any
    time. `phase` encloses what a run spends its time on.

    Every other method does nothing here, so a subclass overrides only those it needs.
    """

    @contextmanager
    def phase(self, name: str, number: int = 0, of: int = 0) -> Iterator[Callable[[int, int], None]]:
        """A phase of the run, for as long as the block takes; phases may lie inside one another.

        Gives a function to call with (done, total), in any unit, where it is known how much is left.
        """
        phase, began = Phase(name, number, of), time.perf_counter()
        self.phase_began(phase)
        try:
            yield self.advanced
        finally:
            self.phase_ended(phase, time.perf_counter() - began)

    def phase_began(self, phase: Phase) -> None:
        """A `phase` begins, inside those that have not ended."""

    def advanced(self, done: int, total: int) -> None:
        """`done` of `total` parts of the innermost phase are over. It may be called often."""

    def phase_ended(self, phase: Phase, seconds: float) -> None:
        """The innermost `phase` ended, after so many `seconds`."""

    def opened(self, folder: Path) -> None:
        """A run begins or resumes in `folder`, where `run.json` is written. Runs of its halves are opened
        after it."""

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        """Training of the run named `run` begins; `settings` are JSON values."""

    def progress(self, epoch: int, done: int, total: int) -> None:
        """`done` of `total` steps of `epoch` are over. This is called often, so it must be cheap."""

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """An epoch ended, with these `figures`: loss, seconds, samples per second and validation metrics."""

    def log(self, sentence: str) -> None:
        """Note a decision or an event in one `sentence`."""

    def finish(self, figures: Mapping[str, Any]) -> None:
        """The run ended with these `figures`: its `metrics` on test, the folder of its `artifact`, and the
        seconds of its `phases`."""

    def close(self) -> None:
        """Release what the tracker holds, such as a progress bar."""


class Silent(Tracker):
    """A tracker that ignores everything."""


class PhaseClock(Tracker):
    """Where the time of a run went: `seconds` by name of the phase, in the order in which they began.

    Phases of one name add up, and what an inner phase takes does not count for the outer one.
    """

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        """`before` are seconds of phases that are over."""
        self.seconds: dict[str, float] = dict(before or {})
        self._inner = [0.0]

    def phase_began(self, phase: Phase) -> None:
        self.seconds.setdefault(phase.name, 0.0)
        self._inner.append(0.0)

    def phase_ended(self, phase: Phase, seconds: float) -> None:
        own = seconds - self._inner.pop()
        self.seconds[phase.name] = round(self.seconds[phase.name] + own, 3)
        self._inner[-1] += seconds


class JsonLines(Tracker):
    """Appends events to a file, each line complete on disk before training goes on."""

    def __init__(self, path: Path) -> None:
        """`path` is the file; its folder is created if necessary."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        self._write("start", {"run": run, "settings": dict(settings)})

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        self._write("epoch", {"epoch": epoch, **figures})

    def phase_ended(self, phase: Phase, seconds: float) -> None:
        if not phase.of:  # those that come often have events of their own, and are in the summary
            self._write("phase", {"name": phase.name, "seconds": round(seconds, 3)})

    def log(self, sentence: str) -> None:
        self._write("note", {"text": sentence})

    def finish(self, figures: Mapping[str, Any]) -> None:
        self._write("finish", dict(figures))

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json_text({"event": kind, "time": round(time.time(), 3), **values}) + "\n")


class Trackers(Tracker):
    """Several trackers as one: each is told in turn."""

    def __init__(self, trackers: Iterable[Tracker]) -> None:
        """`trackers` are called in this order."""
        self._trackers = list(trackers)

    def opened(self, folder: Path) -> None:
        for tracker in self._trackers:
            tracker.opened(folder)

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.start(run, settings)

    def progress(self, epoch: int, done: int, total: int) -> None:
        for tracker in self._trackers:
            tracker.progress(epoch, done, total)

    def phase_began(self, phase: Phase) -> None:
        for tracker in self._trackers:
            tracker.phase_began(phase)

    def advanced(self, done: int, total: int) -> None:
        for tracker in self._trackers:
            tracker.advanced(done, total)

    def phase_ended(self, phase: Phase, seconds: float) -> None:
        for tracker in self._trackers:
            tracker.phase_ended(phase, seconds)

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.epoch(epoch, figures)

    def log(self, sentence: str) -> None:
        for tracker in self._trackers:
            tracker.log(sentence)

    def finish(self, figures: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.finish(figures)
