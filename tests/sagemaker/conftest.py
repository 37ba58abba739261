"""An artifact of made-up data for the tests of SageMaker."""

from pathlib import Path

import pytest

from aws import Aws
from ncf.serving.artifact import write_artifact
from ncf.serving.recommender import Recommender
from pipeline_aws import Commands, container
from support import checkerboard, experiment, model_of, planted


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users 100..139, items 500..529 with titles. Not to be changed."""
    model = model_of("neumf", 40, 30, tower=[16, 8])
    folder = tmp_path_factory.mktemp("packed") / "artifact"
    return write_artifact(folder, model, experiment("neumf"), checkerboard(), {"test": {}}, "")


@pytest.fixture(scope="session")
def served(artifact: Path) -> Recommender:
    """The recommender of that artifact."""
    return Recommender.open(artifact)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small prepared data folder. Not to be changed."""
    folder = tmp_path_factory.mktemp("prepared") / "data"
    planted().save(folder)
    return folder


@pytest.fixture
def ncf(aws: Aws, tmp_path: Path) -> Commands:
    """Commands against the double, whose containers run our programs."""
    aws.client("s3").create_bucket(Bucket="mine")
    aws.run(container)
    return Commands(aws, tmp_path)
