"""`ncf doctor` with programs that pretend to be Docker, and with a loopback AWS."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from aws import KEY, SECRET, Aws
from ncf.cli import app
from ncf.errors import CloudError
from ncf.sagemaker.account import aws_checks, docker_checks, doctor
from ncf.sagemaker.account.aws_checks import Account, masked, trusts_sagemaker
from ncf.sagemaker.account.checks import Check, Finding, all_passed, run_check
from ncf.sagemaker.account.doctor import examine
from ncf.sagemaker.session import Session, Settings

GOOD_DOCKER = """
case "$*" in
  --version) echo "Docker version 28.2.2, build e6534b4" ;;
  "version --format {{.Server.Version}}") echo 28.2.1 ;;
  "compose version") echo "Docker Compose version v2.39.1" ;;
  "image inspect"*) echo "1260000000 2026-11-24T10:00:00Z" ;;
  "info --format"*) echo / ;;
  *) exit 64 ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of nothing but what a test puts into this folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str = "") -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def without_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)


def states(findings: list[Finding]) -> dict[str, str]:
    return {one.name: one.state for one in findings}


def asked(session: Session, name: str) -> Finding:
    return {check.name: run_check(check) for check in aws_checks.checks(session, "")}[name]


def test_docker_that_does_is_ok(programs: Path) -> None:
    program(programs, "docker", GOOD_DOCKER)
    found = [run_check(check) for check in docker_checks.checks("")]
    assert [one.state for one in found] == ["ok"] * 4
    assert [one.message for one in found] == [
        f"28.2.2 at {programs}/docker", "28.2.1 answers", "v2.39.1, as 'docker compose'".removeprefix("v"),
        "ncf:local, 1.26 GB, made 2026-11-24",
    ]  # fmt: skip


def test_without_docker_the_rest_is_not_asked(programs: Path) -> None:
    found = [run_check(check) for check in docker_checks.checks("")]
    assert states(found) == {
        "Docker": "problem", "Docker engine": "not checked", "compose": "not checked", "image": "not checked",
    }  # fmt: skip
    assert "--fix-local-mode" in found[0].remedy


@pytest.mark.parametrize(
    ("script", "said", "remedy"),
    [
        ("echo 'Cannot connect to the Docker daemon' >&2; exit 1", "does not run", "systemctl start docker"),
        (
            "echo 'permission denied while trying to connect' >&2; exit 1",
            "runs, but this user may not use it",
            "usermod -aG docker",
        ),
    ],
)
def test_an_engine_that_is_down_or_forbidden(programs: Path, script: str, said: str, remedy: str) -> None:
    program(programs, "docker", script)
    found = docker_checks.engine()
    assert (found.state, found.message) == ("problem", said)
    assert remedy in found.remedy
    assert docker_checks.image().state == "not checked"


def test_an_engine_that_hangs_costs_seconds(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_checks, "_SECONDS", 0.2)
    program(programs, "docker", "exec /bin/sleep 60")
    found = docker_checks.engine()
    assert found.state == "problem"
    assert "does not answer" in found.message


@pytest.mark.parametrize(
    ("plugin", "own", "state", "said"),
    [
        ("echo 'Docker Compose version v2.39.1'", False, "ok", "'docker compose'"),
        ("echo 'Docker Compose version 5.0.0'", False, "ok", "'docker compose'"),
        ("echo 'docker-compose version 1.29.2'", False, "problem", "not installed"),
        ("exit 1", True, "ok", "'docker-compose'"),
        ("exit 1", False, "problem", "not installed"),
    ],
)
def test_compose_is_looked_for_as_the_sdk_does(
    programs: Path, plugin: str, own: bool, state: str, said: str
) -> None:
    program(programs, "docker", plugin)
    if own:
        program(programs, "docker-compose")
    found = docker_checks.compose()
    assert found.state == state
    assert said in found.message


def test_an_image_that_was_not_built(programs: Path) -> None:
    program(programs, "docker", 'case "$1" in image) exit 1 ;; *) echo 28.2 ;; esac')
    found = docker_checks.image()
    assert found.state == "problem"
    assert "make image" in found.remedy


def test_a_look_that_hangs_is_given_up() -> None:
    slow = Check("slow", lambda: time.sleep(30) or Finding("ok", ""), seconds=0.1)
    found = run_check(slow)
    assert (found.state, found.message) == ("not checked", "no answer within 0.1 s")


def test_a_look_that_says_no_is_a_problem() -> None:
    def look() -> Finding:
        raise CloudError("There is no moon: wait until tonight.")

    found = run_check(Check("moon", look))
    assert found == Finding("problem", "There is no moon", "wait until tonight.", "moon")
    assert run_check(Check("moon", look, only_for="lovers")) == Finding(
        "warning", "There is no moon", "only for lovers: wait until tonight.", "moon"
    )


def test_a_defect_of_ours_is_not_hidden() -> None:
    def look() -> Finding:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_check(Check("sum", look))


