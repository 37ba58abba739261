"""Batch transform against the double: the rows are those of `ncf batch`, and nothing is left behind."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import programs
from aws import Aws
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.jobs.run import JobFailed
from ncf.sagemaker.jobs.transform import (
    Transformed,
    TransformOptions,
    model_request,
    transform,
    transform_request,
)
from ncf.sagemaker.session import Session
from ncf.serving.batch import write_batch
from ncf.serving.recommender import Recommender
from programs import judged, session_of

OPTIONS = TransformOptions("999999999999.dkr.ecr.us-east-1.amazonaws.com/ncf:1", k=5)


def done(
    aws: Aws, source: object, output: Path, users: Any = None, options: TransformOptions = OPTIONS
) -> Transformed:
    return transform(
        aws.session(),
        str(source),
        output,
        users,
        options,
        log=lambda _: None,
        sleep=lambda _: time.sleep(0.05),
    )


def nothing_is_left(aws: Aws) -> None:
    """No model, and no job that still runs."""
    assert aws.records("Model") == []
    for job in aws.records("TransformJob"):
        assert aws.wait("TransformJob", job.name)["TransformJobStatus"] in ("Completed", "Failed", "Stopped")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_rows_are_those_of_batch(
    aws: Aws, artifact: Path, served: Recommender, tmp_path: Path, suffix: str
) -> None:
    read: Any = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix]
    aws.serve(programs.serve)
    result = done(aws, artifact, tmp_path / f"there{suffix}")
    write_batch(served, tmp_path / f"here{suffix}", 5)
    there, here = read(tmp_path / f"there{suffix}"), read(tmp_path / f"here{suffix}")
    assert_frame_equal(there, here, check_exact=False, abs_tol=1e-6, rel_tol=1e-6)
    assert (result.written.users, result.fallbacks) == (40, 0)
    nothing_is_left(aws)


def test_only_these_users_in_this_order_on_two_instances(aws: Aws, artifact: Path, tmp_path: Path) -> None:
    aws.serve(programs.serve)
    options = TransformOptions(OPTIONS.image, instance_count=2, k=3, exclude_seen=False)
    result = done(aws, artifact, tmp_path / "some.parquet", ["120", "101"], options)
    table = pl.read_parquet(tmp_path / "some.parquet")
    assert table["user"].to_list() == [120] * 3 + [101] * 3
    assert result.written.rows == 6


def test_unknown_users_are_counted(aws: Aws, artifact: Path, tmp_path: Path) -> None:
    aws.serve(programs.serve)
    result = done(aws, artifact, tmp_path / "some.csv", ["120", "nobody"])
    assert result.fallbacks == 1
    assert set(pl.read_csv(tmp_path / "some.csv")["user"]) == {"120", "nobody"}


def test_a_model_that_sagemaker_has_is_used_and_kept(aws: Aws, artifact: Path, tmp_path: Path) -> None:
    aws.serve(programs.serve)
    session = aws.session()
    from ncf.sagemaker.jobs.package import pack_model

    uri = session.upload(pack_model(artifact, tmp_path / "model.tar.gz"), "models", "mine", "model.tar.gz")
    session.client("sagemaker").create_model(**model_request(session, "ncf-mine", uri, OPTIONS))
    done(aws, "ncf-mine", tmp_path / "some.parquet", ["120"])
    assert pl.read_parquet(tmp_path / "some.parquet").schema["user"] == pl.Int64
    assert [model.name for model in aws.records("Model")] == ["ncf-mine"]


def test_a_model_of_sagemaker_needs_a_file_of_users(aws: Aws, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --users FILE"):
        done(aws, "ncf-mine", tmp_path / "some.parquet")


def test_a_format_is_refused_before_anything_is_sent(aws: Aws, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must end in one of"):
        done(aws, artifact, tmp_path / "some.xlsx")
    assert aws.calls() == []


def broken(model: Path, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
    return 500, b"broken", "text/plain"


def test_a_job_that_fails_leaves_nothing(aws: Aws, artifact: Path, tmp_path: Path) -> None:
    aws.serve(broken)
    with pytest.raises(JobFailed, match="failed: AlgorithmError") as failed:
        done(aws, artifact, tmp_path / "some.parquet")
    assert "500" in " ".join(failed.value.lines)
    assert not (tmp_path / "some.parquet").exists()
    nothing_is_left(aws)


def slow(model: Path, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
    time.sleep(1.5)
    return programs.serve(model, body, headers)


def test_a_job_that_takes_too_long_is_stopped(aws: Aws, artifact: Path, tmp_path: Path) -> None:
    aws.run(programs.train)
    aws.serve(slow)
    options = TransformOptions(OPTIONS.image, k=5, max_run=1)
    with pytest.raises(CloudError, match="took more than --max-run 1 seconds and was stopped"):
        done(aws, artifact, tmp_path / "some.parquet", ["120"], options)
    assert len(aws.calls("StopTransformJob")) == 1
    nothing_is_left(aws)


def test_ctrl_c_stops_the_job_and_deletes_the_model(aws: Aws, artifact: Path, tmp_path: Path) -> None:
    aws.run(programs.train)
    aws.serve(slow)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transform(
            aws.session(),
            str(artifact),
            tmp_path / "some.csv",
            ["120"],
            OPTIONS,
            log=lambda _: None,
            sleep=interrupted,
        )
    assert len(aws.calls("StopTransformJob")) == 1
    nothing_is_left(aws)


def test_a_refused_start_deletes_the_model(aws: Aws, artifact: Path, tmp_path: Path) -> None:
    aws.fail("CreateTransformJob", "ResourceLimitExceeded")
    with pytest.raises(CloudError, match="quota"):
        done(aws, artifact, tmp_path / "some.parquet")
    nothing_is_left(aws)


@pytest.mark.parametrize("aws_image", [False, True])
@pytest.mark.parametrize("key", [None, "key"])
def test_requests_are_such_as_aws_admits(aws_image: bool, key: str | None) -> None:
    session: Session = session_of(kms_key=key, subnets=("subnet-1",), security_groups=("sg-1",))
    options = TransformOptions("image", aws_image=aws_image)
    for operation, request in (
        ("CreateTransformJob", transform_request(session, "ncf-job", "ncf-job", options)),
        ("CreateModel", model_request(session, "ncf-job", "s3://mine/model.tar.gz", options)),
    ):
        assert {"Key": "ncf:project", "Value": "ncf"} in judged(operation, request)["Tags"]
