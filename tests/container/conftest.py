"""One image for all tests with containers, built once; an engine is started where none answers."""

import os
from pathlib import Path

import pytest
from containers import OptMl, script

from ncf.data import PrepareOptions, prepare_catalog

TWO_EPOCHS = {
    "name": "ml-100k", "model.kind": "neumf", "model.factors": "32", "model.embedding": "16", "model.tower": "[32, 16]",
    "train.start": "spectral", "train.epochs": "2", "train.threads": "1", "train.precision": "float32",
    "evaluation.cutoffs": "[10]", "evaluation.bootstrap": "0",
}  # fmt: skip


@pytest.fixture(scope="session")
def image() -> str:
    """The tag of the image; NCF_TEST_IMAGE names one that is built already."""
    script("docker-engine", "start")
    if built := os.environ.get("NCF_TEST_IMAGE"):
        return built
    script("image", "ncf:local")
    return "ncf:local"


@pytest.fixture(scope="session")
def ml_100k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ML-100K, prepared."""
    folder = tmp_path_factory.mktemp("data") / "ml-100k"
    prepare_catalog("ml-100k", PrepareOptions())[0].save(folder)
    return folder


@pytest.fixture(scope="session")
def trained(image: str, ml_100k: Path, tmp_path_factory: pytest.TempPathFactory) -> OptMl:
    """/opt/ml after two epochs of ML-100K in the image."""
    job = OptMl.make(tmp_path_factory.mktemp("trained"), TWO_EPOCHS, ml_100k)
    done = job.train(image)
    assert done.returncode == 0, done.stderr
    return job
