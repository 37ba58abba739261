"""The image: what it has, who runs in it, and that the commands that the documents name are there."""

import json

import pytest

from containers import REPOSITORY, docker

pytestmark = pytest.mark.container


def test_it_is_smaller_than_1_3_gb(image: str) -> None:
    assert int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout) < 1.3e9


def test_it_declares_what_sagemaker_and_registries_read(image: str) -> None:
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image).stdout)
    assert config["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert config["Labels"]["org.opencontainers.image.title"] == "ncf"
    assert config["Labels"]["org.opencontainers.image.version"]
    assert config["Healthcheck"]["Test"] == ["CMD", "healthy"]
    assert not config.get("Entrypoint")
    assert config["Cmd"] == ["serve"]
    assert config["StopSignal"] == "SIGTERM"


@pytest.mark.parametrize("command", ["prepare", "train", "evaluate", "compare", "serve", "sagemaker"])
def test_it_runs_ncf_commands(image: str, command: str) -> None:
    assert "Usage: ncf" in docker("run", "--rm", "--network", "none", image, "ncf", command, "--help").stdout


def test_versions_are_those_of_the_constraints(image: str) -> None:
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {
        name.lower().replace("_", "-"): version for name, _, version in (x.partition("==") for x in lines)
    }
    listed = json.loads(
        docker("run", "--rm", image, "python", "-m", "pip", "list", "--format", "json").stdout
    )
    found = {row["name"].lower().replace("_", "-"): row["version"].partition("+")[0] for row in listed}
    ours = {name: version for name, version in found.items() if name in pinned}
    assert ours == {name: pinned[name] for name in ours}
    assert {"torch", "numpy", "polars", "pydantic", "uvicorn"} <= set(ours)


def test_it_has_bytecode_and_no_caches(image: str) -> None:
    look = "find / -xdev -path '*/ncf/*.pyc' | wc -l; ls -A ~/.cache /var/lib/apt/lists 2>/dev/null | wc -l"
    bytecode, cached = map(int, docker("run", "--rm", image, "sh", "-c", look).stdout.split())
    assert bytecode > 50
    assert cached <= 2  # the names of the two folders, where they are there


def test_serving_imports_neither_torch_nor_mlflow_nor_boto3(image: str) -> None:
    ask = "import sys, ncf.sagemaker.container.serve; print({'mlflow', 'torch', 'boto3'} & set(sys.modules))"
    assert docker("run", "--rm", image, "python", "-c", ask).stdout == "set()\n"
