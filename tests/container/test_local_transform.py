"""Batch transform of local mode, in real containers: the rows of `ncf batch`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from local_mode import local_session, make_config, transformed
from ncf.sagemaker.jobs.package import pack_model
from ncf.sagemaker.session import Session
from ncf.serving.artifact import write_artifact
from ncf.serving.batch import write_batch
from ncf.serving.recommender import Recommender
from support import checkerboard, experiment, model_of

pytestmark = pytest.mark.container

K = 3
USERS = range(100, 140)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = model_of("neumf", 40, 30, tower=[16, 8])
    folder = tmp_path_factory.mktemp("model") / "artifact"
    return write_artifact(folder, model, experiment("neumf"), checkerboard(), {"test": {}}, "")


@pytest.fixture
def session(tmp_path: Path, image: str, artifact: Path) -> Iterator[Session]:
    """A session that has a model, `m`."""
    with local_session(tmp_path / "home") as made:
        make_config(made, "m", image, pack_model(artifact, tmp_path / "model.tar.gz"))
        yield made


def transform(
    session: Session, lines: list[str], content: str = "application/jsonlines", **more: Any
) -> dict[str, Any]:
    given = session.home / "given.jsonl"
    given.write_text("".join(f"{line}\n" for line in lines))
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"file://{given}"}}
    session.client("sagemaker").create_transform_job(
        TransformJobName="t",
        ModelName="m",
        TransformInput={"DataSource": source, "ContentType": content, "SplitType": "Line"},
        TransformOutput={
            "S3OutputPath": session.uri("answers"),
            "Accept": "application/jsonlines",
            "AssembleWith": "Line",
        },
        TransformResources={"InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
        Tags=session.tags(),
        **more,
    )
    return transformed(session, "t")


@pytest.mark.parametrize("strategy", ["MultiRecord", "SingleRecord"])
def test_the_rows_are_those_of_ncf_batch(
    session: Session, artifact: Path, tmp_path: Path, strategy: str
) -> None:
    job = transform(
        session, [json.dumps({"users": [user], "k": K}) for user in USERS], BatchStrategy=strategy
    )
    assert job["TransformJobStatus"] == "Completed", job
    answers = session.home / "storage" / "answers" / "given.jsonl.out"
    rows = [
        (one["user"], rank, item["item"], item["score"])
        for line in answers.read_text().splitlines()
        for one in json.loads(line)["recommendations"]
        for rank, item in enumerate(one["items"], 1)
    ]
    write_batch(Recommender.open(artifact), tmp_path / "batch.parquet", K)
    expected = pl.read_parquet(tmp_path / "batch.parquet").rows()
    assert [row[:3] for row in rows] == [row[:3] for row in expected]
    assert [row[3] for row in rows] == pytest.approx([row[3] for row in expected], abs=1e-5)


def test_an_error_of_the_container_fails_the_job(session: Session) -> None:
    job = transform(session, [json.dumps({"users": [100], "k": K})], content="image/png")
    assert job["TransformJobStatus"] == "Failed"
    assert "415. The container refused a request for given.jsonl: " in job["FailureReason"]
    assert not (session.home / "storage" / "answers").exists()
