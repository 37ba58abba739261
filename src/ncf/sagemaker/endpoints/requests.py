"""The requests that host a model: a `Hosting` in, requests as boto3 takes them out. Nothing is called here.

| kind | billed | not possible here |
| --- | --- | --- |
| real-time (`instance_type`, `instance_count`) | the instances, used or not | |
| serverless (`serverless_mb`) | memory x seconds | VPC, KMS volumes, capture, autoscaling, canary, linear |
| asynchronous (`asynchronous`) | the instances | capture |

An endpoint's configuration cannot be changed, only replaced: each carries its endpoint in the tag
`ncf:endpoint` and its predecessor in `ncf:before`, to which a rollback returns.

Source: CreateModel, CreateEndpointConfig, UpdateEndpoint, Amazon SageMaker API Reference; "Serverless
Inference: feature exclusions" and "Deployment guardrails", SageMaker Developer Guide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ncf.errors import ConfigError
from ncf.sagemaker.jobs import requests
from ncf.sagemaker.session import Session

ENDPOINT_TAG = "ncf:endpoint"
BEFORE_TAG = "ncf:before"
AWS_CODE = "/opt/ml/model/code"
STARTUP_SECONDS = 300
"""How long a container may take until /ping answers; after that SageMaker gives up."""
DOWNLOAD_SECONDS = 900
Traffic = Literal["all-at-once", "canary", "linear"]


@dataclass(frozen=True)
class Hosting:
    """Where an endpoint runs, what it records, how it is replaced."""

    instance_type: str = "ml.c7i.large"
    instance_count: int = 1
    variant: str = "AllTraffic"
    serverless_mb: int | None = None
    """Memory of a serverless endpoint; None for instances."""
    max_concurrency: int = 10
    """Requests at once, of a serverless endpoint."""
    asynchronous: bool = False
    output_prefix: str | None = None
    """Where answers of an asynchronous endpoint go; by default below the project in the bucket."""
    workers: int | None = None
    """Processes in a container; by default the container chooses."""
    aws_image: bool = False
    """Use AWS's PyTorch inference image instead of ours: the archive then holds the code."""
    capture: int | None = None
    """Percent of the requests that are recorded to S3."""
    traffic: Traffic = "all-at-once"
    step: int = 10
    """Percent of the instances in the first step of canary traffic, or in each step of linear traffic."""
    pause: int = 60
    """Seconds between the steps."""
    alarms: tuple[str, ...] = ()
    """CloudWatch alarms that undo an update."""

    def check(self) -> None:
        """Raise `ConfigError` for what SageMaker cannot do, or not together."""
        if self.serverless_mb is not None:
            self._check_serverless(self.serverless_mb)
        if self.asynchronous and self.capture is not None:
            raise ConfigError("An asynchronous endpoint keeps its answers in S3 anyway: leave out --capture.")
        if self.output_prefix is not None and not self.asynchronous:
            raise ConfigError("--output-prefix is for answers of an asynchronous endpoint: add --async.")
        if self.output_prefix is not None and not self.output_prefix.startswith("s3://"):
            raise ConfigError("--output-prefix must be an address in S3, such as s3://bucket/answers.")
        for name, value, least, most in (
            ("--capture", self.capture, 1, 100), ("--step", self.step, 1, 50),
            ("--pause", self.pause, 0, 3600),
            ("--instance-count", self.instance_count, 1, None), ("--workers", self.workers, 1, None),
            ("--max-concurrency", self.max_concurrency, 1, 200),
        ):  # fmt: skip
            if value is not None and (value < least or (most is not None and value > most)):
                span = f"at least {least}" if most is None else f"between {least} and {most}"
                raise ConfigError(f"{name} must be {span}, and not {value}.")

    def _check_serverless(self, memory: int) -> None:
        if memory not in range(1024, 6145, 1024):
            raise ConfigError("--serverless takes 1024, 2048, 3072, 4096, 5120 or 6144 megabytes.")
        if self.asynchronous:
            raise ConfigError("An endpoint is either serverless or asynchronous: leave out one of them.")
        if self.capture is not None:
            raise ConfigError("Serverless endpoints cannot record requests: leave out --capture.")
        if self.traffic != "all-at-once":
            raise ConfigError("Serverless endpoints are replaced at once: leave out --traffic.")


def model_request(
    session: Session, name: str, endpoint: str | None, image: str, model_uri: str, hosting: Hosting
) -> dict[str, Any]:
    """The request of CreateModel for the archive at `model_uri`; raises `ConfigError` for half of a VPC.

    `endpoint` is the endpoint that the model belongs to, None for the model of a transform job.
    """
    request: dict[str, Any] = {
        "ModelName": name,
        "ExecutionRoleArn": session.role,
        "PrimaryContainer": {
            "Image": image, "ModelDataUrl": model_uri, "Environment": environment(hosting, session.region),
        },
        "Tags": session.tags(**({ENDPOINT_TAG: endpoint} if endpoint else {})),
    }  # fmt: skip
    return request | vpc(session, hosting)


