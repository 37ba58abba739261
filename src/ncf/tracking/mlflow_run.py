"""A run as it is recorded elsewhere: what is sent, when, and what happens when nobody answers.

In: the folder of a run (`run.json`, `events.jsonl`, `artifact/`) and what the trainer tells its tracker. Out: one run in
an MLflow store, for a pre-trained NeuMF with its halves nested in it. The id of the recorded run lies in `mlflow.json`
of the folder, so a resumed run goes on in it. The one decision worth knowing: recording never ends a training run. The
first trouble is told in a sentence, nothing is sent after it, and the folder has all that `import_run` sends later.
"""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ncf.config import Experiment
from ncf.data.files import write_text
from ncf.errors import Interrupted, NcfError, StorageError, TrackingError
from ncf.tracking.mlflow import DEFAULT_EXPERIMENT, JOB_TAG, MLflowStore, Status, resolve, shown
from ncf.tracking.tracker import Silent

IMPORTANT = (
    "model.kind", "model.factors", "train.epochs", "train.batch_size", "train.negatives", "train.learning_rate", "train.loss",
    "train.init", "train.l2_gmf", "train.l2_mlp", "train.validation", "train.seed",
)  # fmt: skip
"""Recorded even where they are defaults, so that the columns of a comparison are filled."""


"""By which the run of a training job is found again: a job is recorded once."""


class RunRecording:
    """One run folder and its run in the store."""

    def __init__(self, store: MLflowStore, folder: Path, parent: str | None = None) -> None:
        self.store, self.folder = store, folder
        self._note = folder / "mlflow.json"
        self._epochs = set[int]()
        self._last = 0
        self.run_id = self._known() or (None if parent else self._of_job()) or self._new(parent)

    def epoch(self, epoch: int, figures: Mapping[str, Any], seconds: float) -> None:
        """Send the figures of an epoch, unless the store has them."""
        self._last = epoch
        if epoch not in self._epochs:
            self._epochs.add(epoch)
            numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
            self.store.figures(self.run_id, numbers, epoch, seconds)

    def finish(self, artifact: Path, seconds: float) -> None:
        """Send the figures of the weights that were kept, the card, the artifact and the folder's two documents."""
        metrics = json.loads((artifact / "metrics.json").read_text("utf-8"))
        self.store.figures(self.run_id, _results(metrics), self._last, seconds)
        self.store.tag(self.run_id, "ncf.selected", str(metrics.get("selected", "")))
        self.store.tag(self.run_id, "mlflow.note.content", (artifact / "MODEL_CARD.md").read_text("utf-8"))
        self.store.upload(self.run_id, artifact, "artifact")
        for name in ("run.json", "events.jsonl"):
            self.store.upload(self.run_id, self.folder / name)
        self.store.end(self.run_id, "FINISHED")

    def _known(self) -> str | None:
        """The run that this folder was recorded as, where the store still has it."""
        note = _read(self._note)
        if note.get("address") != self.store.address or note.get("experiment") != self.store.experiment:
            return None
        return self._go_on(str(note["run_id"]))

    def _of_job(self) -> str | None:
        """The run of the training job that this folder was fetched from, where the job recorded itself."""
        job = _read(self.folder / "job.json").get("job")
        found = self.store.of_job(str(job)) if job else None
        return self._go_on(found.run_id) if found else None

    def _go_on(self, run_id: str) -> str | None:
        epochs = self.store.epochs(run_id)
        if epochs is None:
            return None
        self._epochs = epochs
        return run_id

    def _new(self, parent: str | None) -> str:
        document = read_run(self.folder)
        experiment = Experiment.parse(document["experiment"], source=str(self.folder / "run.json"))
        tags = _tags(experiment, document["data"], self.folder)
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        run_id = self.store.begin(experiment.name, tags, parameters(experiment))
        note = {"address": self.store.address, "experiment": self.store.experiment, "run_id": run_id}
        write_text(self._note, json.dumps(note))
        return run_id


def open_tracker(
    address: str | None, experiment: str = DEFAULT_EXPERIMENT, log: Callable[[str], None] = print
) -> Recorder:
    """A tracker that records runs at `address`; as a context manager it also notes how they ended.

    Raises `ConfigError` for an address that can never work. A server that does not answer is told to `say` once, and
    training goes on without it.
    """
    location = resolve(address)
    return Recorder(lambda: MLflowStore(location, experiment), shown(location), log)


