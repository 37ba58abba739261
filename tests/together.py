"""Real processes that train together: `run` starts training/one_of_many.py several times and waits."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from processes import free_port
from support import planted

PROGRAM = Path(__file__).parent / "training" / "one_of_many.py"
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
    "model.kind=neumf", "model.factors=4", "model.embedding=6", "model.tower=[6,3]", "train.epochs=2",
    "train.batch_size=700", "train.threads=1", "train.precision=float32", "train.device=cpu",
    "evaluation.bootstrap=0",
]  # fmt: skip


def run(size: int, output: Path, *more: str, **settings: Any) -> list[subprocess.CompletedProcess[str]]:
    """Start `size` processes and wait for all."""
    output.mkdir(exist_ok=True)
    port = free_port()
    words = json.dumps({"overrides": [*BASE, *more], **settings})
    paths = [str(PROGRAM.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    started = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(rank), str(size), str(port), words, str(output)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for rank in range(size)
    ]  # fmt: skip
    return [subprocess.CompletedProcess(p.args, p.wait(), *p.communicate()) for p in started]


def weights(output: Path, rank: int) -> dict[str, torch.Tensor]:
    return load_file(output / f"weights-{rank}.safetensors")


def losses(output: Path, rank: int = 0) -> list[float]:
    return [row["loss"] for row in json.loads((output / f"history-{rank}.json").read_text())]
