"""A small run to report on, trained once."""

from pathlib import Path

import pytest

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