class Recorder(Silent):
    """A tracker that records each run that is opened, a half inside the run that it is for."""

    def __init__(self, connect: Callable[[], MLflowStore], address: str, log: Callable[[str], None]) -> None:
        self._connect, self._address, self._say = connect, address, log
        self._store: MLflowStore | None = None
        self._open: list[RunRecording] = []
        self._lost = False

    def opened(self, folder: Path) -> None:
        """A run begins, or goes on, in `folder`."""
        self._try(folder, lambda: self._open.append(self._begin(folder)))

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Sent at once, so that a run can be watched."""
        if self._open:
            run = self._open[-1]
            self._try(run.folder, lambda: run.epoch(epoch, figures, time.time()))

    def finish(self, figures: Mapping[str, Any]) -> None:
        """The result and the files are sent; `figures` says where the artifact lies, whose figures have intervals."""
        if self._open:
            run = self._open.pop()
            self._try(run.folder, lambda: run.finish(Path(figures["artifact"]), time.time()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Runs that did not finish are marked: killed when they were asked to stop, else failed with the sentence."""
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        while self._open:
            run = self._open.pop()
            self._try(run.folder, partial(_abandon, run, stopped, error))

    def _begin(self, folder: Path) -> RunRecording:
        self._store = self._store or self._connect()
        return RunRecording(self._store, folder, self._open[-1].run_id if self._open else None)

    def _try(self, folder: Path, send: Callable[[], Any]) -> None:
        if self._lost:
            return
        try:
            send()
        except (TrackingError, OSError) as trouble:
            self._lost = True
            self._open.clear()
            self._say(
                f"Warning: {trouble}; training goes on, and 'ncf experiments import {folder} --track {self._address}' "
                "sends the run later."
            )


def import_run(store: MLflowStore, folder: Path, parent: str | None = None) -> str:
    """Send a run from its folder, with its halves, or what the store lacks of it; the id that it has there."""
    read_run(folder)
    run = RunRecording(store, folder, parent)
    for half in ("gmf", "mlp"):
        if (folder / half / "run.json").is_file():
            import_run(store, folder / half, run.run_id)
    seconds = time.time()
    for epoch, event in sorted(epochs_of(folder).items()):
        seconds = event.pop("time", seconds)
        run.epoch(epoch, event, seconds)
    if (folder / "artifact" / "metrics.json").is_file():
        run.finish(folder / "artifact", seconds)
    else:
        store.end(run.run_id, "KILLED")
    return run.run_id


def read_run(folder: Path) -> dict[str, Any]:
    """`run.json` of a run's folder; `StorageError` where there is none."""
    try:
        document = json.loads((folder / "run.json").read_text("utf-8"))
        return {"experiment": document["experiment"], "data": document["data"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise StorageError(f"{folder} holds no run: give the --output folder of 'ncf train'.") from None


def parameters(experiment: Experiment) -> dict[str, str]:
    """Settings by dotted name: what is not default, and what is important in any case."""
    everything = dict(_flat(experiment.model_dump(mode="json", exclude={"data", "published", "name"})))
    changed = dict(_flat(experiment.model_dump(mode="json", exclude_defaults=True)))
    return {name: value for name, value in everything.items() if name in changed or name in IMPORTANT}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


def _tags(experiment: Experiment, data: Mapping[str, Any], folder: Path) -> dict[str, str]:
    job = os.environ.get("TRAINING_JOB_NAME") or str(_read(folder / "job.json").get("job", ""))
    tags = {
        "ncf.experiment_digest": experiment.digest(),
        "ncf.data": str(data.get("name") or ""),
        "ncf.data_digest": str(data["digest"]),
        "ncf.version": version("ncf"),
        "ncf.folder": folder.name,
        JOB_TAG: job,
        "mlflow.source.name": "ncf",
        "mlflow.source.type": "JOB" if job else "LOCAL",
        "mlflow.source.git.commit": _commit(),
        "mlflow.user": _user(),
    }
    return {name: value for name, value in tags.items() if value}


def _read(path: Path) -> dict[str, Any]:
    """A document of the folder; empty where it is not there or is none."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _results(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Figures of the kept weights, those of the test with their intervals."""
    test = metrics["test"]
    figures = {f"test_{name}": value for name, value in test["metrics"].items()}
    for name, interval in test.get("intervals", {}).items():
        if interval:
            figures |= {f"test_{name}_low": interval[0], f"test_{name}_high": interval[1]}
    kept = metrics.get("validation", {}).get("metrics", {})
    figures |= {f"validation_{name}": value for name, value in kept.items()}
    return figures | {"run_seconds": metrics.get("seconds", 0.0)}


def _abandon(run: RunRecording, stopped: bool, error: BaseException | None) -> None:
    status: Status = "KILLED" if stopped else "FAILED"
    if isinstance(error, NcfError):
        run.store.tag(run.run_id, "ncf.reason", str(error))
    run.store.end(run.run_id, status)


def epochs_of(folder: Path) -> dict[int, dict[str, Any]]:
    """The last event of each epoch: a resumed run tells some twice."""
    found: dict[int, dict[str, Any]] = {}
    path = folder / "events.jsonl"
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the line that a kill cut off
        if event.pop("event", "") == "epoch":
            found[event.pop("epoch")] = event
    return found


def _commit() -> str:
    """The commit of the working folder, or empty."""
    try:
        command = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return ""
