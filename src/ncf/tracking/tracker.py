"""Where a run reports to: a `Tracker` is told of the run's settings, each epoch and the result.

`JsonLines` writes `events.jsonl`, one object a line; `Console` shows a person what is going on. The trainer knows only
the `Tracker` protocol, so other destinations (MLflow, SageMaker's metric lines) are added without touching it.
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ncf.data.files import storage_errors


class Tracker(Protocol):
    """Told in this order: `opened`, `start`, any number of `progress` and `epoch`, `finish`; `say` at any time."""

    def opened(self, folder: Path) -> None:
        """A run is about to begin or go on in `folder`, its `run.json` written; runs of its halves come in between."""

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        """A run begins; `settings` are JSON values."""

    def progress(self, epoch: int, done: int, total: int) -> None:
        """`done` of `total` steps of an epoch; often called, so it must be cheap."""

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """An epoch ended: loss, seconds, samples a second and validation metrics."""

    def log(self, sentence: str) -> None:
        """A decision or event worth a line in the log."""

    def finish(self, figures: Mapping[str, Any]) -> None:
        """The run's result."""


class Silent:
    """A tracker that drops everything; the base of those that care for only some of it."""

    def close(self) -> None:
        """Nothing to tidy up."""

    def opened(self, folder: Path) -> None:
        """Dropped."""

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        """Dropped."""

    def progress(self, epoch: int, done: int, total: int) -> None:
        """Dropped."""

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Dropped."""

    def log(self, sentence: str) -> None:
        """Dropped."""

    def finish(self, figures: Mapping[str, Any]) -> None:
        """Dropped."""


class JsonLines(Silent):
    """Appends events to a file, each line complete on disk before training goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        self._write("start", {"run": run, "settings": dict(settings)})

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        self._write("epoch", {"epoch": epoch, **figures})

    def log(self, sentence: str) -> None:
        self._write("note", {"text": sentence})

    def finish(self, figures: Mapping[str, Any]) -> None:
        self._write("finish", dict(figures))

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": kind, "time": round(time.time(), 3), **values}) + "\n")


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: Iterable[Tracker]) -> None:
        self._trackers = list(trackers)

    def opened(self, folder: Path) -> None:
        """Pass on."""
        for tracker in self._trackers:
            tracker.opened(folder)

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        """Pass on."""
        for tracker in self._trackers:
            tracker.start(run, settings)

    def progress(self, epoch: int, done: int, total: int) -> None:
        """Pass on."""
        for tracker in self._trackers:
            tracker.progress(epoch, done, total)

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Pass on."""
        for tracker in self._trackers:
            tracker.epoch(epoch, figures)

    def log(self, sentence: str) -> None:
        """Pass on."""
        for tracker in self._trackers:
            tracker.log(sentence)

    def finish(self, figures: Mapping[str, Any]) -> None:
        """Pass on."""
        for tracker in self._trackers:
            tracker.finish(figures)
