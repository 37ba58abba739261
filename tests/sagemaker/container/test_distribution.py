"""How a job's processes meet: what the request says, what the container reads, what cannot be and why."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ncf.errors import ConfigError
from ncf.sagemaker.container.distribution import TORCHRUN, Distribution, from_variables
from ncf.sagemaker.container.hyperparameters import from_hyperparameters
from ncf.sagemaker.jobs.images import HOROVOD_IMAGE, image_for
from ncf.sagemaker.jobs.requests import TrainingOptions, training_request
from ncf.sagemaker.session import Session, Settings
from programs import judged, session_of
from support import experiment

OURS = "012345678901.dkr.ecr.us-east-1.amazonaws.com/ncf:1"
OPTIONS = TrainingOptions("ncf-job", data="s3://mine/ncf/data/d1", image=OURS, instance_count=2)
P4D = "ml.p4d.24xlarge"


def request_of(**changes: Any) -> dict[str, Any]:
    request = training_request(session_of(), experiment(), replace(OPTIONS, **changes))
    return judged("CreateTrainingJob", request)


@pytest.fixture
def local(tmp_path: Path) -> Session:
    return Session(Settings(local=True, home=tmp_path))


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> Session:
    """A hosted session whose images are all in ECR."""
    monkeypatch.delenv("NCF_IMAGE", raising=False)
    monkeypatch.setattr("ncf.sagemaker.jobs.images.check_pushed", lambda *_: None)
    return session_of()


@pytest.mark.parametrize(
    "distribution",
    [
        TORCHRUN,
        Distribution("torchrun", processes=4),
        Distribution("horovod", timeout=60),
        Distribution("smddp"),
    ],
    ids=str,
)
def test_the_container_reads_what_the_request_says(distribution: Distribution) -> None:
    request = request_of(distribution=distribution, environment={"OTHER": "kept"})
    assert request["Environment"]["OTHER"] == "kept"
    assert from_variables(request["Environment"]) == distribution
    assert from_hyperparameters(request["HyperParameters"]) == experiment()


def test_the_usual_way_needs_no_variables() -> None:
    assert "Environment" not in request_of()
    assert from_variables({}) == TORCHRUN


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "mpi"}, "torchrun, horovod or smddp, and not 'mpi'"),
        ({"processes": 0}, "must be 1 or more"),
        ({"timeout": -1}, "must be 1 or more"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Distribution(**options)


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "²"])
def test_wrong_variables_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="NCF_PROCESSES must be a number of 1 or more"):
        from_variables({"NCF_PROCESSES": text})


def test_smddp_in_script_mode_is_started_by_the_toolkit_of_its_image() -> None:
    smddp = {"distribution": Distribution("smddp"), "instance_type": P4D}
    given = request_of(code="s3://mine/code.tar.gz", **smddp)["HyperParameters"]
    assert json.loads(given["sagemaker_distributed_dataparallel_enabled"]) is True
    assert json.loads(given["sagemaker_instance_type"]) == P4D
    assert "sagemaker_instance_type" not in request_of(**smddp)["HyperParameters"]
    assert "sagemaker_instance_type" not in request_of(code="s3://mine/code.tar.gz")["HyperParameters"]


def test_images(hosted: Session, local: Session) -> None:
    horovod, smddp = Distribution("horovod"), Distribution("smddp")
    assert image_for(local, TORCHRUN, "ml.c7i.xlarge") == "ncf:local"
    assert image_for(local, horovod, "ml.c7i.xlarge") == HOROVOD_IMAGE
    assert image_for(hosted, horovod, "ml.c7i.xlarge", OURS) == OURS
    assert "pytorch-training:2.6.0-cpu" in image_for(hosted, TORCHRUN, "ml.c7i.xlarge", script_mode=True)
    assert "pytorch-training:2.5.1-gpu" in image_for(hosted, smddp, P4D, script_mode=True)
    assert image_for(hosted, smddp, P4D, OURS) == OURS


@pytest.mark.parametrize(
    ("kind", "instance_type", "options", "sentence"),
    [
        ("horovod", "ml.c7i.xlarge", {"script_mode": True}, "No current image of AWS has Horovod"),
        ("horovod", "ml.c7i.xlarge", {}, "needs an image with Horovod.*--build-arg HOROVOD=1.*give --image"),
        ("smddp", P4D, {}, "only in AWS's PyTorch images.*--script-mode"),
        ("smddp", "ml.c7i.xlarge", {"script_mode": True}, "does not run on ml.c7i.xlarge.*ml.p4d.24xlarge"),
        ("smddp", "ml.p5.48xlarge", {"given": OURS}, "does not run on ml.p5.48xlarge"),
    ],
)
def test_what_cannot_be_is_said_with_the_remedy(
    hosted: Session, kind: str, instance_type: str, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        image_for(hosted, Distribution(kind), instance_type, **options)


def test_smddp_has_a_process_for_each_gpu(hosted: Session) -> None:
    assert image_for(hosted, Distribution("smddp", processes=8), P4D, script_mode=True)
    with pytest.raises(ConfigError, match="8 processes on each host"):
        image_for(hosted, Distribution("smddp", processes=2), P4D, script_mode=True)


def test_smddp_is_not_for_local_mode(local: Session) -> None:
    with pytest.raises(ConfigError, match="leave out --local, or use --distributed torchrun"):
        image_for(local, Distribution("smddp"), P4D, script_mode=True)