@pytest.mark.parametrize(
    ("version", "wanted", "good"),
    [
        ("2.13.0", ">=2.5", True),
        ("2.4.1", ">=2.5", False),
        ("2.13.0+cpu", ">=2.5,<3", True),
        ("3.0", ">=2.5,<3", False),
        ("1", "", True),
        ("1.0", ">1", False),
        ("2.6.0rc1", ">=2.5", True),
    ],
)
def test_versions_are_compared(
    monkeypatch: pytest.MonkeyPatch, version: str, wanted: str, good: bool
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: version)
    requirement = Requirement(f"torch{wanted}")
    wrong = [] if good else [f"torch {version} is not {requirement.specifier}"]
    assert doctor.unmet([requirement]) == wrong


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "torch>=2.5",
        "polars>=999",
        "no-such-thing>=1",
        f"uvloop>=0.21; sys_platform != '{__import__('sys').platform}'",
        "boto3>=1.40; extra == 'sagemaker'",
        "no-such-sdk<3,>=2; extra == 'sagemaker'",
        "ncf[sagemaker]; extra == 'dev'",
    ]
    monkeypatch.setattr(metadata, "requires", lambda _: lines)


def test_packages_are_held_to_what_is_declared(declared: None) -> None:
    found = run_check(doctor.machine_checks(Session(Settings()))[1])
    assert found.state == "problem"
    assert found.message.endswith("is not >=999; no-such-thing is not installed")
    assert found.remedy == "pip install --upgrade ncf"


def test_an_extra_is_told_by_its_name(declared: None) -> None:
    found = run_check(doctor.machine_checks(Session(Settings()))[2])
    assert (found.message, found.remedy) == (
        "no-such-sdk is not installed",
        "pip install --upgrade 'ncf[sagemaker]'",
    )


def test_extras_that_an_old_installation_does_not_know(declared: None) -> None:
    found = run_check(doctor.machine_checks(Session(Settings()))[3])
    assert (found.state, found.message) == ("ok", "mlflow, tune, index not installed")


@pytest.mark.parametrize(("free", "state"), [(0.5e9, "problem"), (3e9, "warning"), (60e9, "ok")])
def test_disk(
    monkeypatch: pytest.MonkeyPatch, programs: Path, tmp_path: Path, free: float, state: str
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    found = doctor._disk(Session(Settings(local=True, home=tmp_path / "not" / "yet")))
    assert found.state == state
    assert f"{free / 1e9:.1f} GB free for local mode ({tmp_path})" in found.message


@pytest.mark.parametrize(("gigabytes", "state"), [(0.5, "warning"), (8, "ok")])
def test_memory(monkeypatch: pytest.MonkeyPatch, gigabytes: float, state: str) -> None:
    monkeypatch.setattr(doctor, "free_memory", lambda: gigabytes * 1e9)
    found = doctor._memory()
    assert found.state == state
    assert found.message.startswith(f"{gigabytes:.1f} of ")


def test_an_account_in_order(aws: Aws) -> None:
    aws.client("s3").create_bucket(Bucket="shelf")
    found = [run_check(check) for check in aws_checks.checks(aws.session(bucket="shelf"), "")]
    assert [one.state for one in found] == ["ok"] * 5, found
    assert "key AKIA…MPLE, from env" in found[1].message
    assert KEY not in str(found)
    assert SECRET not in str(found)


def test_nothing_is_made_by_looking(aws: Aws) -> None:
    found = asked(aws.session(), "bucket")
    assert found.state == "ok"
    assert "the first upload makes it" in found.message
    assert aws.client("s3").list_buckets()["Buckets"] == []


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    without_aws(monkeypatch)
    found = [run_check(check) for check in aws_checks.checks(Session(Settings(role="ncf")), "")]
    assert states(found) == {
        "AWS region": "problem",
        "AWS credentials": "problem",
        "clock": "not checked",
        "execution role": "not checked",
        "bucket": "not checked",
    }
    assert found[1].message == "No AWS credentials were found"
    assert "aws sso login" in found[1].remedy


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ExpiredToken", "the AWS credentials have expired"),
        ("InvalidClientTokenId", "AWS does not know these credentials"),
    ],
)
def test_credentials_that_are_no_good(aws: Aws, code: str, said: str) -> None:
    aws.fail("GetCallerIdentity", code, status=403)
    found = asked(aws.session(), "AWS credentials")
    assert found.state == "problem"
    assert said in f"{found.message} {found.remedy}"


