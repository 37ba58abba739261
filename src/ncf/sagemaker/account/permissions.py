"""What ncf needs of IAM, as tables: every call that the source makes, and what AWS asks for besides, with its scope.

In: nothing. Out: `SCOPES`, `CALLS`, `BEYOND`, `EXECUTION`, `PIPELINE`, `KMS`, `VPC`, which `ncf.sagemaker.account.iam` makes into
policies. `CALLS` is held to the source by a test: each operation that is called, no more and no less. Which action
admits which resource and condition is from the Service Authorization Reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SAGEMAKER = "arn:aws:sagemaker:{region}:{account}:"
_NAMES = (f"{_SAGEMAKER}*/{{project}}-*", f"{_SAGEMAKER}endpoint/{{project}}")
"""Of every kind, the actions say which; and the endpoint that is named as the project."""
_ASKED = {"StringEquals": {"aws:RequestTag/ncf:project": "{project}"}}
_TAGGED = {"StringEquals": {"aws:ResourceTag/ncf:project": "{project}"}}
_LOGS = "arn:aws:logs:{region}:{account}:log-group:/aws/sagemaker/"
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
    "Schedules": Scope(("arn:aws:scheduler:{region}:{account}:schedule/{project}/*", "arn:aws:scheduler:{region}:{account}:schedule/*/{project}-*")),
    "ScheduleGroups": Scope(("arn:aws:scheduler:{region}:{account}:schedule-group/{project}*",)),
    "ScheduleTags": Scope(("arn:aws:scheduler:{region}:{account}:schedule-group/*",)),
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
            "create_model_package_group", "create_pipeline", "create_processing_job", "create_training_job", "create_transform_job",
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
            "stop_hyper_parameter_tuning_job", "stop_processing_job", "stop_training_job", "stop_transform_job",
            "update_endpoint", "update_pipeline", "update_training_job",
        ),
        "Executions": (
            "describe_pipeline_definition_for_execution", "describe_pipeline_execution", "list_pipeline_execution_steps",
            "list_pipeline_executions", "list_pipeline_parameters_for_execution", "retry_pipeline_execution",
            "start_pipeline_execution", "stop_pipeline_execution",
        ),
        "Packages": ("delete_model_package", "update_model_package"),
        "Tags": ("list_tags",),
        "Anything": (
            "list_endpoint_configs", "list_endpoints", "list_hyper_parameter_tuning_jobs", "list_model_package_groups",
            "list_model_packages", "list_models", "list_pipelines", "list_processing_jobs", "list_training_jobs",
            "list_transform_jobs",
        ),
    },
    "sagemaker-runtime": {"Endpoints": ("invoke_endpoint", "invoke_endpoint_async")},
    "s3": {
        "Bucket": ("create_bucket", "head_bucket"),
        "Prefix": ("list_object_versions", "list_objects_v2"),
        "Objects": ("delete_object", "delete_objects", "download_file", "get_object", "head_object", "upload_file"),
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
    actions: tuple[str, ...]
    scope: Scope
    why: str


_PASSED = {"StringEquals": {"iam:PassedToService": ["sagemaker.amazonaws.com"]}}
_LINKED = "arn:aws:iam::{account}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/*"
BEYOND = (
    ExtraPermission("AddTags", ("sagemaker:AddTags",), Scope(_NAMES, _ASKED), "Create calls that carry tags"),
    ExtraPermission("PassRole", ("iam:PassRole",), Scope(SCOPES["Role"].resources, _PASSED), "SageMaker runs containers as the execution role"),
    ExtraPermission(
        "PassRoleToScheduler", ("iam:PassRole",),
        Scope(SCOPES["Role"].resources, {"StringEquals": {"iam:PassedToService": ["scheduler.amazonaws.com"]}}),
        "a schedule starts a pipeline as a role",
    ),
    ExtraPermission(
        "Push", ("ecr:BatchCheckLayerAvailability", "ecr:CompleteLayerUpload", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"),
        SCOPES["Repositories"], "docker push",
    ),
    ExtraPermission("TagRepository", ("ecr:TagResource",), SCOPES["NewRepository"], "CreateRepository with tags"),
    ExtraPermission("TagScheduleGroup", ("scheduler:TagResource",), Scope(SCOPES["ScheduleGroups"].resources, _ASKED), "CreateScheduleGroup with tags"),
    ExtraPermission("TagScaling", ("application-autoscaling:TagResource",), Scope(SCOPES["Scaling"].resources, _ASKED), "RegisterScalableTarget with tags"),
    ExtraPermission(
        "ScalingRole", ("iam:CreateServiceLinkedRole",),
        Scope((_LINKED,), {"StringLike": {"iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"}}),
        "the first autoscaling target of an account",
    ),
    ExtraPermission(
        "ScalingAlarms", ("cloudwatch:DeleteAlarms", "cloudwatch:DescribeAlarms", "cloudwatch:PutMetricAlarm"),
        Scope(tuple(f"arn:aws:cloudwatch:{{region}}:{{account}}:alarm:TargetTracking-endpoint/{{project}}{more}" for more in ("/*", "-*"))), "target tracking makes alarms",
    ),
    ExtraPermission("ScaledEndpoints", ("sagemaker:UpdateEndpointWeightsAndCapacities",), SCOPES["Endpoints"], "scaling changes the number of instances"),
)  # fmt: skip

_KEY = Scope(
    ("arn:aws:kms:{region}:{account}:key/KEY",), {"StringLike": {"kms:ViaService": ["s3.{region}.amazonaws.com", "sagemaker.{region}.amazonaws.com"]}}
)  # fmt: skip
KMS = (
    ExtraPermission("Key", ("kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*"), _KEY, "objects and volumes under a key"),
    ExtraPermission(
        "KeyGrants", ("kms:CreateGrant",), Scope(_KEY.resources, {"Bool": {"kms:GrantIsForAWSResource": "true"}}),
        "volumes of instances under a key",
    ),
)  # fmt: skip
VPC = (
    ExtraPermission(
        "Network",
        ("ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface",
         "ec2:DeleteNetworkInterfacePermission", "ec2:DescribeDhcpOptions", "ec2:DescribeNetworkInterfaces",
         "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"),
        SCOPES["Anything"], "containers in a VPC",
    ),
)  # fmt: skip
_METRICS = {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "aws/sagemaker/*", "AWS/SageMaker*"]}}
EXECUTION = (
    ExtraPermission("Prefix", ("s3:ListBucket",), SCOPES["Prefix"], "channels and checkpoints"),
    ExtraPermission("Bucket", ("s3:GetBucketLocation",), SCOPES["Bucket"], "channels"),
    ExtraPermission(
        "Objects", ("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"), SCOPES["Objects"],
        "channels, checkpoints, artifacts, captured requests",
    ),
    ExtraPermission("Login", ("ecr:GetAuthorizationToken",), SCOPES["Anything"], "pulling images"),
    ExtraPermission(
        "Pull", ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
        Scope((*SCOPES["Repositories"].resources, "arn:aws:ecr:{region}:*:repository/pytorch-*", "arn:aws:ecr:{region}:*:repository/sagemaker-spark-*")),
        "ncf's image, and AWS's PyTorch and Spark images",
    ),
    ExtraPermission(
        "Logs", ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"), SCOPES["Logs"],
        "what containers print",
    ),
    ExtraPermission("Metrics", ("cloudwatch:PutMetricData",), Scope(("*",), _METRICS), "figures of jobs and endpoints"),
)  # fmt: skip
PIPELINE = (
    ExtraPermission(
        "NewSteps", ("sagemaker:AddTags", "sagemaker:CreateProcessingJob", "sagemaker:CreateTrainingJob"),
        Scope(_sagemaker("*", "processing-job", "training-job"), _ASKED), "steps of a pipeline",
    ),
    ExtraPermission(
        "Steps", ("sagemaker:DescribeProcessingJob", "sagemaker:DescribeTrainingJob", "sagemaker:StopProcessingJob", "sagemaker:StopTrainingJob"),
        Scope(_sagemaker("pipelines-*", "processing-job", "training-job")), "steps of a pipeline",
    ),
    ExtraPermission(
        "Register", ("sagemaker:CreateModelPackage", "sagemaker:DescribeModelPackage", "sagemaker:DescribeModelPackageGroup"),
        Scope(_sagemaker("{project}-*", "model-package", "model-package-group")), "the step that registers",
    ),
    ExtraPermission("PassRole", ("iam:PassRole",), Scope(SCOPES["Role"].resources, _PASSED), "steps run as the role of the pipeline"),
    ExtraPermission("Start", ("sagemaker:StartPipelineExecution",), SCOPES["Executions"], "a schedule that starts the pipeline as this role"),
)  # fmt: skip
