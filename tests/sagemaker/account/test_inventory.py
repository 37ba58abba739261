"""What is found, what it costs, and what `ncf sagemaker status` says of it."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import belongings
from aws import Aws
from belongings import BUCKET, put, standing
from hosted.inline import Spec
from ncf.cli.sagemaker import app
from ncf.errors import CloudError
from ncf.sagemaker.account.inventory import Inventory, Resource, name_prefix, project_of, words
from ncf.sagemaker.account.project_resources import everything, gigabytes
from ncf.sagemaker.prices import price
from ncf.sagemaker.session import Session, Settings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def status(*more: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["status", "--bucket", BUCKET, *more])
    return result.exit_code, result.output


def serve(aws: Aws) -> None:
    """From now on endpoints come into service."""
    aws.serve(lambda *_: (200, b"", "application/json"))


def test_an_endpoint_in_service_is_billed_by_instances(aws: Aws) -> None:
    belongings.make_bucket(aws)
    serve(aws)
    belongings.make_endpoint(aws, "ncf", "ncf-one")
    belongings.make_endpoint(aws, "ncf-other", "ncf-other-one")
    (endpoint,) = everything(aws.session(bucket=BUCKET)).of("endpoint")
    each = price("ml.m5.xlarge", "hosting")
    assert each is not None
    assert (endpoint.name, endpoint.status, endpoint.detail) == (
        "ncf-one-endpoint",
        "InService",
        "2 x ml.m5.xlarge",
    )
    assert endpoint.hourly == pytest.approx(2 * each)
    code, said = status()
    assert code == 0
    assert "ncf-one-endpoint" in said
    assert "ncf-other" not in said
    assert f"Total: ${2 * each:.3f} an hour" in said


def test_a_type_without_a_price_is_said_and_not_summed(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    from ncf.sagemaker.account import inventory

    belongings.make_bucket(aws)
    serve(aws)
    belongings.make_endpoint(aws, "ncf", "ncf-one")
    monkeypatch.setattr(inventory, "price", lambda *_: None)
    answer = json.loads(status("--json")[1])
    assert answer["dollars_an_hour"] == 0
    assert answer["without_known_price"] == ["ncf-one-endpoint"]
    assert "Without a known price, and not in the total: ncf-one-endpoint." in status()[1]


def test_a_serverless_endpoint_costs_nothing_an_hour(aws: Aws) -> None:
    belongings.make_bucket(aws)
    serve(aws)
    sagemaker, tag = aws.client("sagemaker"), belongings.tags("ncf")
    model = {"Image": "image", "ModelDataUrl": f"s3://{BUCKET}/elsewhere/model.tar.gz"}
    sagemaker.create_model(ModelName="ncf-m", PrimaryContainer=model, ExecutionRoleArn=aws.role, Tags=tag)
    variant = {
        "VariantName": "v",
        "ModelName": "ncf-m",
        "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 1},
    }
    sagemaker.create_endpoint_config(EndpointConfigName="ncf-c", ProductionVariants=[variant], Tags=tag)
    sagemaker.create_endpoint(EndpointName="ncf-e", EndpointConfigName="ncf-c", Tags=tag)
    aws.wait("Endpoint", "ncf-e")
    (endpoint,) = everything(aws.session(bucket=BUCKET)).of("endpoint")
    assert (endpoint.detail, endpoint.hourly) == ("serverless", 0)


def test_a_running_training_job_is_billed(aws: Aws) -> None:
    belongings.make_bucket(aws)
    running = threading.Event()

    def work(spec: Spec) -> int:
        running.set()
        spec.stop.wait(30)
        return 0

    aws.run(work)
    belongings.make_training(aws, "ncf", "ncf-long")
    assert running.wait(30)
    (job,) = everything(aws.session(bucket=BUCKET)).running
    assert (job.kind, job.detail) == ("training-job", "2 x ml.m5.large")
    assert job.hourly == pytest.approx(2 * (price("ml.m5.large", "training") or 0))
    aws.client("sagemaker").stop_training_job(TrainingJobName="ncf-long")
    aws.wait("TrainingJob", "ncf-long")
    assert everything(aws.session(bucket=BUCKET)).running == []


def test_a_warm_pool_is_billed_though_its_job_is_over(aws: Aws) -> None:
    belongings.make_bucket(aws)
    belongings.make_training(aws, "ncf", "ncf-warm")
    aws.wait("TrainingJob", "ncf-warm")
    aws.records("TrainingJob")[0].set(WarmPoolStatus={"Status": "Available"})
    (pool,) = everything(aws.session(bucket=BUCKET)).running
    assert (pool.status, pool.detail) == ("WarmPool", "2 x ml.m5.large, kept warm")
    assert pool.hourly


def test_storage_is_told_in_bytes_and_dollars_a_month(aws: Aws) -> None:
    belongings.make_bucket(aws)
    put(aws, "ncf/data/train.csv", ours=True)
    answer = json.loads(status("--json")[1])
    (objects,) = answer["stored"]
    assert (objects["name"], objects["bytes"]) == (f"s3://{BUCKET}/ncf/", 4)
    assert answer["dollars_a_month_stored"] == pytest.approx(4e-9 * 0.023, abs=1e-6)


def test_nothing_runs(aws: Aws) -> None:
    code, said = status()
    assert (code, said) == (0, "Nothing of project ncf is running.\n")


def test_looking_changes_nothing(aws: Aws) -> None:
    belongings.make_bucket(aws)
    belongings.make_endpoint(aws, "ncf", "ncf-one")
    before = standing(aws)
    everything(aws.session(bucket=BUCKET))
    assert standing(aws) == before


def test_what_carries_the_tag_is_found_under_any_name(aws: Aws) -> None:
    """Steps of pipelines have names of SageMaker's making."""
    belongings.make_bucket(aws)
    belongings.make_training(aws, "ncf", "pipelines-abc-Train-xyz")
    found = everything(aws.session(bucket=BUCKET)).of("training-job")
    assert [item.name for item in found] == ["pipelines-abc-Train-xyz"]


