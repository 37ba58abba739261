"""A process of several that train with sharded tables: `python one_of_shards.py RANK SIZE PORT SETTINGS
OUTPUT`.

SETTINGS are JSON: `overrides` of the recipe; `users` and `items`, the size of the made-up data; `what`, to
train (the default) or to write the first values alone to OUTPUT/start.safetensors; `steps`, after which
process `stopper` asks to stop.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from ncf import experiment
from ncf.config import Experiment
from ncf.errors import Interrupted, NcfError
from ncf.models import build_model
from ncf.runtime import generator
from ncf.tracking.tracker import Silent
from ncf.training.parallel.communicator import Communicator
from ncf.training.parallel.connect import processes
from ncf.training.parallel.sharded_weights import draw, write_weights
from ncf.training.parallel.sharding import ShardedTables, process_group
from support import planted


class StopAfter(Silent):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def progress(self, epoch: int, done: int, total: int) -> None:
        self.left -= 1


def start(settings: dict[str, Any], recipe: Experiment, communicator: Communicator, output: Path) -> None:
    """The first values, written as they are."""
    with process_group(torch.device("cpu")):
        model = build_model(recipe.model, 0, 0, generator(0, "init"))
        tables = ShardedTables(model, settings["users"], settings["items"], communicator)
        draw(tables, 0)
        write_weights(tables, output / "start.safetensors")
        communicator.barrier()


def train(settings: dict[str, Any], recipe: Experiment, communicator: Communicator, output: Path) -> None:
    """A run, from its checkpoint where there is one."""
    tracker = StopAfter(int(settings.get("steps", 10**9)))
    stops = settings.get("stopper") == communicator.rank
    options = experiment.RunOptions(
        resume=True, tracker=tracker, communicator=communicator, stop=lambda: stops and tracker.left <= 0
    )
    try:
        experiment.train(
            planted(settings["users"], settings["items"]), recipe, output / "run", options=options
        )
    except Interrupted:
        print("stopped")


def main(rank: int, size: int, port: str, settings: dict[str, Any], output: Path) -> None:
    torch.set_num_threads(1)
    recipe = Experiment.parse({}, settings["overrides"])
    work = start if settings.get("what") == "start" else train
    with processes("127.0.0.1", int(port), rank, size) as communicator:
        try:
            work(settings, recipe, communicator, output)
        except NcfError as error:
            print(error)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]), Path(sys.argv[5]))
