"""Real processes that train together: `run` starts training/one_of_many.py several times and waits.

The processes are forked from a server that has imported torch and ncf already, which takes most of a second
process's time. They share nothing else with the tests.
"""

import atexit
import importlib.util
import json
import multiprocessing
import multiprocessing.forkserver
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from processes import free_port
from support import planted

PROGRAM = Path(__file__).with_name("training") / "one_of_many.py"
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "pytest",
        "polars",
        "safetensors.torch",
        "torch.distributed.launcher.api",
        "ncf.tracking.console",
        "ncf.experiment",
        "ncf.training.parallel.connect",
        "ncf.training.parallel.launcher",
    ]
)
atexit.register(
    multiprocessing.forkserver._forkserver._stop
)  # waits for it, so that its time is counted as ours
RECIPE = """\
name = "small"
[model]
kind = "neumf"
factors = 4
embedding = 6
tower = [6, 3]
[train]
epochs = {epochs}
batch_size = {batch_size}
threads = 1
precision = "float32"
device = "cpu"
[evaluation]
bootstrap = {bootstrap}
"""


def small_project(folder: Path, **settings: int) -> Path:
    """`folder` with `data/` and `small.toml`, whose `epochs`, `batch_size` and `bootstrap` are given."""
    planted().save(folder / "data")
    (folder / "small.toml").write_text(RECIPE.format(**settings))
    return folder


BASE = [
    "model.kind=neumf",
    "model.factors=4",
    "model.embedding=6",
    "model.tower=[6,3]",
    "train.epochs=2",
    "train.batch_size=700",
    "train.threads=1",
    "train.precision=float32",
    "train.device=cpu",
    "evaluation.bootstrap=0",
]
HALVES = [
    "pretraining.gmf.model.kind=gmf",
    "pretraining.gmf.model.factors=4",
    "pretraining.gmf.train.epochs=1",
    "pretraining.gmf.train.threads=1",
    "pretraining.gmf.train.precision=float32",
    "pretraining.gmf.evaluation.bootstrap=0",
    "pretraining.mlp.model.kind=mlp",
    "pretraining.mlp.model.embedding=6",
    "pretraining.mlp.model.tower=[6,3]",
    "pretraining.mlp.train.epochs=1",
    "pretraining.mlp.train.threads=1",
    "pretraining.mlp.train.precision=float32",
    "pretraining.mlp.evaluation.bootstrap=0",
]


class Forked:
    """A function that runs in a process of its own, with its output in files."""

    def __init__(self, function: Any, arguments: Sequence[Any], output: Path) -> None:
        self.out, self.err = output.with_suffix(".out"), output.with_suffix(".err")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        self._process = CONTEXT.Process(
            target=_redirected, args=(function, arguments, self.out, self.err, environment, sys.path)
        )
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def ended(self, seconds: float = 200) -> subprocess.CompletedProcess[str]:
        """Wait for the end; exit code, standard output and standard error."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        texts = (self.out.read_text(), self.err.read_text())
        return subprocess.CompletedProcess([], self._process.exitcode or 0, *texts)


def _redirected(
    function: Any,
    arguments: Sequence[Any],
    out: Path,
    err: Path,
    environment: dict[str, str],
    path: list[str],
) -> None:
    for number, file in ((1, out), (2, err)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False, buffering=1) for number in (1, 2))  # noqa: SIM115
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environment)
    code = 0
    try:
        function(*arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _rank(rank: int, size: int, port: int, settings: dict[str, Any], output: Path) -> None:
    # By its path: a benchmark's tests put another `training` on sys.path.
    spec = importlib.util.spec_from_file_location("one_of_many", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    one_of_many = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(one_of_many)
    one_of_many.main(rank, size, str(port), settings, output)


def run(size: int, output: Path, *more: str, **settings: Any) -> list[subprocess.CompletedProcess[str]]:
    """Start `size` processes and wait for all. `more` are settings of the recipe; `settings` are those of the
    program, where a list has one value for each rank."""
    output.mkdir(exist_ok=True)
    port = free_port()
    started = []
    for rank in range(size):
        own = {name: value[rank] if isinstance(value, list) else value for name, value in settings.items()}
        words = {"overrides": [*BASE, *more], **own}
        started.append(Forked(_rank, (rank, size, port, words, output), output / f"log-{rank}"))
    return [process.ended() for process in started]


def weights(output: Path, rank: int) -> dict[str, torch.Tensor]:
    return load_file(output / f"weights-{rank}.safetensors")


def losses(output: Path, rank: int = 0) -> list[float]:
    return [row["loss"] for row in json.loads((output / f"history-{rank}.json").read_text())]


def metrics(output: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((output / "run" / "artifact" / "metrics.json").read_text())
    return document