def vpc(session: Session, hosting: Hosting) -> dict[str, Any]:
    """`VpcConfig` of the settings, or nothing; raises `ConfigError` if it is incomplete or not possible."""
    network = requests.vpc(session)
    if network is None:
        return {}
    if hosting.serverless_mb is not None:
        raise ConfigError("Serverless endpoints have no VPC: leave out --subnet and --security-group.")
    return {"VpcConfig": network}


def environment(hosting: Hosting, region: str) -> dict[str, str]:
    """The container's environment variables."""
    ours = {"NCF_WORKERS": hosting.workers}
    toolkit = {
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": AWS_CODE,
        "SAGEMAKER_CONTAINER_LOG_LEVEL": 20,
        "SAGEMAKER_REGION": region,
        "SAGEMAKER_MODEL_SERVER_WORKERS": hosting.workers,
    }
    wanted: dict[str, Any] = toolkit if hosting.aws_image else ours
    return {name: str(value) for name, value in wanted.items() if value is not None}


def config_request(
    session: Session, name: str, endpoint: str, model: str, hosting: Hosting, before: str | None = None
) -> dict[str, Any]:
    """The request of CreateEndpointConfig; `before` is the configuration that it replaces."""
    known = {ENDPOINT_TAG: endpoint} | ({BEFORE_TAG: before} if before else {})
    request: dict[str, Any] = {
        "EndpointConfigName": name,
        "ProductionVariants": [_variant(model, hosting)],
        "Tags": session.tags(**known),
    }
    key = session.settings.kms_key
    if key and hosting.serverless_mb is None:
        request["KmsKeyId"] = key
    if hosting.capture is not None:
        request["DataCaptureConfig"] = _capture(session, endpoint, hosting.capture)
    if hosting.asynchronous:
        request["AsyncInferenceConfig"] = _asynchronous(session, endpoint, hosting.output_prefix)
    return request


def _variant(model: str, hosting: Hosting) -> dict[str, Any]:
    common = {"VariantName": hosting.variant, "ModelName": model, "InitialVariantWeight": 1.0}
    if hosting.serverless_mb is not None:
        serverless = {"MemorySizeInMB": hosting.serverless_mb, "MaxConcurrency": hosting.max_concurrency}
        return common | {"ServerlessConfig": serverless}
    return common | {
        "InstanceType": hosting.instance_type,
        "InitialInstanceCount": hosting.instance_count,
        "ContainerStartupHealthCheckTimeoutInSeconds": STARTUP_SECONDS,
        "ModelDataDownloadTimeoutInSeconds": DOWNLOAD_SECONDS,
    }


def _capture(session: Session, endpoint: str, percent: int) -> dict[str, Any]:
    key = session.settings.kms_key
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": percent,
        "DestinationS3Uri": session.uri("capture", endpoint),
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {
            "JsonContentTypes": ["application/json", "application/jsonlines"],
            "CsvContentTypes": ["text/csv"],
        },
    } | ({"KmsKeyId": key} if key else {})


def _asynchronous(session: Session, endpoint: str, prefix: str | None) -> dict[str, Any]:
    answers = prefix.rstrip("/") if prefix else session.uri("async", endpoint, "answers")
    output = {"S3OutputPath": answers, "S3FailurePath": session.uri("async", endpoint, "failures")}
    key = session.settings.kms_key
    return {"OutputConfig": output | ({"KmsKeyId": key} if key else {})}


def update_request(endpoint: str, config: str, hosting: Hosting, keep_capacity: bool) -> dict[str, Any]:
    """The request of UpdateEndpoint; `keep_capacity` keeps the instances that autoscaling has started."""
    request: dict[str, Any] = {"EndpointName": endpoint, "EndpointConfigName": config}
    if hosting.serverless_mb is None:
        request["DeploymentConfig"] = _deployment(hosting)
    if keep_capacity:
        request |= {
            "RetainAllVariantProperties": True,
            "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DataCaptureConfig"}],
        }
    return request


def _deployment(hosting: Hosting) -> dict[str, Any]:
    share = {"Type": "CAPACITY_PERCENT", "Value": hosting.step}
    steps: dict[str, dict[str, Any]] = {
        "all-at-once": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
        "canary": {"Type": "CANARY", "CanarySize": share, "WaitIntervalInSeconds": hosting.pause},
        "linear": {"Type": "LINEAR", "LinearStepSize": share, "WaitIntervalInSeconds": hosting.pause},
    }
    deployment: dict[str, Any] = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": steps[hosting.traffic],
            "TerminationWaitInSeconds": 0,
        }
    }
    if hosting.alarms:
        deployment["AutoRollbackConfiguration"] = {"Alarms": alarms(hosting.alarms)}
    return deployment


def alarms(names: Sequence[str]) -> list[dict[str, str]]:
    """CloudWatch alarms in the form of requests."""
    return [{"AlarmName": name} for name in names]
