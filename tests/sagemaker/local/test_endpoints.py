"""Endpoints of local mode and their runtime, with workers that pretend."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ncf.errors import CloudError
from ncf.sagemaker.local import local_client, process
from ncf.sagemaker.local.plane import ControlPlane
from processes import wait_until

Config = Callable[..., str]


def wait(client: Any, status: str, name: str = "e") -> None:
    wait_until(lambda: client.describe_endpoint(EndpointName=name)["EndpointStatus"] == status)


def gone(client: Any, name: str = "e") -> bool:
    return name not in [endpoint["EndpointName"] for endpoint in client.list_endpoints()["Endpoints"]]


def ask(runtime: Any, body: str = "hello") -> bytes:
    answer = runtime.invoke_endpoint(EndpointName="e", Body=body, ContentType="text/plain")
    return bytes(answer["Body"].read())


@pytest.fixture
def runtime(plane: ControlPlane) -> Any:
    return local_client("sagemaker-runtime", plane.store.home, "eu-west-1", plane)


@pytest.fixture
def served(client: Any, config: Config) -> None:
    client.create_endpoint(EndpointName="e", EndpointConfigName=config("first"))
    wait(client, "InService")


def test_from_creating_to_gone(
    client: Any,
    served: None,
    config: Config,
    runtime: Any,
    plane: ControlPlane,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = client.describe_endpoint(EndpointName="e")
    assert endpoint["EndpointConfigName"] == "first"
    assert endpoint["ProductionVariants"][0]["DeployedImages"] == [{"SpecifiedImage": "ncf:local"}]
    with pytest.raises(ClientError, match="Cannot create already existing endpoint"):
        client.create_endpoint(EndpointName="e", EndpointConfigName="first")
    with pytest.raises(ClientError, match="Cannot create already existing model"):
        config("first")
    client.create_endpoint(EndpointName="f", EndpointConfigName="first")
    wait(client, "InService", "f")
    client.delete_endpoint(EndpointName="f")
    wait_until(lambda: gone(client, "f"))
    assert ask(runtime) == b"hello"
    client.delete_endpoint(EndpointName="e")
    wait_until(lambda: gone(client))
    assert not (plane.store.home / "Endpoint" / "e").exists()
    with pytest.raises(ClientError, match="Endpoint e of account 000000000000 not found") as caught:
        ask(runtime)
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_an_update_loses_no_request_and_one_that_fails_is_rolled_back(
    client: Any, config: Config, served: None, runtime: Any
) -> None:
    done, wrong, answers = threading.Event(), [], [0]

    def keep_asking() -> None:
        while not done.is_set():
            try:
                answers[0] += ask(runtime) == b"hello"
            except Exception as error:
                wrong.append(error)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        client.update_endpoint(EndpointName="e", EndpointConfigName=config("second"))
        wait(client, "InService")
        assert client.describe_endpoint(EndpointName="e")["EndpointConfigName"] == "second"
        client.update_endpoint(EndpointName="e", EndpointConfigName=config("bad", BROKEN="1"))
        wait(client, "InService")
        before = answers[0]
        wait_until(lambda: answers[0] > before + 5 or bool(wrong))
    finally:
        done.set()
        asking.join()
    endpoint = client.describe_endpoint(EndpointName="e")
    assert (endpoint["EndpointConfigName"], wrong) == ("second", [])
    reason = "The container ended with exit code 3: it is broken"
    assert endpoint["FailureReason"] == f"The update to bad was rolled back: {reason}"
    client.update_endpoint(EndpointName="e", EndpointConfigName=config("good"))
    wait(client, "InService")
    assert "FailureReason" not in client.describe_endpoint(EndpointName="e")


def test_a_new_endpoint_that_fails_says_why_and_can_only_be_deleted(
    client: Any, config: Config, runtime: Any
) -> None:
    client.create_endpoint(EndpointName="e", EndpointConfigName=config("bad", BROKEN="1"))
    wait(client, "Failed")
    assert client.describe_endpoint(EndpointName="e")["FailureReason"].endswith("exit code 3: it is broken")
    with pytest.raises(ClientError, match="not in service, it is Failed"):
        ask(runtime)
    with pytest.raises(ClientError, match="in status Failed"):
        client.update_endpoint(EndpointName="e", EndpointConfigName=config("other"))
    client.delete_endpoint(EndpointName="e")
    wait_until(lambda: gone(client))


def test_a_dead_worker_leaves_a_failed_endpoint(client: Any, served: None, plane: ControlPlane) -> None:
    folder = plane.store.get("Endpoint", "e").folder / "1"
    os.kill(process.pid(folder), signal.SIGKILL)
    wait_until(lambda: not process.alive(folder))
    endpoint = client.describe_endpoint(EndpointName="e")
    assert (endpoint["EndpointStatus"], "died" in endpoint["FailureReason"]) == ("Failed", True)
    client.delete_endpoint(EndpointName="e")
    assert gone(client)


def test_a_port_that_is_taken_is_said(client: Any, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config("first")
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        monkeypatch.setenv("NCF_LOCAL_PORT", str(taken.getsockname()[1]))
        with pytest.raises(CloudError, match=r"Port \d+ is taken by another program"):
            client.create_endpoint(EndpointName="e", EndpointConfigName="first")
    assert gone(client)


def test_a_configuration_needs_its_model(client: Any, config: Config) -> None:
    variant = {
        "VariantName": "a",
        "ModelName": "none",
        "InstanceType": "ml.c5.large",
        "InitialInstanceCount": 1,
    }
    with pytest.raises(ClientError, match="Could not find model"):
        client.create_endpoint_config(EndpointConfigName="x", ProductionVariants=[variant])
    config("first")
    client.delete_endpoint_config(EndpointConfigName="first")
    assert client.list_endpoint_configs()["EndpointConfigs"] == []
    assert [model["ModelName"] for model in client.list_models()["Models"]] == ["first"]
