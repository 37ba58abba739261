"""Wrong requests fail here as they would on AWS."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from ncf.errors import ConfigError
from ncf.sagemaker.local import requests

Training = Callable[..., dict[str, Any]]


def check(request: dict[str, Any]) -> None:
    requests.check("sagemaker", "create_training_job", request)


def test_a_right_request_passes(training: Training) -> None:
    check(training("job-1", HyperParameters={"train.epochs": "3"}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Nonsense": 1}, "Unknown parameter in input"),
        ({"RoleArn": None}, "Invalid type for parameter RoleArn"),
        ({"HyperParameters": {"train.epochs": 3}}, "Invalid type for parameter HyperParameters"),
        (
            {"ResourceConfig": {"InstanceType": "local", "InstanceCount": -1, "VolumeSizeInGB": 1}},
            "valid min value",
        ),
    ],
    ids=["unknown name", "missing", "number for text", "negative"],
)
def test_what_botocore_refuses(training: Training, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ParamValidationError, match=said):
        check(training("job", **change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"TrainingJobName": "under_score"}, "'TrainingJobName' failed to satisfy constraint: .* pattern"),
        ({"TrainingJobName": "x" * 64}, "length less than or equal to 63"),
        ({"HyperParameters": {str(n): "" for n in range(101)}}, "at most 100 entries"),
        ({"HyperParameters": {"a": "x" * 2501}}, "'HyperParameters.a' .* equal to 2500"),
        ({"OutputDataConfig": {"S3OutputPath": "gs://elsewhere"}}, "'OutputDataConfig.S3OutputPath'"),
        (
            {"ResourceConfig": {"InstanceType": "ml.c5.xlarg", "InstanceCount": 1, "VolumeSizeInGB": 1}},
            r"enum value set: \[ml.c5.xlarge, .*…\]",
        ),
    ],
    ids=["characters", "long name", "many", "long value", "address", "instance type"],
)
def test_what_the_service_refuses(training: Training, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientError, match=said) as caught:
        check(training("job", **change))
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert caught.value.operation_name == "CreateTrainingJob"


@pytest.mark.parametrize("kind", ["local", "local_gpu"])
def test_instances_of_this_machine_pass(training: Training, kind: str) -> None:
    check(training("job", ResourceConfig={"InstanceType": kind, "InstanceCount": 1, "VolumeSizeInGB": 1}))


def test_a_call_that_local_mode_has_not_is_told_from_one_that_nobody_has() -> None:
    assert isinstance(requests.absent("sagemaker", "create_domain"), ConfigError)
    assert isinstance(requests.absent("sagemaker", "create_nonsense"), AttributeError)
    assert isinstance(requests.absent("sagemaker", "__deepcopy__"), AttributeError)
