"""A small data set, its recipe, and what one process and two undisturbed ones make of it."""

import json
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

STEPS = 20


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where commands run: `data/`, `small.toml`."""
    return small_project(tmp_path_factory.mktemp("launch"), epochs=4, batch_size=270, bootstrap=20)


@pytest.fixture(scope="session")
def alone(folder: Path) -> Path:
    """The run of a single process."""
    return single(folder, "alone")


@pytest.fixture(scope="session")
def pair(folder: Path) -> Path:
    """The undisturbed run of two processes."""
    with group([*train(), "--output", "pair", "--nproc", 2, "--json"], folder) as started:
        errors = started.ended()
        (folder / "pair-out").write_text(started.out)
        (folder / "pair-err").write_text(errors)
    return folder / "pair"


def train(data: str = "data", recipe: str = "small.toml") -> list[object]:
    return [*NCF, "train", recipe, "--data", data]


def single(
    folder: Path,
    output: str,
    data: str = "data",
    recipe: str = "small.toml",
    halves: Any = None,
    **options: Any,
) -> Path:
    """A run of one process: this one."""
    settings = Experiment.load(folder / recipe, [])
    done = experiment.train(
        Dataset.open(folder / data), settings, folder / output, data_path=folder / data, **(halves or {}),
        options=experiment.RunOptions(**options),
    )  # fmt: skip
    return done.folder


def metrics(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "artifact" / "metrics.json").read_text())
    return found


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in metrics(run)["history"]]


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