def test_what_the_tagging_api_does_not_know_yet_is_found_by_name(aws: Aws) -> None:
    belongings.make_bucket(aws)
    belongings.make_training(aws, "ncf", "ncf-train")
    aws.fail("GetResources", "AccessDeniedException", status=403)
    inventory = everything(aws.session(bucket=BUCKET))
    assert [item.name for item in inventory.of("training-job")] == ["ncf-train"]
    assert inventory.unreadable[0].startswith("tags: AWS refused resourcegroupstaggingapi get_resources")


def test_more_than_a_page_is_found(aws: Aws) -> None:
    belongings.make_bucket(aws)
    sagemaker = aws.client("sagemaker")
    for number in range(23):
        sagemaker.create_model_package_group(
            ModelPackageGroupName=f"ncf-{number}", Tags=belongings.tags("ncf")
        )
    assert len(everything(aws.session(bucket=BUCKET)).of("model-package-group")) == 23


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException"])
def test_bad_credentials_end_it(aws: Aws, code: str) -> None:
    aws.fail("*", code, times=float("inf"))
    with pytest.raises(CloudError, match="credentials"):
        everything(aws.session(bucket=BUCKET))


def test_local_mode_has_its_resources_and_no_bill(tmp_path: Path) -> None:
    session = Session(Settings(local=True, home=tmp_path))
    session.client("sagemaker").create_model(
        ModelName="ncf-m",
        ExecutionRoleArn=session.role,
        PrimaryContainer={"Image": "ncf:local"},
        Tags=session.tags(),
    )
    inventory = everything(session)
    assert [(item.kind, item.name) for item in inventory.items] == [("model", "ncf-m")]
    assert inventory.unreadable == []


def test_what_runs_on_this_machine_is_not_billed(tmp_path: Path) -> None:
    """A recipe for AWS names an instance type in local mode, too."""
    from ncf.sagemaker.local.state import Store

    session = Session(Settings(local=True, home=tmp_path))
    request = {
        "TrainingJobName": "ncf-t",
        "AlgorithmSpecification": {"TrainingImage": "ncf:local"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        "Tags": session.tags(),
    }
    Store(tmp_path, session.region).add("TrainingJob", "ncf-t", request, TrainingJobStatus="InProgress")
    (job,) = everything(session).running
    assert (job.name, job.detail, job.hourly) == ("ncf-t", "1 x ml.m5.large", 0)


def test_age_and_kind_choose_and_what_is_needed_stays() -> None:
    old, new = datetime.now(UTC) - timedelta(days=9), datetime.now(UTC)
    inventory = Inventory(
        [
            Resource("endpoint", "young", created=new),
            Resource("model", "old", created=old),
            Resource("objects", "s3://b/p/", created=old),
            Resource("pipeline", "old", created=old),
            Resource("rule", "ageless"),
        ]
    )
    assert [item.kind for item in inventory.chosen().items] == [
        "endpoint",
        "model",
        "objects",
        "pipeline",
        "rule",
    ]
    assert [item.kind for item in inventory.chosen(older_than=7).items] == ["pipeline"]
    assert [item.kind for item in inventory.chosen(["model"]).items] == ["endpoint", "pipeline", "rule"]


@pytest.mark.parametrize(
    ("created", "said"),
    [
        (NOW - timedelta(minutes=5), "5 min"),
        (NOW - timedelta(hours=3, minutes=2), "3 h 2 min"),
        (NOW - timedelta(days=5), "5 days"),
        (None, ""),
    ],
)
def test_since(created: datetime | None, said: str) -> None:
    assert Resource("endpoint", "shop", created=created).age(NOW) == said


@pytest.mark.parametrize(
    ("tags", "project"),
    [
        ([{"Key": "ncf:project", "Value": "shop"}], "shop"),
        ([{"key": "ncf:project", "value": "shop"}], "shop"),
        ({"ncf:project": "shop"}, "shop"),
        ([{"Key": "ncf", "Value": "shop"}], None),
        ({}, None),
    ],
)
def test_tags_have_two_forms(tags: object, project: str | None) -> None:
    assert project_of(tags) == project  # type: ignore[arg-type]


def test_small_things() -> None:
    assert [gigabytes(size) for size in (3, 4_000, 5_600_000, 1_230_000_000)] == [
        "3 bytes",
        "4.0 kB",
        "5.6 MB",
        "1.2 GB",
    ]
    assert name_prefix(Session(Settings(project="my_shop.de"))) == "my-shop-de"
    assert {"endpoint", "objects", "files", "model-package"} <= set(words())
