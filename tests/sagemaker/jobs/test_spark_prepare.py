"""The processing job of `ncf sagemaker prepare`: its request, its code, and the way through the double.

The double runs a program in place of AWS's image; that program prepares in memory, which makes the same
folder.
"""

import json
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aws import Aws
from ncf.cli.sagemaker import app
from ncf.data import prepare_file
from ncf.data.options import PrepareOptions, read_options
from ncf.errors import ConfigError
from ncf.sagemaker.jobs.images import spark_image
from ncf.sagemaker.jobs.run import JobFailed
from ncf.sagemaker.jobs.spark_prepare import (
    SparkOptions,
    prepare,
    processing_request,
    write_code,
)

OPTIONS = SparkOptions(
    "173754725891.dkr.ecr.us-east-1.amazonaws.com/sagemaker-spark-processing:3.5-cpu-py312"
)
SOURCE = "s3://shelf/events/*.parquet"


def test_request(aws: Aws) -> None:
    session = aws.session()
    request = processing_request(session, "ncf-prepare-1", SOURCE, "s3://b/code", {"min_user": "5"}, OPTIONS)
    arguments = request["AppSpecification"]["ContainerArguments"]
    assert [shlex.split(one)[0] for one in arguments] == [
        SOURCE,
        "/opt/ml/processing/output/data/prepared",
        session.uri("prepare", "ncf-prepare-1", "work"),
        "min_user=5",
    ]
    assert arguments[0] == f"'{SOURCE}'"
    assert request["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 2
    assert request["Tags"] == session.tags()


def test_image_is_of_a_python_that_ncf_runs_on(aws: Aws) -> None:
    assert spark_image(aws.session()).endswith("/sagemaker-spark-processing:3.5-cpu-py312")


def test_code_holds_what_the_machines_import(tmp_path: Path) -> None:
    write_code(tmp_path)
    with zipfile.ZipFile(tmp_path / "ncf.zip") as packed:
        assert {"ncf/__init__.py", "ncf/errors.py", "ncf/data/out_of_core/spark_reading.py"} <= set(
            packed.namelist()
        )
    code = (
        "import ncf.data.out_of_core.streaming, sys; assert 'torch' not in sys.modules; "
        "print(ncf.data.__file__)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, r'{tmp_path}/ncf.zip'); {code}"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert "ncf.zip" in ran.stdout, ran.stderr
    assert "polars==" in (tmp_path / "requirements.txt").read_text()
    assert subprocess.run(["sh", "-n", str(tmp_path / "start.sh")]).returncode == 0


def test_wheels_are_sent_along(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "code").mkdir()
    with pytest.raises(ConfigError, match="has no wheels: fill it with 'pip download"):
        write_code(tmp_path / "code", tmp_path / "wheels")
    (tmp_path / "wheels/polars-1-py3-none-any.whl").touch()
    write_code(tmp_path / "code", tmp_path / "wheels")
    assert (tmp_path / "code/wheels/polars-1-py3-none-any.whl").is_file()
    assert (tmp_path / "code/requirements.txt").read_text().startswith("--no-index\n--find-links wheels\n")


def test_a_file_here_is_refused(aws: Aws, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no s3:// address: upload it first"):
        prepare(aws.session(), "events.csv", tmp_path / "out", {}, OPTIONS)
    assert aws.records("ProcessingJob") == []


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """40 users who used 10 of 30 items each."""
    lines = [f"{user},{(7 * user + 3 * n) % 30},{n}" for user in range(40) for n in range(10)]
    path = tmp_path / "events.csv"
    path.write_text("user,item,time\n" + "\n".join(lines) + "\n")
    return path


def on_spark(events: Path) -> Any:
    """A program for the double: what Spark would make of the table, made in memory."""

    def run(spec: Any) -> int:
        assert list(spec.entrypoint) == ["/bin/sh", "/opt/ml/processing/input/code/start.sh"]
        code = spec.root / "processing/input/code"
        assert {path.name for path in code.iterdir()} == {
            "start.sh",
            "submit.py",
            "ncf.zip",
            "requirements.txt",
        }
        source, target, _, *rest = (shlex.split(one)[0] for one in spec.command)
        assert (source, target) == (SOURCE, "/opt/ml/processing/output/data/prepared")
        values = dict(text.split("=") for text in rest)
        dataset, _ = prepare_file(events, PrepareOptions(**read_options(values)))
        dataset.save(spec.root / "processing/output/data/prepared")
        return 0

    return run


def test_the_prepared_folder_comes_here(aws: Aws, events: Path, tmp_path: Path) -> None:
    aws.run(on_spark(events))
    said: list[str] = []
    dataset = prepare(
        aws.session(),
        SOURCE,
        tmp_path / "out",
        {"negatives": "5"},
        OPTIONS,
        log=said.append,
        sleep=lambda _: None,
    )
    assert dataset.digest == prepare_file(events, PrepareOptions(negatives=5))[0].digest
    assert "Spark on 2 x ml.m5.2xlarge" in said[0]
    assert (
        aws.wait("ProcessingJob", aws.records("ProcessingJob")[0].name)["ProcessingJobStatus"] == "Completed"
    )


def test_a_failed_job_says_its_sentence_and_leaves_nothing(aws: Aws, tmp_path: Path) -> None:
    def run(spec: Any) -> int:
        (spec.root / "output/message").write_text("There is no column 'user'.")
        return 1

    aws.run(run)
    with pytest.raises(JobFailed, match=r"failed: There is no column 'user'\.$"):
        prepare(
            aws.session(), SOURCE, tmp_path / "out", {}, OPTIONS, log=lambda _: None, sleep=lambda _: None
        )
    assert not (tmp_path / "out").exists()


def test_the_command(aws: Aws, events: Path, tmp_path: Path) -> None:
    aws.run(on_spark(events))
    command = [
        "prepare",
        "--input",
        SOURCE,
        "--output",
        str(tmp_path / "out"),
        "--set",
        "negatives=5",
        "--yes",
        "--quiet",
        "--json",
        "--role",
        aws.role,
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads(result.stdout)["counts"]["test"] == 40


def test_the_command_checks_options_before_anything_is_sent(aws: Aws, tmp_path: Path) -> None:
    command = ["prepare", "--input", SOURCE, "--output", str(tmp_path / "out"), "--set", "min_users=5"]
    result = CliRunner().invoke(app, [*command, "--role", aws.role])
    assert "min_users is not an option of the preparation; did you mean min_user?" in str(result.exception)
    assert aws.records("ProcessingJob") == []
