"""Endpoints of local mode, in real containers through the SDK."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_mode import delete_endpoint, local_session, log, make_config, processes, settled
from ncf.errors import CloudError
from ncf.sagemaker.jobs.package import pack_model
from ncf.sagemaker.session import Session
from ncf.serving.artifact import write_artifact
from ncf.serving.recommender import Recommender
from processes import wait_until
from support import checkerboard, experiment, model_of

pytestmark = pytest.mark.container


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model.tar.gz of made-up data: users 100..139, items 500..529."""
    folder = tmp_path_factory.mktemp("model")
    network = model_of("neumf", 40, 30, tower=[16, 8])
    artifact = write_artifact(
        folder / "artifact", network, experiment("neumf"), checkerboard(), {"test": {}}, ""
    )
    return pack_model(artifact, folder / "model.tar.gz")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with local_session(tmp_path / "home") as made:
        yield made


def ask(session: Session, user: int = 104) -> list[int]:
    answer = session.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="e", Body=json.dumps({"users": [user], "k": 5}), ContentType="application/json"
    )
    document = json.loads(answer["Body"].read())
    return [one["item"] for one in document["recommendations"][0]["items"]]


def test_the_life_of_an_endpoint(session: Session, image: str, model: Path) -> None:
    """Created, asked, updated while somebody keeps asking, a failed update rolled back, deleted."""
    client = session.client("sagemaker")
    began = time.monotonic()
    client.create_endpoint(EndpointName="e", EndpointConfigName=make_config(session, "first", image, model))
    assert time.monotonic() - began < 10
    assert settled(session, "e")["EndpointStatus"] == "InService"
    expected = Recommender.open(model).recommend([104], 5)[0]
    assert ask(session) == list(expected.items)
    with pytest.raises(CloudError, match=r"Received client error \(400\) from primary") as refused:
        session.client("sagemaker-runtime").invoke_endpoint(
            EndpointName="e", Body=b"{", ContentType="application/json"
        )
    assert refused.value.code == "ModelError"

    answers, wrong, done = [0], [], threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            try:
                assert ask(session) == list(expected.items)
                answers[0] += 1
            except Exception as error:
                wrong.append(error)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    client.update_endpoint(EndpointName="e", EndpointConfigName=make_config(session, "second", image, model))
    assert settled(session, "e")["EndpointConfigName"] == "second"
    wait_until(lambda: not (session.home / "Endpoint" / "e" / "1").exists())
    bad = make_config(session, "bad", image, model, NCF_WORKERS="many")
    client.update_endpoint(EndpointName="e", EndpointConfigName=bad)
    endpoint = settled(session, "e")
    done.set()
    asking.join()
    assert (endpoint["EndpointStatus"], endpoint["EndpointConfigName"]) == ("InService", "second")
    assert "The update to bad was rolled back" in endpoint["FailureReason"]
    assert "NCF_WORKERS must be a whole number" in endpoint["FailureReason"]
    assert wrong == []
    assert answers[0] > 20
    assert ask(session) == list(expected.items)

    delete_endpoint(session, "e")
    wait_until(lambda: processes(session.home) == [])
    assert any("NCF_WORKERS" in line for line in log(session, "/aws/sagemaker/Endpoints/e", "AllTraffic/"))


def test_one_that_never_becomes_healthy_fails_with_its_log(
    session: Session, image: str, model: Path, tmp_path: Path
) -> None:
    """An image that prints a line and waits, made of ours without a pull."""
    file = tmp_path / "Dockerfile"
    file.write_text(f'FROM {image}\nENTRYPOINT ["sh", "-c", "echo loading for ever; exec sleep 600"]\n')
    from containers import docker

    docker("build", "--tag", "ncf-test-waits", "--file", str(file), str(tmp_path))
    client = session.client("sagemaker")
    make_config(session, "waits", "ncf-test-waits", model)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "waits",
        "InstanceType": "ml.c5.large",
        "InitialInstanceCount": 1,
        "ContainerStartupHealthCheckTimeoutInSeconds": 60,
    }
    client.create_endpoint_config(EndpointConfigName="soon", ProductionVariants=[variant])
    with_patience(session, "soon", 4)
    client.create_endpoint(EndpointName="e", EndpointConfigName="soon")
    endpoint = settled(session, "e")
    assert endpoint["EndpointStatus"] == "Failed"
    assert endpoint["FailureReason"] == "The container did not answer /ping within 4 s: loading for ever"
    delete_endpoint(session, "e")
    docker("image", "rm", "ncf-test-waits")


def with_patience(session: Session, config: str, seconds: int) -> None:
    """AWS admits no time under a minute; the test does not wait so long."""
    file = session.home / "EndpointConfig" / config / "state.json"
    record = json.loads(file.read_text())
    record["request"]["ProductionVariants"][0]["ContainerStartupHealthCheckTimeoutInSeconds"] = seconds
    file.write_text(json.dumps(record))


def test_a_model_that_is_not_there_is_said(session: Session, image: str, tmp_path: Path) -> None:
    with pytest.raises(CloudError, match=f"The model is not there: {tmp_path / 'none.tar.gz'}."):
        make_config(session, "none", image, tmp_path / "none.tar.gz")


def test_a_port_that_is_taken_meanwhile_is_said(
    session: Session, image: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ncf.sagemaker.local import docker

    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(docker, "free_port", lambda: port)
        make_config(session, "first", image, model)
        session.client("sagemaker").create_endpoint(EndpointName="e", EndpointConfigName="first")
        endpoint = settled(session, "e")
    assert endpoint["EndpointStatus"] == "Failed"
    assert endpoint["FailureReason"].startswith(f"Port {port} is taken by another program")
    delete_endpoint(session, "e")
