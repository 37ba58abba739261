"""Endpoints of the double: made, invoked, replaced, undone, captured, asynchronous."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from aws import Aws
from jobs import BUCKET, MODEL, content, endpoint, keys, refused


def shout(model: Path, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
    """Refuses what begins with a question mark; needs the model's file."""
    assert (model / "weights").read_text() == "1"
    return (
        (400, b"no questions", "text/plain") if body.startswith(b"?") else (200, body.upper(), "text/plain")
    )


def invoke(aws: Aws, body: bytes, name: str = "first") -> bytes:
    answer = aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=name, Body=body, ContentType="text/plain"
    )
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    read: bytes = answer["Body"].read()
    return read


@pytest.fixture
def first(aws: Aws, sm: Any) -> str:
    """An endpoint in service."""
    aws.serve(shout)
    sm.create_endpoint(EndpointName="first", EndpointConfigName=endpoint(sm, aws.role, "first", MODEL))
    return "first"


def test_an_endpoint_answers_and_is_gone_when_deleted(aws: Aws, sm: Any, first: str) -> None:
    described = sm.describe_endpoint(EndpointName=first)
    assert described["EndpointStatus"] == "InService"
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert invoke(aws, b"hello") == b"HELLO"
    sm.delete_endpoint(EndpointName=first)
    sm.delete_endpoint_config(EndpointConfigName=first)
    sm.delete_model(ModelName=first)
    assert aws.records() == []
    code, message = refused(sm.describe_endpoint, EndpointName=first)
    assert (code, message.partition('"')[0]) == ("ValidationException", "Could not find endpoint ")


def test_a_refusal_of_the_container_is_a_model_error(aws: Aws, first: str) -> None:
    with pytest.raises(ClientError) as caught:
        invoke(aws, b"?")
    answer: Mapping[str, Any] = caught.value.response
    assert answer["Error"]["Code"] == "ModelError"
    assert (
        'Received client error (400) from primary with message "no questions"' in answer["Error"]["Message"]
    )
    assert (answer["OriginalStatusCode"], answer["OriginalMessage"]) == (400, "no questions")


def test_an_endpoint_that_is_not_there_is_a_validation_error(aws: Aws, sm: Any) -> None:
    runtime = aws.client("sagemaker-runtime")
    code, message = refused(runtime.invoke_endpoint, EndpointName="none", Body=b"")
    assert (code, message) == ("ValidationError", "Endpoint none of account 123456789012 not found.")


def test_an_endpoint_whose_container_is_not_well_fails(aws: Aws, sm: Any) -> None:
    name = endpoint(sm, aws.role, "sick", MODEL)
    aws.unwell("sick")
    sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    described = sm.describe_endpoint(EndpointName=name)
    assert described["EndpointStatus"] == "Failed"
    assert "AllTraffic did not pass the ping health check" in described["FailureReason"]
    streams = aws.client("logs").describe_log_streams(logGroupName="/aws/sagemaker/Endpoints/sick")[
        "logStreams"
    ]
    assert streams[0]["logStreamName"].startswith("AllTraffic/i-")


def test_an_update_replaces_the_configuration(aws: Aws, sm: Any, first: str) -> None:
    policy = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
    sm.update_endpoint(
        EndpointName=first, EndpointConfigName=endpoint(sm, aws.role, "second", MODEL),
        DeploymentConfig={"BlueGreenUpdatePolicy": policy},
    )  # fmt: skip
    described = sm.describe_endpoint(EndpointName=first)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "second")
    assert described["LastDeploymentConfig"]["BlueGreenUpdatePolicy"] == policy
    assert invoke(aws, b"hello") == b"HELLO"


def test_an_update_that_is_not_well_is_undone(aws: Aws, sm: Any, first: str) -> None:
    name = endpoint(sm, aws.role, "sick", MODEL)
    aws.unwell("sick")
    sm.update_endpoint(EndpointName=first, EndpointConfigName=name)
    described = sm.describe_endpoint(EndpointName=first)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "first")
    assert "did not pass the ping health check" in described["FailureReason"]
    assert invoke(aws, b"hello") == b"HELLO"


