"""Recording a run in MLflow: what is sent, when, and what happens if the server does not answer.

In: the folder of a run (`run.json`, `events.jsonl`, `artifact/`) and what the trainer reports to its tracker.
Out: one run in an MLflow store; the halves of a pre-trained NeuMF are nested in it. `mlflow.json` in the
folder holds the id of the recorded run, so a resumed run continues in the same record. The one decision worth
knowing: recording never ends a training run. The first failure is reported in one sentence and nothing more
is sent; `import_run` sends it all later.
"""

from __future__ import annotations

import getpass
import json
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
from ncf.tracking.mlflow import DEFAULT_EXPERIMENT, MLflowStore, Status, resolve, shown
from ncf.tracking.tracker import Silent

IMPORTANT = (
    "model.kind",
    "model.factors",
    "train.epochs",
    "train.batch_size",
    "train.negatives",
    "train.learning_rate",
    "train.loss",
    "train.init",
    "train.l2_gmf",
    "train.l2_mlp",
    "train.validation",
    "train.seed",
)
"""Settings that are recorded even when they have their defaults, so that comparisons have no empty
columns."""
_OPEN = "auto"
"""A setting whose number is chosen while the run trains."""
Identity = Callable[[Path], Mapping[str, str]]
"""Tags that tell what a run folder belongs to, such as a job. A run in the store that has them is
continued."""


def no_identity(_: Path) -> dict[str, str]:
    """The identity of a run that belongs to nothing else."""
    return {}


