"""Script mode: the real toolkits of AWS's PyTorch images run our source folder, in an image without ncf.

They read the hyperparameters as JSON in JSON, unpack the code and install its requirements. They pass the
hyperparameters a second time as arguments, and write a failure file of their own where the script left none.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from containers import OptMl, docker, script
from ncf.data.files import sha256_of
from ncf.sagemaker.jobs.package import pack_training_code

pytestmark = pytest.mark.container

IN_CONTAINER = "/opt/ml/input/data/code"


@pytest.fixture(scope="module")
def toolkit(image: str) -> str:
    """An image as AWS's are: torch and the toolkits."""
    recipe = ("--file", "containers/script-mode.Dockerfile", "--build-arg", f"BASE_IMAGE={image}")
    script("image", "ncf-script-mode:local", *recipe)
    return "ncf-script-mode:local"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image lacks."""
    folder = tmp_path_factory.mktemp("wheels")
    ask = ["download", "--quiet", "--no-deps", "--dest", str(folder), "threadpoolctl"]
    subprocess.run([sys.executable, "-m", "pip", *ask], check=True)
    return folder


def job(
    root: Path,
    hyperparameters: Mapping[str, str],
    data: Path | None,
    wheels: Path,
    code: str = "sourcedir.tar.gz",
) -> OptMl:
    toolkit = {
        "sagemaker_program": "train.py", "sagemaker_submit_directory": f"{IN_CONTAINER}/{code}",
        "sagemaker_container_log_level": 20, "sagemaker_region": "us-east-1", "sagemaker_job_name": "test",
    }  # fmt: skip
    encoded = {name: json.dumps(value) for name, value in (dict(hyperparameters) | toolkit).items()}
    made = OptMl.make(root, encoded, data)
    pack_training_code(root / "input" / "data" / "code" / code, wheels=wheels)
    return made


def test_the_image_has_no_ncf(toolkit: str) -> None:
    done = docker("run", "--rm", toolkit, "python", "-c", "import ncf", check=False)
    assert "No module named 'ncf'" in done.stderr


@pytest.mark.parametrize("code", ["sourcedir.tar.gz", "source"])
def test_it_makes_the_artifact_that_our_image_makes(
    toolkit: str,
    trained: OptMl,
    ml_100k: Path,
    two_epochs: dict[str, str],
    wheels: Path,
    code: str,
    tmp_path: Path,
) -> None:
    there = job(tmp_path, two_epochs, ml_100k, wheels, code)
    done = there.train(toolkit, "--hostname", "algo-1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[ncf] epoch=2 loss=" in done.stdout  # whole lines, in which SageMaker finds figures
    assert "[ncf] validation_hr@10=" in done.stdout
    assert sha256_of(there.model / "model.safetensors") == sha256_of(trained.model / "model.safetensors")
    assert {path.name for path in there.model.iterdir()} == {path.name for path in trained.model.iterdir()}


def test_the_failure_is_our_sentence(
    toolkit: str, ml_100k: Path, two_epochs: dict[str, str], wheels: Path, tmp_path: Path
) -> None:
    there = job(tmp_path, two_epochs | {"train.epochs": "many"}, ml_100k, wheels)
    done = there.train(toolkit, "--hostname", "algo-1")
    assert done.returncode == 1
    assert "train.epochs" in there.failure
    assert len(there.failure.splitlines()) == 1
    assert "Traceback" not in there.failure
