"""Pushing the image: what docker is told, and what it is not."""

import json
import os
import stat
from pathlib import Path

import pytest

from aws import Aws
from ncf.errors import CloudError
from ncf.sagemaker.jobs.push import ensure_repository, push_image

DOCKER = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$1" in
  login) cat > "$CALLS.stdin"; echo "$DOCKER_CONFIG" > "$CALLS.config" ;;
  image) [ "$5" = "ncf:local" ] || { echo "Error: No such image: $5" >&2; exit 1; } ;;
  push) echo "layer 1: Pushed"; [ -z "$BROKEN" ] || { echo "unexpected EOF"; exit 1; } ;;
esac
"""
NOT_RUNNING = """#!/bin/sh
echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?" >&2
exit 1
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker that writes down what it is told."""
    install(tmp_path, DOCKER, monkeypatch)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def install(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_signs_in_tags_and_pushes(aws: Aws, calls: Path) -> None:
    said: list[str] = []
    uri = push_image(aws.session(project="shop"), log=said.append)
    assert uri == "123456789012.dkr.ecr.us-east-1.amazonaws.com/shop:0.1.0"
    told = calls.read_text().splitlines()
    assert [line.split()[0] for line in told] == ["image", "login", "tag", "push"]
    assert told[2:] == [f"tag ncf:local {uri}", f"push {uri}"]
    assert said == ["layer 1: Pushed"]


def test_the_token_is_seen_by_nobody_else(aws: Aws, calls: Path) -> None:
    said: list[str] = []
    push_image(aws.session(), log=said.append)
    token = calls.with_suffix(".stdin").read_text()
    assert len(token) > 5
    assert token not in calls.read_text()
    assert token not in " ".join(said)
    assert not Path(calls.with_suffix(".config").read_text().strip()).exists(), "nor is it kept on the disk"


def test_the_repository_scans_keeps_few_and_carries_the_tag(aws: Aws) -> None:
    ensure_repository(aws.session(project="shop"), "shop", keep=3)
    ecr = aws.client("ecr")
    found = ecr.describe_repositories(repositoryNames=["shop"])["repositories"][0]
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}
    tags = ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"]
    assert {"Key": "ncf:project", "Value": "shop"} in tags
    policy = json.loads(ecr.get_lifecycle_policy(repositoryName="shop")["lifecyclePolicyText"])
    assert policy["rules"][0]["selection"]["countNumber"] == 3


def test_a_repository_that_is_there_stays_as_it_is(aws: Aws, calls: Path) -> None:
    aws.client("ecr").create_repository(repositoryName="theirs")
    push_image(aws.session(), repository="theirs", log=lambda _: None)
    assert aws.calls("PutLifecyclePolicy") == []


def test_an_image_that_is_not_here(aws: Aws, calls: Path) -> None:
    with pytest.raises(CloudError, match="There is no image other:1 here: run 'make image'"):
        push_image(aws.session(), "other:1")
    assert aws.calls("CreateRepository") == []


def test_docker_that_does_not_run(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, NOT_RUNNING, monkeypatch)
    with pytest.raises(CloudError, match="its engine does not answer: start it"):
        push_image(aws.session())


def test_docker_that_is_not_installed(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CloudError, match="Docker, which is not installed"):
        push_image(aws.session())


def test_a_push_that_breaks_says_so(aws: Aws, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(CloudError, match=r"failed: unexpected EOF; run the command again"):
        push_image(aws.session(), log=lambda _: None)