@pytest.mark.parametrize(("minutes", "state"), [(5, "warning"), (300, "ok")])
def test_credentials_that_expire(aws: Aws, minutes: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    until = datetime.now(UTC) + timedelta(minutes=minutes)
    keys = type("Keys", (), {"access_key": "ASIAABCDEFGHIJKLMNOP", "method": "sso", "_expiry_time": until})
    monkeypatch.setattr(Session, "credentials", lambda _: keys)
    found = asked(aws.session(), "AWS credentials")
    assert found.state == state
    assert f"good until {until:%Y-%m-%d %H:%M} UTC" in found.message


def test_no_network_costs_seconds(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = asked(aws.session(), "AWS credentials")
    assert found.message.startswith("AWS cannot be reached")


@pytest.mark.parametrize(("seconds", "state"), [(0, "ok"), (600, "problem"), (-600, "problem")])
def test_clock(aws: Aws, seconds: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account(aws.session())
    date = datetime.now(UTC) - timedelta(seconds=seconds)
    headers = {"date": f"{date:%a, %d %b %Y %H:%M:%S} GMT"}
    monkeypatch.setattr(account, "_identity", lambda: ({"ResponseMetadata": {"HTTPHeaders": headers}}, None))
    assert account.clock().state == state


def test_a_region_without_sagemaker(aws: Aws) -> None:
    assert asked(aws.session(region="us-east-1"), "AWS region").state == "ok"
    assert asked(aws.session(region="moon-1"), "AWS region").state == "warning"


def test_roles(aws: Aws) -> None:
    aws.client("iam").create_role(
        RoleName="lambda", AssumeRolePolicyDocument=json.dumps(trust("lambda.amazonaws.com"))
    )
    assert asked(aws.session(role=None), "execution role").state == "problem"
    assert asked(aws.session(role="ncf-execution"), "execution role").state == "ok"
    assert asked(aws.session(role="nobody"), "execution role").state == "problem"
    found = asked(aws.session(role="lambda"), "execution role")
    assert found.state == "problem"
    assert found.message.endswith("SageMaker may not assume it")
    aws.fail("GetRole", "AccessDenied", status=403)
    assert asked(aws.session(), "execution role").state == "warning"


@pytest.mark.parametrize(
    ("policy", "good"),
    [
        (
            {
                "Effect": "Allow",
                "Principal": {"Service": "sagemaker.amazonaws.com"},
                "Action": "sts:AssumeRole",
            },
            True,
        ),
        (
            {
                "Effect": "Allow",
                "Principal": {"Service": ["ec2.amazonaws.com", "sagemaker.amazonaws.com"]},
                "Action": ["sts:AssumeRole"],
            },
            True,
        ),
        (
            {
                "Effect": "Deny",
                "Principal": {"Service": "sagemaker.amazonaws.com"},
                "Action": "sts:AssumeRole",
            },
            False,
        ),
        ({"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}, False),
        (
            {
                "Effect": "Allow",
                "Principal": {"Service": "sagemaker.amazonaws.com"},
                "Action": "sts:TagSession",
            },
            False,
        ),
    ],
)
def test_trust(policy: dict[str, Any], good: bool) -> None:
    assert trusts_sagemaker({"Statement": policy}) is good
    assert trusts_sagemaker({"Statement": [policy]}) is good


def trust(service: str) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
    }


def test_buckets(aws: Aws) -> None:
    aws.client("s3").create_bucket(Bucket="theirs")
    aws.foreign("theirs")
    aws.client("s3", "eu-west-1").create_bucket(
        Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    assert asked(aws.session(bucket="none"), "bucket").message == "there is no bucket none"
    assert "belongs to another account" in asked(aws.session(bucket="theirs"), "bucket").message
    assert asked(aws.session(bucket="far"), "bucket").message == "far is in eu-west-1, not in us-east-1"


@pytest.mark.parametrize(("key", "shown"), [("AKIAIOSFODNN7EXAMPLE", "AKIA…MPLE"), ("short", "…")])
def test_keys_are_masked(key: str, shown: str) -> None:
    assert masked(key) == shown


def test_local_mode_needs_docker_and_no_aws(
    programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_aws(monkeypatch)
    program(programs, "docker", GOOD_DOCKER)
    session = Session(Settings(local=True, home=tmp_path))
    found = list(examine(session))
    by_name = states(found)
    assert by_name["Docker engine"] == "ok"
    assert by_name["AWS credentials"] == "warning"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not all_passed(examine(session))


def test_hosted_needs_aws_and_no_docker(programs: Path, aws: Aws) -> None:
    found = states(list(examine(aws.session())))
    assert found["Docker"] == "warning"
    assert found["AWS credentials"] == found["execution role"] == "ok"


def test_the_command_prints_lines_and_ends_by_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Finding("ok", "28 at /usr/bin/docker", name="Docker"),
        Finding("problem", "not installed", "install it", "compose"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda _: iter(found))
    result = CliRunner().invoke(app, ["doctor", "--local"])
    assert result.exit_code == 1
    assert "problem      compose          not installed -> install it" in result.output
    assert result.output.endswith("1 problem for local mode.\n")
    monkeypatch.setattr(doctor, "examine", lambda _: iter(found[:1]))
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.output) == {
        "ok": True, "for": "AWS",
        "checks": [{"name": "Docker", "state": "ok", "message": "28 at /usr/bin/docker", "remedy": ""}],
    }  # fmt: skip
