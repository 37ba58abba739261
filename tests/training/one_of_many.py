"""A process of several that train together: `python one_of_many.py RANK SIZE PORT SETTINGS OUTPUT`.

Writes OUTPUT/weights-RANK.safetensors and OUTPUT/history-RANK.json. SETTINGS are JSON: overrides, and
optionally the step after which process `stopper` asks to stop.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from ncf import experiment
from ncf.config import Experiment
from ncf.errors import Interrupted
from ncf.tracking.tracker import Silent
from ncf.training import FitResult, Trainer
from ncf.training import fit as real_fit
from ncf.training.parallel.connect import processes
from support import planted

KEPT: list[Trainer] = []


def fit(trainer: Trainer, *arguments: object) -> FitResult:
    """The real one, which also keeps the trainer: only process 0 writes an artifact."""
    KEPT.append(trainer)
    return real_fit(trainer, *arguments)


class StopAfter(Silent):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def progress(self, epoch: int, done: int, total: int) -> None:
        self.left -= 1


def main(rank: int, size: int, port: str, settings: dict[str, object], output: Path) -> None:
    torch.set_num_threads(1)
    experiment.fit = fit
    recipe = Experiment.parse({}, settings["overrides"])
    tracker = StopAfter(int(settings.get("steps", 10**9)))
    stops = settings.get("stopper") == rank
    with processes("127.0.0.1", int(port), rank, size) as communicator:
        options = experiment.RunOptions(
            resume=True, tracker=tracker, communicator=communicator, stop=lambda: stops and tracker.left <= 0
        )
        try:
            run = experiment.train(planted(), recipe, output / "run", options=options)
        except Interrupted:
            print("stopped")
            return
    save_file(KEPT[-1].model.state_dict(), output / f"weights-{rank}.safetensors")
    (output / f"history-{rank}.json").write_text(json.dumps(run.metrics["history"]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]), Path(sys.argv[5]))
