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


def test_docker_without_compose(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program("docker", '[ "$1" = version ]').parent))
    with pytest.raises(CloudError, match="Docker has no compose"):
        docker.check_docker()


@pytest.mark.parametrize("old", [True, False], ids=["docker-compose", "docker compose"])
def test_docker_with_compose_of_either_kind(
    program: Program, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    folder = program("docker", '[ "$1" = version ]' if old else "exit 0").parent
    if old:
        program("docker-compose", "exit 0")
    monkeypatch.setenv("PATH", str(folder))
    docker.check_docker()


def test_images_of_ecr_need_not_be_here(program: Program) -> None:
    program("docker", "exit 1")
    docker.check_image("1.dkr.ecr.eu-west-1.amazonaws.com/pytorch:2.6")
    with pytest.raises(CloudError, match="There is no image 'other:1'"):
        docker.check_image("other:1")


def test_containers_are_told_with_their_hosts(program: Program, tmp_path: Path) -> None:
    program("docker", "echo b abc-algo-2-x1y2z exited; echo a abc-algo-1-x1y2z running")
    found = docker.containers(tmp_path)
    assert [(one.id, one.host, one.state) for one in found] == [
        ("a", "algo-1-x1y2z", "running"),
        ("b", "algo-2-x1y2z", "exited"),
    ]


def test_only_what_runs_is_stopped(program: Program, tmp_path: Path) -> None:
    said = tmp_path / "said"
    program("docker", f'echo "$@" >> {said}')
    docker.stop([docker.Container("a", "n", "running"), docker.Container("b", "n", "exited")], 7)
    assert said.read_text() == "stop --time 7 a\n"
