"""What Docker lacks, in one sentence each."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ncf.errors import CloudError
from ncf.sagemaker.local import docker

Program = Callable[[str, str], Path]


def test_docker_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CloudError, match="Docker is not installed"):
        docker.check_docker()


def test_docker_that_does_not_run(program: Program) -> None:
    program("docker", "echo Cannot connect to the Docker daemon >&2; exit 1")
    with pytest.raises(CloudError, match="Docker is not running"):
        docker.check_docker()


def test_images_of_ecr_need_not_be_here(program: Program) -> None:
    program("docker", '[ "$1" = version ]')
    image, runner = "1.dkr.ecr.eu-west-1.amazonaws.com/pytorch:2.6", docker.DockerRunner()
    assert runner.check(image) == image
    with pytest.raises(CloudError, match="There is no image 'other:1'"):
        runner.check("other:1")


def test_a_container_is_published_on_loopback_only_and_labelled(program: Program, tmp_path: Path) -> None:
    program("docker", f'echo "$@" >> {tmp_path}/calls; echo abc')
    spec = docker.Spec(
        "name", "serve", "ncf:local", tmp_path / "root", tmp_path / "log", tmp_path / "folder",
        command=["serve"], environment={"A": "$1"}, port=1234,
    )  # fmt: skip
    container = docker.DockerRunner().start(spec)
    container.end()
    run = next(line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith("run "))
    assert "--publish 127.0.0.1:1234:8080" in run
    assert f"--label ncf.folder={tmp_path}/folder" in run
    assert run.endswith("--env A=$1 --publish 127.0.0.1:1234:8080 ncf:local serve")


def test_a_port_that_was_taken_meanwhile_is_said(program: Program, tmp_path: Path) -> None:
    program(
        "docker",
        '[ "$1" != run ] || { echo "Bind for 127.0.0.1:1234: port is already allocated" >&2; exit 125; }',
    )
    spec = docker.Spec(
        "name", "serve", "ncf:local", tmp_path, tmp_path / "log", tmp_path / "folder", port=1234
    )
    with pytest.raises(CloudError, match="Port 1234 is taken by another program: deploy again"):
        docker.DockerRunner().start(spec)


def test_all_of_a_folder_is_removed(program: Program, tmp_path: Path) -> None:
    program(
        "docker",
        f'echo "$@" >> {tmp_path}/calls; case "$1 $2" in ps*) echo abc;; network\\ ls) echo net;; esac',
    )
    docker.DockerRunner().clean(tmp_path)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert f"label=ncf.folder={tmp_path}" in calls[0]
    assert (calls[1], calls[3]) == ("rm --force --volumes abc", "network rm net")
