"""A small data set, its recipe, and what one process and two undisturbed ones make of it."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from launch.groups import NCF, group
from ncf import experiment
from ncf.config import Experiment
from ncf.data import Dataset
from together import small_project


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where commands run: `data/`, `small.toml`."""
    return small_project(tmp_path_factory.mktemp("launch"), epochs=4, batch_size=270, bootstrap=20)


@pytest.fixture(scope="session")
def single(folder: Path) -> Path:
    """The run of a single process."""
    return run_here(folder, "single")


@pytest.fixture(scope="session")
def pair(folder: Path) -> Path:
    """The undisturbed run of two processes, seen on a terminal (`pair-seen`); its answer is in `pair-out`."""
    command = " ".join(
        shlex.quote(str(word)) for word in [*train(), "--output", "pair", "--nproc", 2, "--json"]
    )
    with group(["script", "-qec", f"{command} > pair-out", "/dev/null"], folder) as started:
        started.ended()
        (folder / "pair-seen").write_text(started.out)
    return folder / "pair"


def train() -> list[object]:
    """The command line that trains the recipe on the data."""
    return [*NCF, "train", "small.toml", "--data", "data"]


def run_here(folder: Path, output: str, final: Path | None = None, **options: Any) -> Path:
    """A run of one process: this one."""
    settings = Experiment.load(folder / "small.toml", [])
    run = experiment.train(
        Dataset.open(folder / "data"), settings, folder / output, data_path=folder / "data",
        options=experiment.RunOptions(**options), final=final,
    )  # fmt: skip
    return run.folder


def losses(run: Path) -> list[float]:
    history = json.loads((run / "artifact" / "metrics.json").read_text())["history"]
    return [row["loss"] for row in history]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "artifact" / "model.safetensors")


def assert_equal(run: Path, other: Path) -> None:
    """To the bit."""
    assert losses(run) == losses(other)
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(run).items())


def assert_close(run: Path, other: Path) -> None:
    """But for the order in which floats are added."""
    assert losses(run) == pytest.approx(losses(other), rel=1e-5)
    for name, value in weights(run).items():
        torch.testing.assert_close(value, weights(other)[name], rtol=1e-3, atol=1e-5)
