"""Pipeline, registry and schedule as commands against the double of AWS, with the steps' real programs as
containers."""

import json
from pathlib import Path
from typing import Any

import pytest

from aws import Aws
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.local import local_client
from ncf.sagemaker.pipelines import registry, schedules
from pipeline_aws import Commands
from pipeline_host import Host, session_on


def test_from_data_to_an_approved_model_and_the_next_one_that_is_not_better(aws: Aws, ncf: Commands) -> None:
    assert ncf.create().startswith("Created the pipeline ncf-pipeline")
    said = ncf.start()
    assert "Better: NDCG@10" in said
    assert "of popularity on 300 rows" in said
    assert "Registered as arn:aws:sagemaker:" in said
    listed = json.loads(ncf("models", "list", "--json"))["models"]
    assert [(one["version"], one["approval"]) for one in listed] == [(1, "PendingManualApproval")]
    assert (
        ncf("models", "approve", "--why", "figures", "--bucket", "mine")
        == "Version 1 of ncf-models: Approved.\n"
    )
    assert ncf.create("--alpha", "0.01").startswith("Changed the pipeline")
    said = ncf.start("-p", "Epochs=4")
    assert "Not registered: no clear difference" in said or "Not registered: the gain" in said
    assert "of small-gmf on 300 rows" in said
    assert "not better" in ncf("pipeline", "status", "--bucket", "mine")
    shown = ncf("models", "show", "1", "--bucket", "mine")
    assert "recipe             small-gmf" in shown
    made = [
        record
        for record in aws.records()
        if record.kind.name in ("Pipeline", "ModelPackageGroup", "ProcessingJob", "TrainingJob")
    ]
    assert len(made) == 9
    for record in made:
        assert record.tags["ncf:project"] == "ncf", record.name
    assert ncf("pipeline", "delete", "--yes") == "Deleted the pipeline ncf-pipeline.\n"


def test_status_tells_each_step_and_why_one_failed(aws: Aws, ncf: Commands) -> None:
    ncf.create()
    with pytest.raises(CloudError, match="The execution failed: .*train.epochs"):
        ncf.start("-p", "Epochs=many")
    found = json.loads(ncf("pipeline", "status", "--json", "--bucket", "mine"))
    assert [(one["name"], one["status"]) for one in found["steps"]] == [
        ("Prepare", "Succeeded"),
        ("Train", "Failed"),
    ]
    assert "train.epochs" in found["steps"][1]["reason"]
    assert found["evaluation"] is None
    assert "Failed" in ncf("pipeline", "list")


def test_show_prints_what_aws_has_and_dry_run_what_it_would_have(aws: Aws, ncf: Commands) -> None:
    address = [*ncf.options[:-1], "s3://mine/x.csv"]
    planned = json.loads(ncf("pipeline", "create", str(ncf.recipe), *address, "--dry-run"))
    assert aws.calls("CreatePipeline") == []
    ncf("pipeline", "create", str(ncf.recipe), *address)
    assert json.loads(ncf("pipeline", "show")) == planned


def test_a_throttled_start_is_tried_again_and_starts_once(aws: Aws, ncf: Commands) -> None:
    ncf.create()
    aws.fail("StartPipelineExecution", "ThrottlingException", times=2)
    ncf("pipeline", "start", "--bucket", "mine")
    tokens = {call.parameters["ClientRequestToken"] for call in aws.calls("StartPipelineExecution")}
    assert len(tokens) == 1
    assert len([one for one in aws.records() if one.kind.name == "PipelineExecution"]) == 1


def test_only_an_approved_version_is_deployed(ncf: Commands) -> None:
    ncf.create()
    ncf.start()
    with pytest.raises(ConfigError, match="Version 1 is not approved"):
        ncf("models", "deploy", "1", "--bucket", "mine")
    with pytest.raises(CloudError, match="has no Approved version"):
        ncf("models", "deploy", "--bucket", "mine")


def test_the_newest_approved_version_is_deployed_after_its_price(aws: Aws, ncf: Commands) -> None:
    ncf.create()
    ncf.start()
    ncf("models", "approve", "--bucket", "mine")
    deploy = ("models", "deploy", "--bucket", "mine", "--role", aws.role, "--instance-count", "2")
    with pytest.raises(ConfigError, match=r"2 x ml\.c7i\.large may cost .* more than --max-cost 1"):
        ncf(*deploy, "--max-cost", "1")
    assert aws.calls("CreateModel") == []
    assert ncf(*deploy, "--endpoint", "ncf-films") == "Version 1 is in service at the endpoint ncf-films.\n"
    assert "Cost: 2 x ml.c7i.large: $" in ncf.said
    package = registry.find(aws.session(), "ncf-models", 1)
    (made,) = aws.calls("CreateModel")
    assert made.parameters["PrimaryContainer"]["ModelDataUrl"] == package.model
    assert made.parameters["PrimaryContainer"]["Image"] == package.image
    sm = aws.client("sagemaker")
    assert sm.describe_endpoint(EndpointName="ncf-films")["EndpointStatus"] == "InService"


