"""One of everything that a project may have on AWS, made with plain boto3 for tests of clean-up."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from aws import Aws

TRUST = {"Version": "2012-10-17", "Statement": []}
BUCKET = "shelf"


def tags(project: str | None) -> list[dict[str, str]]:
    """The tag as most services take it; another one for what is nobody's."""
    return [{"Key": "ncf:project", "Value": project}] if project else [{"Key": "team", "Value": "search"}]


def make_bucket(aws: Aws) -> None:
    """A bucket in which there is an artifact, which is nobody's, and something to transform."""
    aws.client("s3").create_bucket(Bucket=BUCKET)
    archive = io.BytesIO()
    tarfile.open(fileobj=archive, mode="w:gz").close()
    put(aws, "elsewhere/model.tar.gz", ours=False, body=archive.getvalue())
    put(aws, "elsewhere/in/users.jsonl", ours=False)


def make_everything(aws: Aws, project: str | None, name: str) -> None:
    """Resources called NAME-…, with the tag of `project`, or without it."""
    make_sagemaker(aws, project, name)
    make_beside(aws, project, name)


def make_sagemaker(aws: Aws, project: str | None, name: str) -> None:
    sagemaker, tag = aws.client("sagemaker"), tags(project)
    make_training(aws, project, f"{name}-train")
    sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=f"{name}-tune"[:32],
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "ResourceLimits": {"MaxParallelTrainingJobs": 1, "MaxNumberOfTrainingJobs": 1},
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "ndcg"},
            "ParameterRanges": {
                "IntegerParameterRanges": [{"Name": "width", "MinValue": "1", "MaxValue": "2"}]
            },
        },
        TrainingJobDefinition={
            "AlgorithmSpecification": {
                "TrainingImage": "image",
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "ndcg", "Regex": "ndcg=([0-9.]+)"}],
            },
            "RoleArn": aws.role,
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/elsewhere/{name}"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        },
        Tags=tag,
    )
    aws.wait("HyperParameterTuningJob", f"{name}-tune"[:32])
    make_endpoint(aws, project, name)
    sagemaker.create_transform_job(
        TransformJobName=f"{name}-batch",
        ModelName=f"{name}-model",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/elsewhere/in"}}
        },
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/elsewhere/out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        Tags=tag,
    )
    sagemaker.create_model_package_group(ModelPackageGroupName=f"{name}-group", Tags=tag)
    sagemaker.create_model_package(
        ModelPackageGroupName=f"{name}-group",
        InferenceSpecification={
            "Containers": [{"Image": "image", "ModelDataUrl": f"s3://{BUCKET}/elsewhere/model.tar.gz"}],
            "SupportedContentTypes": ["application/json"], "SupportedResponseMIMETypes": ["application/json"],
        },
    )  # fmt: skip
    sagemaker.create_pipeline(
        PipelineName=f"{name}-pipeline", ClientRequestToken="t" * 32, RoleArn=aws.role, Tags=tag,
        PipelineDefinition=json.dumps({"Version": "2020-12-01", "Steps": []}),
    )  # fmt: skip


def make_training(aws: Aws, project: str | None, name: str, **more: Any) -> None:
    aws.client("sagemaker").create_training_job(
        TrainingJobName=name, RoleArn=aws.role,
        AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File"},
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/elsewhere/{name}"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600}, Tags=tags(project), **more,
    )  # fmt: skip


def make_endpoint(aws: Aws, project: str | None, name: str) -> None:
    sagemaker, tag = aws.client("sagemaker"), tags(project)
    model = {"Image": "image", "ModelDataUrl": f"s3://{BUCKET}/elsewhere/model.tar.gz"}
    sagemaker.create_model(
        ModelName=f"{name}-model", PrimaryContainer=model, ExecutionRoleArn=aws.role, Tags=tag
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": f"{name}-model",
        "InstanceType": "ml.m5.xlarge",
        "InitialInstanceCount": 2,
    }
    sagemaker.create_endpoint_config(
        EndpointConfigName=f"{name}-config", ProductionVariants=[variant], Tags=tag
    )
    sagemaker.create_endpoint(EndpointName=f"{name}-endpoint", EndpointConfigName=f"{name}-config", Tags=tag)
    aws.wait("Endpoint", f"{name}-endpoint")