def test_an_alarm_undoes_an_update(aws: Aws, sm: Any, first: str) -> None:
    alarms = aws.client("cloudwatch")
    alarms.put_metric_alarm(
        AlarmName="late", EvaluationPeriods=1, ComparisonOperator="GreaterThanThreshold",
        MetricName="ModelLatency",
        Namespace="AWS/SageMaker", Period=60, Statistic="Average", Threshold=1.0,
    )  # fmt: skip
    alarms.set_alarm_state(AlarmName="late", StateValue="ALARM", StateReason="test")
    sm.update_endpoint(
        EndpointName=first, EndpointConfigName=endpoint(sm, aws.role, "second", MODEL),
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE",
            "WaitIntervalInSeconds": 0}},
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "late"}]},
        },
    )  # fmt: skip
    described = sm.describe_endpoint(EndpointName=first)
    assert described["EndpointConfigName"] == "first"
    assert "late" in described["FailureReason"]


def test_capture_is_written_as_aws_writes_it(aws: Aws, sm: Any) -> None:
    capture = {
        "EnableCapture": True, "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{BUCKET}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/plain"]},
    }  # fmt: skip
    aws.serve(shout)
    name = endpoint(sm, aws.role, "first", MODEL, DataCaptureConfig=capture)
    sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    invoke(aws, b"hello")
    (key,) = keys(aws, "captured/first/AllTraffic/")
    line = json.loads(content(aws, key))
    wanted = {"observedContentType": "text/plain", "mode": "INPUT", "data": "hello", "encoding": "CSV"}
    assert line["captureData"]["endpointInput"] == wanted
    assert line["captureData"]["endpointOutput"]["data"] == "HELLO"


@pytest.mark.parametrize(("body", "place"), [(b"hello", "OutputLocation"), (b"?", "FailureLocation")])
def test_an_asynchronous_answer_lies_where_it_was_said(aws: Aws, sm: Any, body: bytes, place: str) -> None:
    aws.serve(shout)
    output = {"S3OutputPath": f"s3://{BUCKET}/good", "S3FailurePath": f"s3://{BUCKET}/bad"}
    name = endpoint(sm, aws.role, "first", MODEL, AsyncInferenceConfig={"OutputConfig": output})
    sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    aws.client("s3").put_object(Bucket=BUCKET, Key="ask", Body=body)
    runtime = aws.client("sagemaker-runtime")
    answer = runtime.invoke_endpoint_async(EndpointName=name, InputLocation=f"s3://{BUCKET}/ask")
    key = answer[place].removeprefix(f"s3://{BUCKET}/")
    assert keys(aws, key.partition("/")[0] + "/") == [key]
    assert (b"HELLO" if place == "OutputLocation" else b"no questions") in content(aws, key)
    assert refused(runtime.invoke_endpoint, EndpointName=name, Body=b"x")[0] == "ValidationError"


def test_capacity_changes_and_stays_over_an_update_that_asks_for_it(aws: Aws, sm: Any, first: str) -> None:
    wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 3}]
    sm.update_endpoint_weights_and_capacities(EndpointName=first, DesiredWeightsAndCapacities=wanted)
    new = endpoint(sm, aws.role, "second", MODEL)
    sm.update_endpoint(EndpointName=first, EndpointConfigName=new, RetainAllVariantProperties=True)
    assert sm.describe_endpoint(EndpointName=first)["ProductionVariants"][0]["CurrentInstanceCount"] == 3


def test_what_an_endpoint_names_must_be_there(aws: Aws, sm: Any) -> None:
    assert (
        "endpoint configuration" in refused(sm.create_endpoint, EndpointName="a", EndpointConfigName="b")[1]
    )
    container = {"Image": "x", "ModelDataUrl": f"s3://{BUCKET}/none.tar.gz"}
    code, message = refused(
        sm.create_model, ModelName="a", ExecutionRoleArn=aws.role, PrimaryContainer=container
    )
    assert (code, message[:30]) == ("ValidationException", "Could not access model data at")
