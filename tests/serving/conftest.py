"""An artifact of made-up data for all tests of serving."""

from pathlib import Path

import pytest

from ncf.serving.artifact import write_artifact
from ncf.serving.recommender import Recommender
from support import checkerboard, experiment, model_of


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users 100..139, items 500..529 with titles, random weights of a NeuMF. Not to be changed."""
    model = model_of("neumf", 40, 30, tower=[16, 8])
    folder = tmp_path_factory.mktemp("served") / "artifact"
    metrics = {"test": {"metrics": {"hr@10": 0.5, "ndcg@10": 0.25}}}
    return write_artifact(folder, model, experiment("neumf"), checkerboard(), metrics, "")


@pytest.fixture(scope="session")
def served(artifact: Path) -> Recommender:
    """The recommender of that artifact."""
    return Recommender.open(artifact)
