"""Lets a test hold a rank of a real training at one step: Python imports this by itself if it is on the path.

NCF_TEST_HOLD is "RANK FOLDER EPOCH,STEP …", counted from 0. Before the n-th of these steps that rank writes
its process id to FOLDER/held-n, once, and waits for FOLDER/go. What the test does meanwhile (kill, stop, fill
the disk) hits it in the middle of an epoch, whatever the load of the machine. By then the others know its
phase. A rank that was started again finds the file and is not held there a second time.
"""

import importlib.util
import json
import os
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any


def holding(train: Any, folder: Path, steps: list[str]) -> Any:
    def step_of(self: Any, part: Any, stop: Any) -> Any:
        here = f"{self.position.epoch},{part.number}"
        held = folder / f"held-{steps.index(here)}" if here in steps else None
        if held is not None and not held.exists():
            while told(self.communicator.watch) != self.communicator.watch.phase:
                time.sleep(0.01)
            (folder / "held.part").write_text(str(os.getpid()))
            (folder / "held.part").rename(held)
            while not (folder / "go").exists():
                time.sleep(0.01)
        return train(self, part, stop)

    return step_of


def told(watch: Any) -> str:
    """The phase that the other processes know of."""
    return json.loads(watch._read(f"rank/{watch.rank}") or '{"phase": ""}')["phase"]


class Finder:
    """Changes the trainer as soon as it is imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "ncf.training.trainer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def changed(module: Any) -> None:
            run(module)
            _, folder, *steps = os.environ["NCF_TEST_HOLD"].split()
            module.Trainer._step = holding(module.Trainer._step, Path(folder), steps)

        spec.loader.exec_module = changed
        return spec


def mine(variable: str) -> bool:
    return os.environ.get(variable, "").split(" ")[0] == os.environ.get("RANK", "none")


if mine("NCF_TEST_HOLD"):
    sys.meta_path.insert(0, Finder())
