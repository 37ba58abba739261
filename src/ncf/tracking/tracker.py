"""What a run reports while it trains: its settings, each epoch and the result.

The trainer knows only `Tracker`. `JsonLines` writes `events.jsonl`, one object a line; `ncf.cli.console`
shows a person the progress; `ncf.tracking.mlflow_run` records the run in MLflow. Other destinations are added
by another subclass.
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ncf.data.files import storage_errors


class Tracker:
    """Called in this order: `opened`, `start`, any number of `progress` and `epoch`, `finish`; `log` at any
    time.

    Every method does nothing here, so a subclass overrides only those it needs.
    """

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
        """The run ended with these `figures`; `figures["artifact"]` is the folder of its artifact."""

    def close(self) -> None:
        """Release what the tracker holds, such as a progress bar."""


class Silent(Tracker):
    """A tracker that ignores everything."""


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

    def log(self, sentence: str) -> None:
        self._write("note", {"text": sentence})

    def finish(self, figures: Mapping[str, Any]) -> None:
        self._write("finish", dict(figures))

    def _write(self, kind: str, values: dict[str, Any]) -> None:
        with storage_errors(self._path), self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": kind, "time": round(time.time(), 3), **values}) + "\n")


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

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.epoch(epoch, figures)

    def log(self, sentence: str) -> None:
        for tracker in self._trackers:
            tracker.log(sentence)

    def finish(self, figures: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.finish(figures)
