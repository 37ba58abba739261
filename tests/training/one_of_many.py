"""A process of several that train together: `main(rank, size, port, settings, output)`, started by
`together.run`.

Writes OUTPUT/weights-RANK.safetensors and OUTPUT/history-RANK.json, and prints the lines of its log.
`settings` are

| name | what |
| --- | --- |
| `overrides`, `set` | of the recipe: for all processes, and for this one |
| `data` | a prepared data folder, instead of `planted()` |
| `gmf`, `mlp` | runs to fuse |
| `steps` | after how many steps process `stopper` asks to stop |
| `resume` | whether to go on with the run that is there; yes unless given |
| `version` | what this process takes for the version of ncf |
| `file_size` | bytes that this process may write into a file, in place of a full disk, from step `steps` on |
"""

import importlib.metadata
import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ncf import experiment
from ncf.config import Experiment
from ncf.data import Dataset
from ncf.errors import Interrupted, NcfError
from ncf.tracking.tracker import Silent
from ncf.training import FitResult, Trainer
from ncf.training import fit as real_fit
from ncf.training.parallel.connect import processes
from support import planted

KEPT: list[Trainer] = []


def fit(trainer: Trainer, *arguments: object, **settings: object) -> FitResult:
    """The real one, which also keeps the trainer: only process 0 writes an artifact."""
    KEPT.append(trainer)
    return real_fit(trainer, *arguments, **settings)


class Watching(Silent):
    """Prints the log, counts steps, and lets the disk become full."""

    def __init__(self, steps: int, file_size: int | None) -> None:
        self.left, self.file_size = steps, file_size

    def log(self, sentence: str) -> None:
        print(sentence)

    def progress(self, epoch: int, done: int, total: int) -> None:
        self.left -= 1
        if self.left == 0 and self.file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_size, self.file_size))


def main(rank: int, size: int, port: str, settings: dict[str, Any], output: Path) -> None:
    """Train with the others; a message ends the process with exit code 2 and a stop with 130."""
    torch.set_num_threads(1)
    experiment.fit = fit
    if "version" in settings:
        real = importlib.metadata.version
        experiment.version = lambda name: settings["version"] if name == "ncf" else real(name)
    recipe = Experiment.parse({}, [*settings["overrides"], *settings.get("set", ())])
    tracker = Watching(int(settings.get("steps", 10**9)), settings.get("file_size"))
    stops = settings.get("stopper") == rank
    halves = {name: settings[name] for name in ("gmf", "mlp") if name in settings}
    try:
        with processes("127.0.0.1", int(port), rank, size) as communicator:
            options = experiment.RunOptions(
                resume=settings.get("resume", True), tracker=tracker, communicator=communicator,
                stop=lambda: stops and tracker.left <= 0,
            )  # fmt: skip
            data = Dataset.open(settings["data"]) if "data" in settings else planted()
            run = experiment.train(data, recipe, output / "run", options=options, **halves)
    except Interrupted:
        print("stopped")
        sys.exit(130)
    except NcfError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    save_file(KEPT[-1].model.state_dict(), output / f"weights-{rank}.safetensors")
    (output / f"history-{rank}.json").write_text(json.dumps(run.metrics["history"]))
