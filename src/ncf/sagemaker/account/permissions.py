"""What ncf needs of IAM, as tables: every call that the source makes, and what AWS asks for besides, with its
scope.

In: nothing. Out: `SCOPES`, `CALLS`, `BEYOND`, `EXECUTION`, `PIPELINE`, `KMS`, `VPC`, which
`ncf.sagemaker.account.iam` makes into policies. `CALLS` is held to the source by a test: each operation that
is called, no more and no less. Which action admits which resource and condition is from the Service
Authorization Reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SAGEMAKER = "arn:aws:sagemaker:{region}:{account}:"
_NAMES = (f"{_SAGEMAKER}*/{{project}}-*", f"{_SAGEMAKER}endpoint/{{project}}")
"""Resources of every kind, which the actions narrow down; and the endpoint named like the project."""
_ASKED = {"StringEquals": {"aws:RequestTag/ncf:project": "{project}"}}
_TAGGED = {"StringEquals": {"aws:ResourceTag/ncf:project": "{project}"}}
_LOGS = "arn:aws:logs:{region}:{account}:log-group:/aws/sagemaker/"
_SCHEDULER = "arn:aws:scheduler:{region}:{account}:"
_SCALING = {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}}


@dataclass(frozen=True)
class Scope:
    """Resources, and conditions, that go together."""

    resources: tuple[str, ...]
    condition: Mapping[str, Mapping[str, Any]] | None = None


def _sagemaker(part: str, *kinds: str) -> tuple[str, ...]:
    return tuple(f"{_SAGEMAKER}{kind}/{part}" for kind in kinds)


SCOPES = {
    "Anything": Scope(("*",)),
    "New": Scope(_NAMES, _ASKED),
    "Named": Scope((*_NAMES, f"{_SAGEMAKER}*/pipelines-*")),
    "Ours": Scope((f"{_SAGEMAKER}*",), _TAGGED),
    "Packages": Scope(_sagemaker("{project}-*", "model-package")),
    "Executions": Scope(_sagemaker("{project}-*", "pipeline")),
    "Tags": Scope((f"{_SAGEMAKER}*",)),
    "Endpoints": Scope((*_sagemaker("{project}", "endpoint"), *_sagemaker("{project}-*", "endpoint"))),
    "Bucket": Scope(("arn:aws:s3:::{bucket}",)),
    "Prefix": Scope(("arn:aws:s3:::{bucket}",), {"StringLike": {"s3:prefix": ["{project}/*"]}}),
    "Objects": Scope(("arn:aws:s3:::{bucket}/{project}/*",)),
    "Role": Scope(("arn:aws:iam::{account}:role/{role}",)),
    "EndpointLogs": Scope(tuple(f"{_LOGS}Endpoints/{{project}}{more}" for more in ("", ":*", "-*"))),
    "Logs": Scope((f"{_LOGS}*",)),
    "LogStreams": Scope(tuple(f"{_LOGS}*Jobs:log-stream:{part}-*" for part in ("{project}", "pipelines"))),
    "Scaling": Scope(("arn:aws:application-autoscaling:{region}:{account}:scalable-target/*",), _SCALING),
    "Schedules": Scope(tuple(f"{_SCHEDULER}schedule/{part}" for part in ("{project}/*", "*/{project}-*"))),
    "ScheduleGroups": Scope((f"{_SCHEDULER}schedule-group/{{project}}*",)),
    "ScheduleTags": Scope((f"{_SCHEDULER}schedule-group/*",)),
    "Rules": Scope(("arn:aws:events:{region}:{account}:rule/{project}-*",)),
    "NewRepository": Scope(("arn:aws:ecr:{region}:{account}:repository/{project}*",), _ASKED),
    "Repositories": Scope(("arn:aws:ecr:{region}:{account}:repository/{project}*",)),
    "RepositoryTags": Scope(("arn:aws:ecr:{region}:{account}:repository/*",)),
    "OurRepositories": Scope(("arn:aws:ecr:{region}:{account}:repository/*",), _TAGGED),
}  # fmt: skip

CALLS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "sagemaker": {
        "New": (
            "create_endpoint", "create_endpoint_config", "create_hyper_parameter_tuning_job", "create_model",
            "create_model_package_group", "create_pipeline", "create_processing_job", "create_training_job",
            "create_transform_job",
        ),
        "Named": (
            "describe_endpoint", "describe_endpoint_config", "describe_hyper_parameter_tuning_job",
            "describe_model", "describe_model_package", "describe_model_package_group", "describe_pipeline",
            "describe_processing_job", "describe_training_job", "describe_transform_job",
            "list_training_jobs_for_hyper_parameter_tuning_job",
        ),
        "Ours": (
            "delete_endpoint", "delete_endpoint_config", "delete_hyper_parameter_tuning_job", "delete_model",
            "delete_model_package_group", "delete_pipeline", "delete_processing_job", "delete_training_job",
            "stop_hyper_parameter_tuning_job", "stop_processing_job", "stop_training_job",
            "stop_transform_job",
            "update_endpoint", "update_pipeline", "update_training_job",
        ),
        "Executions": (
            "describe_pipeline_definition_for_execution", "describe_pipeline_execution",
            "list_pipeline_execution_steps",
            "list_pipeline_executions", "list_pipeline_parameters_for_execution", "retry_pipeline_execution",
            "start_pipeline_execution", "stop_pipeline_execution",
        ),
        "Packages": ("delete_model_package", "update_model_package"),
        "Tags": ("list_tags",),
        "Anything": (
            "list_endpoint_configs", "list_endpoints", "list_hyper_parameter_tuning_jobs",
            "list_model_package_groups",
            "list_model_packages", "list_models", "list_pipelines", "list_processing_jobs",
            "list_training_jobs",
            "list_transform_jobs",
        ),
    },
    "sagemaker-runtime": {"Endpoints": ("invoke_endpoint", "invoke_endpoint_async")},
    "s3": {
        "Bucket": ("create_bucket", "head_bucket"),
        "Prefix": ("list_object_versions", "list_objects_v2"),
        "Objects": (
            "delete_object", "delete_objects", "download_file", "get_object", "head_object", "upload_file",
        ),
    },
    "ecr": {
        "Anything": ("describe_repositories", "get_authorization_token"),
        "NewRepository": ("create_repository",),
        "Repositories": ("describe_images", "put_lifecycle_policy"),
        "RepositoryTags": ("list_tags_for_resource",),
        "OurRepositories": ("delete_repository",),
    },
    "logs": {
        "Anything": ("describe_log_groups",),
        "Logs": ("describe_log_streams", "get_log_events"),
        "LogStreams": ("delete_log_stream",),
        "EndpointLogs": ("delete_log_group", "list_tags_for_resource", "tag_resource"),
    },
    "application-autoscaling": {
        "Anything": ("describe_scalable_targets", "describe_scaling_policies"),
        "Scaling": ("deregister_scalable_target", "put_scaling_policy", "register_scalable_target"),
    },
    "scheduler": {
        "Anything": ("list_schedule_groups", "list_schedules"),
        "Schedules": ("create_schedule", "delete_schedule", "get_schedule", "update_schedule"),
        "ScheduleGroups": ("create_schedule_group", "delete_schedule_group", "get_schedule_group"),
        "ScheduleTags": ("list_tags_for_resource",),
    },
    "events": {
        "Anything": ("list_rules",),
        "Rules": ("delete_rule", "list_tags_for_resource", "list_targets_by_rule", "remove_targets"),
    },
    "resourcegroupstaggingapi": {"Anything": ("get_resources",)},
    "iam": {"Role": ("get_role",)},
    "sts": {"Anything": ("get_caller_identity",)},
}  # fmt: skip
"""Service, as boto3 names it, to scope, to operations."""


@dataclass(frozen=True)
class ExtraPermission:
    """Actions that no call of ours names."""

    sid: str
    scope: Scope
    why: str
    actions: tuple[str, ...]


def _allow(sid: str, scope: Scope, why: str, service: str, *actions: str) -> ExtraPermission:
    return ExtraPermission(sid, scope, why, tuple(f"{service}:{action}" for action in actions))


def _asked(name: str) -> Scope:
    """A scope whose requests must carry the tag."""
    return Scope(SCOPES[name].resources, _ASKED)


def _passed_to(service: str) -> Scope:
    condition = {"StringEquals": {"iam:PassedToService": [f"{service}.amazonaws.com"]}}
    return Scope(SCOPES["Role"].resources, condition)


_SCALER = "sagemaker.application-autoscaling.amazonaws.com"
_LINKED = Scope(
    (f"arn:aws:iam::{{account}}:role/aws-service-role/{_SCALER}/*",),
    {"StringLike": {"iam:AWSServiceName": _SCALER}},
)
_ALARM = "arn:aws:cloudwatch:{region}:{account}:alarm:TargetTracking-endpoint/{project}"
BEYOND = (
    _allow("AddTags", Scope(_NAMES, _ASKED), "Create calls with tags", "sagemaker", "AddTags"),
    _allow(
        "PassRole", _passed_to("sagemaker"), "SageMaker runs containers as the execution role", "iam",
        "PassRole",
    ),
    _allow(
        "PassRoleToScheduler", _passed_to("scheduler"), "a schedule starts a pipeline as a role",
        "iam", "PassRole",
    ),
    _allow(
        "Push", SCOPES["Repositories"], "docker push", "ecr",
        "BatchCheckLayerAvailability", "CompleteLayerUpload", "InitiateLayerUpload", "PutImage",
        "UploadLayerPart",
    ),
    _allow("TagRepository", SCOPES["NewRepository"], "CreateRepository with tags", "ecr", "TagResource"),
    _allow(
        "TagScheduleGroup", _asked("ScheduleGroups"), "CreateScheduleGroup with tags", "scheduler",
        "TagResource",
    ),
    _allow(
        "TagScaling", _asked("Scaling"), "RegisterScalableTarget with tags", "application-autoscaling",
        "TagResource"
    ),
    _allow(
        "ScalingRole", _LINKED, "the first autoscaling target of an account", "iam",
        "CreateServiceLinkedRole",
    ),
    _allow(
        "ScalingAlarms", Scope((f"{_ALARM}/*", f"{_ALARM}-*")), "target tracking makes alarms", "cloudwatch",
        "DeleteAlarms", "DescribeAlarms", "PutMetricAlarm",
    ),
    _allow(
        "ScaledEndpoints", SCOPES["Endpoints"], "scaling changes the number of instances", "sagemaker",
        "UpdateEndpointWeightsAndCapacities",
    ),
)  # fmt: skip

_KEY = ("arn:aws:kms:{region}:{account}:key/KEY",)
_VIA = {"StringLike": {"kms:ViaService": ["s3.{region}.amazonaws.com", "sagemaker.{region}.amazonaws.com"]}}
_GRANT = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
KMS = (
    _allow(
        "Key", Scope(_KEY, _VIA), "objects and volumes under a key", "kms",
        "Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey*",
    ),
    _allow("KeyGrants", Scope(_KEY, _GRANT), "volumes of instances under a key", "kms", "CreateGrant"),
)  # fmt: skip
VPC = (
    _allow(
        "Network", SCOPES["Anything"], "containers in a VPC", "ec2",
        "CreateNetworkInterface", "CreateNetworkInterfacePermission", "DeleteNetworkInterface",
        "DeleteNetworkInterfacePermission", "DescribeDhcpOptions", "DescribeNetworkInterfaces",
        "DescribeSecurityGroups", "DescribeSubnets", "DescribeVpcs",
    ),
)  # fmt: skip
_METRICS = {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "aws/sagemaker/*", "AWS/SageMaker*"]}}
_IMAGES = (
    *SCOPES["Repositories"].resources,
    "arn:aws:ecr:{region}:*:repository/pytorch-*",
    "arn:aws:ecr:{region}:*:repository/sagemaker-spark-*",
)
EXECUTION = (
    _allow("Prefix", SCOPES["Prefix"], "channels and checkpoints", "s3", "ListBucket"),
    _allow("Bucket", SCOPES["Bucket"], "channels", "s3", "GetBucketLocation"),
    _allow(
        "Objects", SCOPES["Objects"], "channels, checkpoints, artifacts, captured requests", "s3",
        "AbortMultipartUpload", "DeleteObject", "GetObject", "PutObject",
    ),
    _allow("Login", SCOPES["Anything"], "pulling images", "ecr", "GetAuthorizationToken"),
    _allow(
        "Pull", Scope(_IMAGES), "ncf's image, and AWS's PyTorch and Spark images", "ecr",
        "BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer",
    ),
    _allow(
        "Logs", SCOPES["Logs"], "the output of containers", "logs",
        "CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents",
    ),
    _allow(
        "Metrics", Scope(("*",), _METRICS), "figures of jobs and endpoints", "cloudwatch",
        "PutMetricData",
    ),
)  # fmt: skip
_STEPS = ("processing-job", "training-job")
PIPELINE = (
    _allow(
        "NewSteps", Scope(_sagemaker("*", *_STEPS), _ASKED), "steps of a pipeline", "sagemaker",
        "AddTags", "CreateProcessingJob", "CreateTrainingJob",
    ),
    _allow(
        "Steps", Scope(_sagemaker("pipelines-*", *_STEPS)), "steps of a pipeline", "sagemaker",
        "DescribeProcessingJob", "DescribeTrainingJob", "StopProcessingJob", "StopTrainingJob",
    ),
    _allow(
        "Register", Scope(_sagemaker("{project}-*", "model-package", "model-package-group")),
        "the step that registers",
        "sagemaker", "CreateModelPackage", "DescribeModelPackage", "DescribeModelPackageGroup",
    ),
    _allow("PassRole", _passed_to("sagemaker"), "steps run as the role of the pipeline", "iam", "PassRole"),
    _allow(
        "Start", SCOPES["Executions"], "a schedule that starts the pipeline as this role", "sagemaker",
        "StartPipelineExecution",
    ),
)  # fmt: skip
