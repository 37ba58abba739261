"""Serving in the image, as SageMaker and Docker see it: no network, nothing to write, no root."""

import http.client
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from containers import Container, OptMl, container, docker
from ncf.serving import api
from ncf.serving.recommender import Recommender
from processes import answers, wait_until

pytestmark = pytest.mark.container

REQUESTS = [
    ("application/json", json.dumps({"users": ["42", "7"], "k": 5})),
    ("application/json", json.dumps({"history": ["1", "50"], "k": 5})),
    ("application/jsonlines", '{"users": ["42"], "k": 2}\n{"users": ["nobody"], "k": 2}\n'),
    ("text/csv", "42\n7\n"),
]


@contextmanager
def serving(image: str, model: Path, *options: object) -> Iterator[tuple[Container, int]]:
    """A server on a port of this machine, its root file system read-only."""
    more = ("--read-only", "--publish", "127.0.0.1::8080", "--volume", f"{model}:/opt/ml/model:ro", *options)
    with container(image, ("serve",), *more) as server:
        port = int(docker("port", server.name, "8080/tcp").stdout.rpartition(":")[2])
        wait_until(lambda: answers(port) or not server.running)
        assert server.running, server.log
        yield server, port


@pytest.fixture(scope="module")
def server(image: str, trained: OptMl) -> Iterator[tuple[Container, int]]:
    with serving(image, trained.model, "--health-interval", "1s", "--env", "NCF_WORKERS=2") as running:
        yield running


def post(port: int, body: str, media_type: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": media_type})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("media_type", "body"), REQUESTS)
def test_it_answers_as_the_package_does_here(
    server: tuple[Container, int], trained: OptMl, media_type: str, body: str
) -> None:
    call = api.read(body.encode(), media_type)
    expected = api.write(api.answer(Recommender.open(trained.model), call), call.format)
    assert post(server[1], body, media_type) == (200, expected)


def test_a_mistake_of_the_caller_is_told(server: tuple[Container, int]) -> None:
    status, body = post(server[1], "{", "application/json")
    assert status == 400
    assert json.loads(body)["error"]["code"]


def test_metrics_are_counted_without_a_place_on_the_disk(server: tuple[Container, int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server[1], timeout=20)
    connection.request("GET", "/metrics")
    assert b"ncf_" in connection.getresponse().read()
    connection.close()


def test_no_process_of_it_is_root(server: tuple[Container, int]) -> None:
    owners = docker("exec", server[0].name, "sh", "-c", "stat -c %U /proc/[0-9]*/cmdline | sort -u")
    assert "ncf" in owners.stdout.split()
    assert docker("exec", server[0].name, "stat", "-c", "%U", "/proc/1").stdout.strip() == "ncf"


def test_root_serves_what_root_alone_may_read(image: str, trained: OptMl, tmp_path: Path) -> None:
    """Artifacts of earlier versions, and archives that somebody packed with a strict umask."""
    shutil.copytree(trained.model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").chmod(0o600)
    with serving(image, tmp_path / "model") as (server, port):
        assert post(port, "42\n", "text/csv")[0] == 200
        assert "Only root may read /opt/ml/model" in server.log


def test_it_becomes_healthy(server: tuple[Container, int]) -> None:
    wait_until(lambda: server[0].inspect("{{.State.Health.Status}}") != "starting")
    assert server[0].inspect("{{.State.Health.Status}}") == "healthy"


def test_it_needs_no_network_and_listens_where_sagemaker_says(image: str, trained: OptMl) -> None:
    options = (
        "--network", "none", "--read-only", "--volume", f"{trained.model}:/opt/ml/model:ro",
        "--env", "SAGEMAKER_BIND_TO_PORT=9123", "--health-interval", "1s",
    )  # fmt: skip
    with container(image, ("serve",), *options) as server:
        wait_until(lambda: server.inspect("{{.State.Health.Status}}") == "healthy" or not server.running)
        ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9123/ping').status)"
        assert docker("exec", server.name, "python", "-c", ask).stdout.strip() == "200", server.log


def test_sigterm_ends_it_in_time_with_exit_0(image: str, trained: OptMl) -> None:
    with serving(image, trained.model) as (server, _):
        docker("stop", "--time", "5", server.name)
        assert server.inspect("{{.State.ExitCode}}") == "0"  # 137, had Docker lost its patience


@pytest.mark.parametrize("damage", ["changed", "absent"])
def test_a_damaged_artifact_ends_it_with_one_sentence(
    image: str, trained: OptMl, damage: str, tmp_path: Path
) -> None:
    shutil.copytree(trained.model, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(b"x") if damage == "changed" else weights.unlink()
    mount = ("--volume", f"{tmp_path / 'model'}:/opt/ml/model:ro")
    done = docker("run", "--rm", *mount, image, "serve", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("[ncf] ")
    assert "model.safetensors" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_wrong_variable_ends_it_with_one_sentence(image: str) -> None:
    done = docker("run", "--rm", "--env", "NCF_WORKERS=two", image, "serve", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "[ncf] NCF_WORKERS must be a whole number, and not 'two'.\n",
    )
