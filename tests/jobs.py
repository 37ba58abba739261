"""Requests of jobs and endpoints for tests of the double, as plain boto3 would send them."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from aws import Aws

BUCKET = "made-for-tests"
OUT, DATA, MODEL = f"s3://{BUCKET}/out", f"s3://{BUCKET}/data", f"s3://{BUCKET}/model/model.tar.gz"

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ncf:local"
METRICS = [
    {"Name": "ndcg", "Regex": r"ndcg@10=([0-9.]+)"},
    {"Name": "loss", "Regex": r"\bloss=([0-9.]+)"},
]


def keys(aws: Aws, prefix: str) -> list[str]:
    """The keys below a prefix of the bucket."""
    found = aws.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return [one["Key"] for one in found]


def content(aws: Aws, key: str) -> bytes:
    """An object of the bucket."""
    body: bytes = aws.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return body


def refused(call: Any, **request: Any) -> tuple[str, str]:
    """Code and message with which a call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def channel(uri: str, name: str = "train", **more: Any) -> dict[str, Any]:
    """An input channel."""
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated", **more}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def training(role: str, name: str, data: str, output: str, **more: Any) -> dict[str, Any]:
    """CreateTrainingJob."""
    return {
        "TrainingJobName": name,
        "RoleArn": role,
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": METRICS,
        },
        "InputDataConfig": [channel(data)],
        "OutputDataConfig": {"S3OutputPath": output},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        **more,
    }


def processing(role: str, name: str, data: str, output: str, **more: Any) -> dict[str, Any]:
    """CreateProcessingJob."""
    source = {
        "S3Uri": data,
        "LocalPath": "/opt/ml/processing/input/raw",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }
    target = {"S3Uri": output, "LocalPath": "/opt/ml/processing/output/data", "S3UploadMode": "EndOfJob"}
    return {
        "ProcessingJobName": name,
        "RoleArn": role,
        "AppSpecification": {
            "ImageUri": IMAGE,
            "ContainerEntrypoint": ["python", "-m", "x"],
            "ContainerArguments": ["a=1"],
        },
        "ProcessingInputs": [{"InputName": "raw", "S3Input": source}],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "data", "S3Output": target}]},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10}
        },
        **more,
    }


def transform(name: str, model: str, data: str, output: str, **more: Any) -> dict[str, Any]:
    """CreateTransformJob, a line a record."""
    return {
        "TransformJobName": name,
        "ModelName": model,
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data}},
            "SplitType": "Line",
            "ContentType": "application/jsonlines",
        },
        "TransformOutput": {"S3OutputPath": output, "AssembleWith": "Line"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **more,
    }


def endpoint(sm: Any, role: str, name: str, model_uri: str, **config: Any) -> str:
    """Make a model and a configuration, both of that name; returns it."""
    container = {"Image": IMAGE, "ModelDataUrl": model_uri}
    sm.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    sm.create_endpoint_config(**{"EndpointConfigName": name, "ProductionVariants": [variant], **config})
    return name