def make_beside(aws: Aws, project: str | None, name: str) -> None:
    tag = tags(project)
    aws.client("application-autoscaling").register_scalable_target(
        ServiceNamespace="sagemaker", ResourceId=f"endpoint/{name}-endpoint/variant/AllTraffic",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount", MinCapacity=1, MaxCapacity=2,
    )  # fmt: skip
    pipeline = aws.client("sagemaker").describe_pipeline(PipelineName=f"{name}-pipeline")["PipelineArn"]
    scheduler = aws.client("scheduler")
    scheduler.create_schedule_group(Name=f"{name}-schedules", Tags=tag)
    for group, target in (
        ("default", pipeline),
        (f"{name}-schedules", "arn:aws:lambda:us-east-1:123456789012:function:f"),
    ):
        scheduler.create_schedule(
            Name=f"{name}-{group[:3]}", GroupName=group, ScheduleExpression="rate(1 day)",
            FlexibleTimeWindow={"Mode": "OFF"}, Target={"Arn": target, "RoleArn": aws.role},
        )  # fmt: skip
    events = aws.client("events")
    events.put_rule(Name=f"{name}-rule", ScheduleExpression="rate(1 day)", Tags=tag)
    events.put_targets(
        Rule=f"{name}-rule", Targets=[{"Id": "one", "Arn": "arn:aws:sqs:us-east-1:123456789012:queue"}]
    )
    aws.client("ecr").create_repository(repositoryName=f"{name}-images", tags=tag)
    make_logs(aws, f"/aws/sagemaker/Endpoints/{name}-endpoint", "AllTraffic/one")
    make_logs(aws, "/aws/sagemaker/TransformJobs", f"{name}-batch/one")


def make_logs(aws: Aws, group: str, stream: str) -> None:
    """What containers may have written by themselves, or not."""
    logs = aws.client("logs")
    if group not in [
        one["logGroupName"] for one in logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    ]:
        logs.create_log_group(logGroupName=group)
    if stream not in [
        one["logStreamName"] for one in logs.describe_log_streams(logGroupName=group)["logStreams"]
    ]:
        logs.create_log_stream(logGroupName=group, logStreamName=stream)


def put(aws: Aws, key: str, ours: bool, body: bytes = b"data") -> None:
    """An object, with the digest that ncf gives or without."""
    extra = {"Metadata": {"ncf-sha256": "0" * 64}} if ours else {}
    aws.client("s3").upload_fileobj(io.BytesIO(body), BUCKET, key, ExtraArgs=extra)


def standing(aws: Aws) -> set[str]:
    """All that exists, by name."""
    found = {f"{one.kind.name} {one.name}" for one in aws.records()}
    found |= {
        f"repository {one['repositoryName']}"
        for one in aws.client("ecr").describe_repositories()["repositories"]
    }
    found |= {f"schedule {one['Name']}" for one in aws.client("scheduler").list_schedules()["Schedules"]}
    found |= {
        f"schedule group {one['Name']}"
        for one in aws.client("scheduler").list_schedule_groups()["ScheduleGroups"]
    }
    found |= {f"rule {one['Name']}" for one in aws.client("events").list_rules()["Rules"]}
    scaling = aws.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")
    found |= {f"scaling {one['ResourceId']}" for one in scaling["ScalableTargets"]}
    logs = aws.client("logs")
    for group in logs.describe_log_groups()["logGroups"]:
        name = group["logGroupName"]
        found.add(f"logs {name}")
        found |= {
            f"stream {name} {one['logStreamName']}"
            for one in logs.describe_log_streams(logGroupName=name)["logStreams"]
        }
    versions = aws.client("s3").list_object_versions(Bucket=BUCKET)
    found |= {
        f"object {one['Key']}" for one in (*versions.get("Versions", ()), *versions.get("DeleteMarkers", ()))
    }
    return found