class RunRecording:
    """One run folder and its record in the store."""

    def __init__(
        self, store: MLflowStore, folder: Path, parent: str | None = None, identity: Identity = no_identity
    ) -> None:
        """Continue the record of `folder`, or of a run in `store` with the same `identity`, or begin a new
        one.

        `parent` is the id of the run to nest this one in.
        """
        self.store, self.folder = store, folder
        self._note = folder / "mlflow.json"
        self._epochs = set[int]()
        self._last_epoch = 0
        self._settled = False
        tags = dict(identity(folder))
        self.run_id = self._noted() or (None if parent else self._identified(tags)) or self._new(parent, tags)

    def epoch(self, epoch: int, figures: Mapping[str, Any], seconds: float) -> None:
        """Send the `figures` of an epoch that ended at `seconds` since 1970, unless the store has them
        already."""
        self._settle()
        self._last_epoch = epoch
        if epoch not in self._epochs:
            self._epochs.add(epoch)
            numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
            self.store.log_metrics(self.run_id, numbers, epoch, seconds)

    def finish(self, artifact: Path, seconds: float) -> None:
        """Send the final figures, the model card, the `artifact` folder and the run's two documents."""
        self._settle()
        metrics = json.loads((artifact / "metrics.json").read_text("utf-8"))
        self.store.log_metrics(self.run_id, _results(metrics), self._last_epoch, seconds)
        self.store.set_tag(self.run_id, "ncf.selected", str(metrics.get("selected", "")))
        card = (artifact / "MODEL_CARD.md").read_text("utf-8")
        self.store.set_tag(self.run_id, "mlflow.note.content", card)
        self.store.upload(self.run_id, artifact, "artifact")
        for name in ("run.json", "events.jsonl"):
            self.store.upload(self.run_id, self.folder / name)
        self.store.end(self.run_id, "FINISHED")

    def abandon(self, stopped: bool, error: BaseException | None) -> None:
        """Mark the run as killed if it was `stopped`, or as failed with the message of `error`."""
        if isinstance(error, NcfError):
            self.store.set_tag(self.run_id, "ncf.reason", str(error))
        status: Status = "KILLED" if stopped else "FAILED"
        self.store.end(self.run_id, status)

    def _settle(self) -> None:
        """Send the settings that were "auto" when the run began, as the numbers that were chosen since."""
        if not self._settled:
            self._settled = True
            self.store.add_parameters(self.run_id, parameters(_settled_experiment(self.folder)))

    def _noted(self) -> str | None:
        """The run noted in `mlflow.json`, if it is in this store and still exists."""
        try:
            note = json.loads(self._note.read_text("utf-8"))
            where = (note["address"], note["experiment"])
            run_id = str(note["run_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return self._resume(run_id) if where == (self.store.address, self.store.experiment) else None

    def _identified(self, tags: Mapping[str, str]) -> str | None:
        """The oldest run with these identity tags that is not nested in another."""
        runs = self.store.runs(tags) if tags else []
        return next((self._resume(run.run_id) for run in runs if run.parent is None), None)

    def _resume(self, run_id: str) -> str | None:
        epochs = self.store.resume(run_id)
        if epochs is None:
            return None
        self._epochs = epochs
        return run_id

    def _new(self, parent: str | None, identity: Mapping[str, str]) -> str:
        document = read_run(self.folder)
        experiment = Experiment.parse(document["experiment"], source=str(self.folder / "run.json"))
        tags = _tags(experiment, document["data"], self.folder)
        tags |= {**identity, "mlflow.source.type": "JOB" if identity else "LOCAL"}
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        known = {name: value for name, value in parameters(experiment).items() if value != _OPEN}
        run_id = self.store.begin(experiment.name, tags, known)
        note = {"address": self.store.address, "experiment": self.store.experiment, "run_id": run_id}
        write_text(self._note, json.dumps(note))
        return run_id


def open_tracker(
    address: str | None,
    experiment: str = DEFAULT_EXPERIMENT,
    log: Callable[[str], None] = print,
    identity: Identity = no_identity,
) -> Recorder:
    """Make a tracker that records runs in MLflow; used as a context manager, it also records how they ended.

    `address` is as for `resolve`; `experiment` is the name of the experiment in MLflow. `log` takes the one
    sentence about a server that fails. `identity` gives the identity tags of a run folder. Raises
    `ConfigError` for an address that cannot work.
    """
    location = resolve(address)
    return Recorder(lambda: MLflowStore(location, experiment), shown(location), log, identity)


class Recorder(Silent):
    """A tracker that records every run that is opened. A half is nested in the run that it belongs to."""

    def __init__(
        self,
        connect: Callable[[], MLflowStore],
        address: str,
        log: Callable[[str], None],
        identity: Identity = no_identity,
    ) -> None:
        """`connect` opens the store when the first run begins; the others are as for `open_tracker`."""
        self._connect, self._address, self._log, self._identity = connect, address, log, identity
        self._store: MLflowStore | None = None
        self._open: list[RunRecording] = []
        self._failed = False

    def opened(self, folder: Path) -> None:
        """Begin or continue the record of the run in `folder`."""
        self._try(folder, lambda: self._open.append(self._begin(folder)))

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Send the figures of an epoch at once, so that a run can be watched."""
        if self._open:
            run = self._open[-1]
            self._try(run.folder, lambda: run.epoch(epoch, figures, time.time()))

    def finish(self, figures: Mapping[str, Any]) -> None:
        """Send the result and the files; `figures["artifact"]` is the artifact's folder."""
        if self._open:
            run = self._open.pop()
            self._try(run.folder, lambda: run.finish(Path(figures["artifact"]), time.time()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Mark the runs that did not finish."""
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        while self._open:
            run = self._open.pop()
            self._try(run.folder, partial(run.abandon, stopped, error))

    def _begin(self, folder: Path) -> RunRecording:
        self._store = self._store or self._connect()
        parent = self._open[-1].run_id if self._open else None
        return RunRecording(self._store, folder, parent, self._identity)

    def _try(self, folder: Path, send: Callable[[], Any]) -> None:
        if self._failed:
            return
        try:
            send()
        except (TrackingError, OSError) as trouble:
            self._failed = True
            self._open.clear()
            self._log(
                f"Warning: {trouble}; training goes on, and 'ncf experiments import {folder} --track "
                f"{self._address}' sends the run later."
            )


def import_run(
    store: MLflowStore, folder: Path, parent: str | None = None, identity: Identity = no_identity
) -> str:
    """Send a run and its halves from `folder`, or whatever of it `store` lacks. Returns the id of the run
    there.

    `parent` is the id of the run to nest it in; `identity` gives the identity tags of a run folder. Raises
    `StorageError` if `folder` holds no run.
    """
    read_run(folder)
    run = RunRecording(store, folder, parent, identity)
    for half in ("gmf", "mlp"):
        if (folder / half / "run.json").is_file():
            import_run(store, folder / half, run.run_id, identity)
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
    """The `experiment` and `data` of a run's `run.json`. Raises `StorageError` if `folder` has none."""
    try:
        document = json.loads((folder / "run.json").read_text("utf-8"))
        return {"experiment": document["experiment"], "data": document["data"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise StorageError(f"{folder} holds no run: give the --output folder of 'ncf train'.") from None


def _settled_experiment(folder: Path) -> Experiment:
    """The settings of a run with all numbers that have been chosen: of its artifact, or of its start."""
    artifact, chosen = folder / "artifact" / "config.json", folder / "chosen.json"
    if artifact.is_file():
        return Experiment.parse(json.loads(artifact.read_text("utf-8")), source=str(artifact))
    if chosen.is_file():
        return Experiment.parse(json.loads(chosen.read_text("utf-8"))["experiment"], source=str(chosen))
    return Experiment.parse(read_run(folder)["experiment"], source=str(folder / "run.json"))


def parameters(experiment: Experiment) -> dict[str, str]:
    """The settings of `experiment` by dotted name: those that differ from the defaults, and the `IMPORTANT`
    ones."""
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
    tags = {
        "ncf.experiment_digest": experiment.digest(),
        "ncf.data": str(data.get("name") or ""),
        "ncf.data_digest": str(data["digest"]),
        "ncf.version": version("ncf"),
        "ncf.folder": folder.name,
        "mlflow.source.name": "ncf",
        "mlflow.source.git.commit": _commit(),
        "mlflow.user": _user(),
    }
    return {name: value for name, value in tags.items() if value}


def _results(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures of the weights that were kept; those on test come with their intervals."""
    test = metrics["test"]
    figures = {f"test_{name}": value for name, value in test["metrics"].items()}
    for name, interval in test.get("intervals", {}).items():
        if interval:
            figures |= {f"test_{name}_low": interval[0], f"test_{name}_high": interval[1]}
    kept = metrics.get("validation", {}).get("metrics", {})
    figures |= {f"validation_{name}": value for name, value in kept.items()}
    return figures | {"run_seconds": metrics.get("seconds", 0.0)}


def epochs_of(folder: Path) -> dict[int, dict[str, Any]]:
    """The last event of each epoch in the run `folder`; a resumed run writes some epochs twice."""
    epochs: dict[int, dict[str, Any]] = {}
    path = folder / "events.jsonl"
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a killed run may leave its last line unfinished
        if event.pop("event", "") == "epoch":
            epochs[event.pop("epoch")] = event
    return epochs


def _commit() -> str:
    """The git commit of the working folder, or an empty string."""
    try:
        command = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the user of a container may have no name
        return ""
