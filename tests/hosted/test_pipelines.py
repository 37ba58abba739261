"""Pipelines and the model registry of the double."""

import json
from typing import Any

import pytest

from aws import Aws
from hosted.inline import Spec, canned_run
from jobs import BUCKET, DATA, IMAGE, OUT, processing, refused, training
from ncf.sagemaker.local import pipelines

MODEL = {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
GOOD = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.Judge.PropertyFiles.Found"}, "Path": "a['b'][0]"}}


def definition(role: str, **condition: Any) -> dict[str, Any]:
    """Judge a file that Train's successor writes; register, or fail."""
    train = {
        name: value for name, value in training(role, "x", DATA, OUT).items() if name != "TrainingJobName"
    }
    train["HyperParameters"] = {"epochs": {"Get": "Parameters.Epochs"}}
    train["OutputDataConfig"] = {
        "S3OutputPath": {"Std:Join": {"On": "/", "Values": [OUT, {"Get": "Execution.PipelineExecutionId"}]}}
    }
    judge = {
        name: value
        for name, value in processing(role, "x", DATA, f"{OUT}/judged").items()
        if name != "ProcessingJobName"
    }
    judge["ProcessingInputs"][0]["S3Input"]["S3Uri"] = MODEL
    register = {
        "ModelPackageGroupName": "group", "ModelApprovalStatus": "PendingManualApproval",
        "InferenceSpecification": {
            "Containers": [{"Image": IMAGE, "ModelDataUrl": MODEL}],
            "SupportedContentTypes": ["text/csv"], "SupportedResponseMIMETypes": ["text/csv"],
        },
    }  # fmt: skip
    steps = [
        {"Name": "Judge", "Type": "Processing", "Arguments": judge,
         "PropertyFiles": [{"PropertyFileName": "Found", "OutputName": "data", "FilePath": "found.json"}]},
        {"Name": "Train", "Type": "Training", "Arguments": train},
        {"Name": "Good", "Type": "Condition", "Arguments": {
            "Conditions": [condition or {"Type": "GreaterThan", "LeftValue": GOOD,
            "RightValue": {"Get": "Parameters.Bar"}}],
            "IfSteps": [{"Name": "Register", "Type": "RegisterModel", "Arguments": register}],
            "ElseSteps": [{"Name": "Sorry", "Type": "Fail",
            "Arguments": {"ErrorMessage": {"Std:Join": {"On": " ", "Values": ["It is only", GOOD]}}}}],
        }},
    ]  # fmt: skip
    parameters = [
        {"Name": "Epochs", "Type": "String", "DefaultValue": "2"},
        {"Name": "Bar", "Type": "Float", "DefaultValue": 0.5},
    ]
    return {"Version": "2020-12-01", "Metadata": {}, "Parameters": parameters, "Steps": steps}


def run(spec: Spec) -> int:
    """Judges by a file; trains as canned."""
    if spec.kind == "process":
        assert (spec.root / "processing/input/raw/model.tar.gz").exists()
        (spec.root / "processing/output/data/found.json").write_text(json.dumps({"a": {"b": [0.7]}}))
        return 0
    return canned_run(spec)


def execute(aws: Aws, sm: Any, work: Any = run, **parameters: str) -> dict[str, Any]:
    """Create, start, wait."""
    aws.run(work)
    sm.create_pipeline(
        PipelineName="line", PipelineDefinition=json.dumps(definition(aws.role)), RoleArn=aws.role,
        ClientRequestToken="t" * 32
    )  # fmt: skip
    given = [{"Name": name, "Value": value} for name, value in parameters.items()]
    arn = sm.start_pipeline_execution(PipelineName="line", PipelineParameters=given)["PipelineExecutionArn"]
    return ended(aws, sm, arn)


def ended(aws: Aws, sm: Any, arn: str) -> dict[str, Any]:
    """What is known of an execution at its end."""

    def described() -> dict[str, Any]:
        return dict(sm.describe_pipeline_execution(PipelineExecutionArn=arn))

    aws.until(lambda: described()["PipelineExecutionStatus"] != "Executing")
    return described()


def test_steps_run_in_order_of_need_and_a_good_model_is_registered(aws: Aws, sm: Any) -> None:
    execution = execute(aws, sm, Epochs="9")
    assert execution["PipelineExecutionStatus"] == "Succeeded", execution
    steps = sm.list_pipeline_execution_steps(
        PipelineExecutionArn=execution["PipelineExecutionArn"], SortOrder="Ascending"
    )["PipelineExecutionSteps"]
    assert [one["StepName"] for one in steps] == ["Train", "Judge", "Good", "Register"]
    assert steps[2]["Metadata"]["Condition"]["Outcome"] == "True"
    job = sm.describe_training_job(TrainingJobName=steps[0]["Metadata"]["TrainingJob"]["Arn"].split("/")[1])
    assert job["HyperParameters"] == {"epochs": "9"}
    package = sm.describe_model_package(ModelPackageName=steps[3]["Metadata"]["RegisterModel"]["Arn"])
    assert (package["ModelPackageVersion"], package["ModelApprovalStatus"]) == (1, "PendingManualApproval")
    registered = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    assert registered == job["ModelArtifacts"]["S3ModelArtifacts"]


def test_a_model_that_is_not_good_ends_at_the_fail_step(aws: Aws, sm: Any) -> None:
    execution = execute(aws, sm, Bar="0.9")
    assert (execution["PipelineExecutionStatus"], execution["FailureReason"]) == ("Failed", "It is only 0.7")


def test_a_retry_goes_on_where_it_failed(aws: Aws, sm: Any) -> None:
    broken = [True]

    def judge_fails_once(spec: Spec) -> int:
        return 1 if spec.kind == "process" and broken and broken.pop() else run(spec)

    arn = execute(aws, sm, judge_fails_once)["PipelineExecutionArn"]
    assert sm.describe_pipeline_execution(PipelineExecutionArn=arn)["PipelineExecutionStatus"] == "Failed"
    sm.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken="r" * 32)
    execution = ended(aws, sm, arn)
    assert execution["PipelineExecutionStatus"] == "Succeeded"
    assert "FailureReason" not in execution
    steps = sm.list_pipeline_execution_steps(PipelineExecutionArn=arn, SortOrder="Ascending")
    names = [one["StepName"] for one in steps["PipelineExecutionSteps"]]
    assert names == ["Train", "Judge", "Good", "Register"]
    assert (len(aws.records("TrainingJob")), len(aws.records("ProcessingJob"))) == (1, 2)
    again = {"PipelineExecutionArn": arn, "ClientRequestToken": "s" * 32}
    assert "Failed or Stopped" in refused(sm.retry_pipeline_execution, **again)[1]