def test_a_schedule_is_made_changed_and_taken_away(aws: Aws, ncf: Commands) -> None:
    ncf.create()
    role = "arn:aws:iam::123456789012:role/scheduler"
    said = ncf("pipeline", "schedule", "rate(7 days)", "--scheduler-role", role, "-p", "Epochs=3")
    assert said == "Scheduled ncf-pipeline: rate(7 days), UTC.\n"
    assert "Cost: an execution of 4 jobs" in ncf.said
    said = ncf(
        "pipeline", "schedule", "0 3 ? * MON *", "--scheduler-role", role, "--timezone", "Europe/Berlin"
    )
    assert said.startswith("Changed the schedule")
    scheduler = aws.client("scheduler")
    found = scheduler.get_schedule(Name="ncf-pipeline", GroupName="ncf")
    assert found["ScheduleExpression"] == "cron(0 3 ? * MON *)"
    group = scheduler.get_schedule_group(Name="ncf")["Arn"]
    assert scheduler.list_tags_for_resource(ResourceArn=group)["Tags"] == [
        {"Key": "ncf:project", "Value": "ncf"}
    ]
    assert ncf("pipeline", "schedule", "--remove") == "ncf-pipeline no longer starts by itself.\n"
    with pytest.raises(CloudError, match="has no schedule"):
        ncf("pipeline", "schedule", "--remove")


@pytest.mark.parametrize("text", ["weekly", "rate 7 days", "cron()"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a schedule"):
        schedules.checked_expression(text)


@pytest.fixture
def local(tmp_path: Path) -> Any:
    """A client of local mode, and a model to register."""
    (tmp_path / "m.tar.gz").touch()
    return local_client("sagemaker", tmp_path, "us-east-1")


def add(local: Any, **more: Any) -> str:
    made = {"Containers": [{"Image": "ncf:local", "ModelDataUrl": "file:///m.tar.gz"}]}
    return str(
        local.create_model_package(ModelPackageGroupName="g", InferenceSpecification=made, **more)[
            "ModelPackageArn"
        ]
    )


def test_the_local_registry_answers_as_aws_does(local: Any) -> None:
    local.create_model_package_group(ModelPackageGroupName="g", Tags=[{"Key": "a", "Value": "b"}])
    first, second = add(local), add(local, ModelApprovalStatus="Approved")
    assert second.endswith(":model-package/g/2")
    local.update_model_package(
        ModelPackageArn=first, ModelApprovalStatus="Rejected", ApprovalDescription="no"
    )
    found = local.describe_model_package(ModelPackageName=first)
    assert (found["ModelApprovalStatus"], found["ApprovalDescription"]) == ("Rejected", "no")
    approved = local.list_model_packages(ModelPackageGroupName="g", ModelApprovalStatus="Approved")
    assert [one["ModelPackageVersion"] for one in approved["ModelPackageSummaryList"]] == [2]
    local.delete_model_package(ModelPackageName=second)
    assert add(local).endswith("/3")


@pytest.mark.parametrize(
    ("call", "request_", "said"),
    [
        ("describe_model_package_group", {"ModelPackageGroupName": "x"}, "does not exist"),
        ("create_model_package_group", {"ModelPackageGroupName": "g"}, "already exists"),
        ("delete_model_package_group", {"ModelPackageGroupName": "g"}, "still has model packages"),
        (
            "describe_model_package",
            {"ModelPackageName": "arn:aws:sagemaker:us-east-1:000000000000:model-package/g/9"},
            "does not exist",
        ),
        ("create_model_package", {}, "Either ModelPackageName or"),
    ],
)
def test_the_local_registry_refuses_as_aws_does(
    local: Any, call: str, request_: dict[str, Any], said: str
) -> None:
    from botocore.exceptions import ClientError

    local.create_model_package_group(ModelPackageGroupName="g")
    add(local)
    with pytest.raises(ClientError, match=said):
        getattr(local, call)(**request_)


def test_a_group_without_models_says_so(tmp_path: Path) -> None:
    session = session_on(Host(tmp_path))
    assert registry.ensure_group(session, "ncf-models")
    assert not registry.ensure_group(session, "ncf-models")
    assert registry.sync_champion(session, "ncf-models") is None
    with pytest.raises(CloudError, match="has no Approved version"):
        registry.find(session, "ncf-models", approval="Approved")


@pytest.mark.parametrize(
    ("text", "version"), [(None, None), ("3", 3), ("arn:aws:sagemaker:r:0:model-package/g/7", 7)]
)
def test_a_version_is_a_number_or_an_arn(text: str | None, version: int | None) -> None:
    assert registry.check_version(text) == version


def test_a_version_of_another_form_is_refused() -> None:
    with pytest.raises(ConfigError, match="A version is a number"):
        registry.check_version("newest")
