"""Fixtures of real containers, for tests/container and tests/hosted: the image, built once, and prepared
data."""

import os
from pathlib import Path

import pytest

TWO_EPOCHS = {
    "name": "ml-100k",
    "model.kind": "neumf",
    "model.factors": "32",
    "model.embedding": "16",
    "model.tower": "[32, 16]",
    "train.init": "spectral",
    "train.epochs": "2",
    "train.threads": "1",
    "train.precision": "float32",
    "evaluation.cutoffs": "[10]",
    "evaluation.bootstrap": "0",
}


@pytest.fixture(scope="session")
def image() -> str:
    """The tag of the image; NCF_TEST_IMAGE names one that is built already."""
    from containers import script

    script("docker-engine", "start")
    if built := os.environ.get("NCF_TEST_IMAGE"):
        return built
    script("image", "ncf:local")
    return "ncf:local"


@pytest.fixture(scope="session")
def two_epochs() -> dict[str, str]:
    """Hyperparameters of two epochs that take a second or two."""
    return dict(TWO_EPOCHS)


@pytest.fixture(scope="session")
def ml_100k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ML-100K, prepared."""
    from ncf.data import PrepareOptions, prepare_catalog

    folder = tmp_path_factory.mktemp("data") / "ml-100k"
    prepare_catalog("ml-100k", PrepareOptions())[0].save(folder)
    return folder