def test_a_pipeline_is_updated_listed_and_deleted(aws: Aws, sm: Any) -> None:
    execute(aws, sm)
    sm.update_pipeline(PipelineName="line", PipelineDescription="new")
    assert sm.describe_pipeline(PipelineName="line")["PipelineDescription"] == "new"
    assert [
        one["PipelineName"] for one in sm.list_pipelines(PipelineNamePrefix="li")["PipelineSummaries"]
    ] == ["line"]
    assert len(sm.list_pipeline_executions(PipelineName="line")["PipelineExecutionSummaries"]) == 1
    sm.delete_pipeline(PipelineName="line", ClientRequestToken="t" * 32)
    assert refused(sm.describe_pipeline, PipelineName="line")[0] == "ResourceNotFound"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d | {"Version": "1"}, "Version 1 is not supported"),
        (lambda d: d | {"Steps": [*d["Steps"], d["Steps"][0]]}, "unique"),
        (lambda d: d | {"Parameters": []}, "unable to resolve Parameters.Epochs"),
    ],
)
def test_a_wrong_definition_is_refused(aws: Aws, sm: Any, change: Any, said: str) -> None:
    text = json.dumps(change(definition(aws.role)))
    code, message = refused(sm.create_pipeline, PipelineName="x", PipelineDefinition=text, RoleArn=aws.role,
    ClientRequestToken="t" * 32)  # fmt: skip
    assert code == "ValidationException"
    assert said in message


def test_a_parameter_that_the_definition_has_not_is_refused(aws: Aws, sm: Any) -> None:
    execute(aws, sm)
    given = [{"Name": "None", "Value": "1"}]
    assert (
        "not defined"
        in refused(sm.start_pipeline_execution, PipelineName="line", PipelineParameters=given)[1]
    )


@pytest.mark.parametrize(
    ("condition", "true"),
    [
        ({"Type": "Equals", "LeftValue": 1, "RightValue": 1}, True),
        ({"Type": "LessThanOrEqualTo", "LeftValue": 2, "RightValue": 1}, False),
        ({"Type": "In", "QueryValue": "a", "Values": ["a", "b"]}, True),
        ({"Type": "Not", "Expression": {"Type": "LessThan", "LeftValue": 1, "RightValue": 2}}, False),
        ({"Type": "Or", "Conditions": [{"Type": "Equals", "LeftValue": 1, "RightValue": 2},
        {"Type": "Equals", "LeftValue": 1, "RightValue": 1}]}, True),
        ({"Type": "And", "Conditions": [{"Type": "Equals", "LeftValue": 1, "RightValue": 2},
        {"Type": "Equals", "LeftValue": 1, "RightValue": 1}]}, False),
    ],
)  # fmt: skip
def test_conditions(condition: dict[str, Any], true: bool) -> None:
    assert pipelines.holds(condition, str) is true


def test_versions_are_approved_listed_and_deleted_before_their_group(aws: Aws, sm: Any) -> None:
    sm.create_model_package_group(ModelPackageGroupName="group")
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model/model.tar.gz"}
    for _ in range(2):
        sm.create_model_package(
            ModelPackageGroupName="group",
            InferenceSpecification={"Containers": [container], "SupportedContentTypes": ["text/csv"]},
        )
    first = "arn:aws:sagemaker:us-east-1:123456789012:model-package/group/1"
    sm.update_model_package(ModelPackageArn=first, ModelApprovalStatus="Approved", ApprovalDescription="good")
    listed = sm.list_model_packages(ModelPackageGroupName="group", ModelApprovalStatus="Approved")
    assert [one["ModelPackageArn"] for one in listed["ModelPackageSummaryList"]] == [first]
    assert refused(sm.delete_model_package_group, ModelPackageGroupName="group")[0] == "ConflictException"
    for version in (1, 2):
        sm.delete_model_package(ModelPackageName=first[:-1] + str(version))
    sm.delete_model_package_group(ModelPackageGroupName="group")
    assert aws.records() == []
