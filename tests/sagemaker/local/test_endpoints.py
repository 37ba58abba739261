"""Endpoints and their runtime, with workers that pretend."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from ncf.errors import CloudError
from ncf.sagemaker.local import Runtime, SageMaker
from ncf.sagemaker.local.endpoints import PORT
from processes import wait_until

Config = Callable[..., str]


def wait(client: SageMaker, status: str, name: str = "e") -> None:
    wait_until(lambda: client.describe_endpoint(EndpointName=name)["EndpointStatus"] == status)


def gone(client: SageMaker, name: str = "e") -> bool:
    return name not in [one["EndpointName"] for one in client.list_endpoints()["Endpoints"]]


def ask(runtime: Runtime, body: str = "hello") -> bytes:
    answer = runtime.invoke_endpoint(EndpointName="e", Body=body, ContentType="text/plain")
    return bytes(answer["Body"].read())


@pytest.fixture
def runtime(home: Path) -> Runtime:
    return Runtime(home, "eu-west-1")


@pytest.fixture
def served(client: SageMaker, config: Config) -> None:
    client.create_endpoint(EndpointName="e", EndpointConfigName=config("first"))
    wait(client, "InService")


def test_from_creating_to_gone(client: SageMaker, config: Config, runtime: Runtime) -> None:
    client.create_endpoint(EndpointName="e", EndpointConfigName=config("first"))
    wait(client, "InService")
    endpoint = client.describe_endpoint(EndpointName="e")
    assert endpoint["EndpointConfigName"] == "first"
    assert endpoint["ProductionVariants"][0]["DeployedImages"] == [{"SpecifiedImage": "ncf:local"}]
    assert ask(runtime) == b"hello"
    client.delete_endpoint(EndpointName="e")
    wait_until(lambda: gone(client))
    assert not list((client.store.home / "deployments").iterdir())
    with pytest.raises(ClientError, match="Endpoint e of account 000000000000 not found") as caught:
        ask(runtime)
    assert caught.value.response["Error"]["Code"] == "ValidationError"


@pytest.mark.parametrize(("status", "side"), [(400, "client"), (503, "server")])
def test_an_error_of_the_container_is_a_model_error(
    served: None, runtime: Runtime, status: int, side: str
) -> None:
    with pytest.raises(ClientError, match=rf"Received {side} error \({status}\) from primary") as caught:
        ask(runtime, f"status {status}")
    response = caught.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["OriginalStatusCode"] == status
    assert response["OriginalMessage"] == f"status {status}"


def test_an_update_loses_no_request(
    client: SageMaker, config: Config, served: None, runtime: Runtime
) -> None:
    done, wrong, answers = threading.Event(), [], 0

    def keep_asking() -> None:
        nonlocal answers
        while not done.is_set():
            try:
                answers += ask(runtime) == b"hello"
            except ClientError as error:
                wrong.append(error)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    for name in ("second", "third"):
        before = answers
        client.update_endpoint(EndpointName="e", EndpointConfigName=config(name))
        wait(client, "InService")
        assert client.describe_endpoint(EndpointName="e")["EndpointConfigName"] == name
        wait_until(lambda before=before: answers > before + 5)  # type: ignore[misc]
    done.set()
    asking.join()
    assert wrong == []


def test_an_update_that_fails_is_rolled_back(
    client: SageMaker, config: Config, served: None, runtime: Runtime
) -> None:
    client.update_endpoint(EndpointName="e", EndpointConfigName=config("bad", BROKEN="1"))
    wait(client, "InService")
    endpoint = client.describe_endpoint(EndpointName="e")
    assert endpoint["EndpointConfigName"] == "first"
    assert endpoint["FailureReason"] == "The update to bad was rolled back: it is broken"
    assert ask(runtime) == b"hello"
    client.update_endpoint(EndpointName="e", EndpointConfigName=config("good"))
    wait(client, "InService")
    assert "FailureReason" not in client.describe_endpoint(EndpointName="e")


def test_a_new_endpoint_that_fails_says_why_and_can_only_be_deleted(
    client: SageMaker, config: Config, runtime: Runtime
) -> None:
    client.create_endpoint(EndpointName="e", EndpointConfigName=config("bad", BROKEN="1"))
    wait(client, "Failed")
    assert client.describe_endpoint(EndpointName="e")["FailureReason"] == "it is broken"
    with pytest.raises(ClientError, match="not in service, it is Failed"):
        ask(runtime)
    with pytest.raises(ClientError, match="in status Failed"):
        client.update_endpoint(EndpointName="e", EndpointConfigName="bad")
    client.delete_endpoint(EndpointName="e")
    assert gone(client)


def test_names_are_used_once(client: SageMaker, config: Config, served: None) -> None:
    with pytest.raises(ClientError, match="Cannot create already existing endpoint"):
        client.create_endpoint(EndpointName="e", EndpointConfigName="first")
    with pytest.raises(ClientError, match="Cannot create already existing model"):
        config("first")


def test_two_endpoints_at_once_have_ports_of_their_own(
    client: SageMaker, config: Config, served: None, runtime: Runtime
) -> None:
    client.create_endpoint(EndpointName="f", EndpointConfigName="first")
    wait(client, "InService", "f")
    client.delete_endpoint(EndpointName="f")
    wait_until(lambda: gone(client, "f"))
    assert ask(runtime) == b"hello"


def test_a_port_that_is_taken_is_said(
    client: SageMaker, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config("first")
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        monkeypatch.setenv(PORT, str(taken.getsockname()[1]))
        with pytest.raises(CloudError, match=r"Port \d+ is taken by another program"):
            client.create_endpoint(EndpointName="e", EndpointConfigName="first")
    assert gone(client)


def test_a_configuration_needs_one_variant_and_its_model(client: SageMaker, config: Config) -> None:
    config("first")
    variant = {
        "VariantName": "a",
        "ModelName": "none",
        "InstanceType": "ml.c5.large",
        "InitialInstanceCount": 1,
    }
    with pytest.raises(ClientError, match="Could not find model"):
        client.create_endpoint_config(EndpointConfigName="x", ProductionVariants=[variant])
    with pytest.raises(ClientError, match="one production variant, not 2"):
        client.create_endpoint_config(EndpointConfigName="x", ProductionVariants=[variant, variant])
    client.delete_endpoint_config(EndpointConfigName="first")
    assert client.list_endpoint_configs()["EndpointConfigs"] == []
    assert [one["ModelName"] for one in client.list_models()["Models"]] == ["first"]
