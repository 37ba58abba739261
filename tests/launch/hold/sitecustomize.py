"""Lets a test hold a rank of a real training at one step: Python imports this by itself where it is on the path.

NCF_TEST_HOLD is "RANK EPOCH STEP FOLDER", counted from 0. That rank writes its process id to FOLDER/held before the step and
waits for FOLDER/go. What the test does meanwhile (kill, stop, fill the disk) hits it in the middle of an epoch, whatever
the machine's load; the others know by then what phase it is in. A rank that was started again finds the file, and is not held. NCF_TEST_DIES is "RANK FOLDER":
that rank is killed as it starts, the first time. NCF_TEST_VERSION is "RANK VERSION": what that rank says ncf's version is.
"""

import importlib.util
import json
import os
import signal
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any


def holding(train: Any, epoch: int, step: int, folder: Path) -> Any:
    def step_of(self: Any, part: Any, stop: Any) -> Any:
        if (self.position.epoch, part.number) == (epoch, step) and not (folder / "held").exists():
            while told(self.communicator.watch) != self.communicator.watch.phase:
                time.sleep(0.01)
            (folder / "held.part").write_text(str(os.getpid()))
            (folder / "held.part").rename(folder / "held")
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
            _, epoch, step, folder = os.environ["NCF_TEST_HOLD"].split(maxsplit=3)
            module.Trainer._step = holding(module.Trainer._step, int(epoch), int(step), Path(folder))

        spec.loader.exec_module = changed
        return spec


def mine(variable: str) -> bool:
    return os.environ.get(variable, "").split(" ")[0] == os.environ.get("RANK", "none")


if mine("NCF_TEST_HOLD"):
    sys.meta_path.insert(0, Finder())
if mine("NCF_TEST_DIES"):
    died = Path(os.environ["NCF_TEST_DIES"].split(maxsplit=1)[1]) / "died"
    if not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
if mine("NCF_TEST_VERSION"):
    import importlib.metadata

    real = importlib.metadata.version
    importlib.metadata.version = lambda name: (
        os.environ["NCF_TEST_VERSION"].split()[1] if name == "ncf" else real(name)
    )
