"""Small runs to report on, each trained once."""

from pathlib import Path

import pytest

from ncf.config import Experiment
from ncf.data import Dataset
from reports import titled, trained
from support import experiment as small


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """What the run was trained on."""
    return titled()


@pytest.fixture(scope="session")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A NeuMF that was watched on validation. Not to be changed."""
    return trained(dataset, small("neumf", epochs=4, patience=4), tmp_path_factory.mktemp("runs"), "neumf")


@pytest.fixture(scope="session")
def fused(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A NeuMF that was fused from a GMF and an MLP. Not to be changed."""
    gmf, mlp, both = (small(kind, epochs=2) for kind in ("gmf", "mlp", "neumf"))
    halves = {"gmf": gmf.model_dump(), "mlp": mlp.model_dump()}
    experiment = Experiment.parse(both.model_dump() | {"pretraining": halves})
    return trained(dataset, experiment, tmp_path_factory.mktemp("runs"), "fused")
