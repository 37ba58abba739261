"""Images: which one a job takes, and whether it is there."""

import json
from contextlib import suppress
from pathlib import Path

import pytest

from aws import Aws
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.jobs.images import EcrImage, check_pushed, own_image, pytorch_image, repository_uri
from ncf.sagemaker.session import Session, Settings

ACCOUNT = "123456789012"


@pytest.fixture(autouse=True)
def no_image_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCF_IMAGE", raising=False)


def pushed(aws: Aws, tag: str) -> str:
    """An image in the account's ECR."""
    ecr = aws.client("ecr")
    with suppress(ecr.exceptions.RepositoryAlreadyExistsException):
        ecr.create_repository(repositoryName="ncf")
    media = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": media, "config": {}, "layers": []})
    ecr.put_image(repositoryName="ncf", imageManifest=manifest, imageTag=tag, imageManifestMediaType=media)
    return f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/ncf:{tag}"


def test_local_mode_takes_the_image_that_make_builds(tmp_path: Path) -> None:
    assert own_image(Session(Settings(local=True, home=tmp_path))) == "ncf:local"


def test_an_option_wins_over_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(Settings(local=True, home=tmp_path))
    monkeypatch.setenv("NCF_IMAGE", "mine:1")
    assert own_image(session) == "mine:1"
    assert own_image(session, "given:2") == "given:2"


def test_hosted_takes_this_version_of_the_projects_repository(aws: Aws) -> None:
    image = pushed(aws, "0.1.0")
    assert own_image(aws.session()) == image


def test_an_image_that_was_not_pushed_is_found_out_before_the_start(aws: Aws) -> None:
    with pytest.raises(CloudError, match="push-image"):
        own_image(aws.session())
    pushed(aws, "9.9")
    with pytest.raises(CloudError, match=r"There is no image .*ncf:0\.1\.0 in ECR"):
        own_image(aws.session())


def test_a_local_image_cannot_be_pulled_by_hosted_sagemaker(aws: Aws) -> None:
    with pytest.raises(ConfigError, match="not an ECR address"):
        own_image(aws.session(), "ncf:local")


def test_an_image_of_another_region_is_refused(aws: Aws) -> None:
    with pytest.raises(ConfigError, match="is in eu-west-1"):
        check_pushed(aws.session(), f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/ncf:1")


def test_an_image_of_another_account_is_believed(aws: Aws) -> None:
    check_pushed(aws.session(), "999999999999.dkr.ecr.us-east-1.amazonaws.com/ncf:1")
    assert aws.calls("DescribeImages") == []


def test_no_permission_is_not_taken_for_no_image(aws: Aws) -> None:
    aws.fail("DescribeImages", "AccessDeniedException")
    with pytest.raises(CloudError, match="may not do this"):
        own_image(aws.session())


def test_addresses_are_taken_apart() -> None:
    host = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com"
    assert EcrImage.parse(f"{host}/a/b:1") == EcrImage(ACCOUNT, "eu-west-1", "a/b", "1")
    assert EcrImage.parse(f"{host}/a").id == {"imageTag": "latest"}
    assert EcrImage.parse(f"{host}/a@sha256:ab").id == {"imageDigest": "sha256:ab"}
    assert EcrImage.parse("ncf:local") is None


def test_the_repository_is_named_after_the_project(aws: Aws) -> None:
    assert repository_uri(aws.session(project="shop")) == f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/shop"


@pytest.mark.parametrize(
    ("instance", "scope", "image"),
    [
        ("ml.c7i.xlarge", "training", "pytorch-training:2.6.0-cpu-py312"),
        ("ml.g5.xlarge", "training", "pytorch-training:2.6.0-gpu-py312"),
        ("ml.c7i.xlarge", "inference", "pytorch-inference:2.6.0-cpu-py312"),
    ],
)
def test_awss_image_is_what_the_sdk_says(aws: Aws, instance: str, scope: str, image: str) -> None:
    found = pytorch_image(aws.session(region="eu-west-1"), instance, scope)
    assert found == f"763104351884.dkr.ecr.eu-west-1.amazonaws.com/{image}"


def test_a_release_that_aws_has_not(aws: Aws) -> None:
    with pytest.raises(ConfigError, match="give --image"):
        pytorch_image(aws.session(), "ml.c7i.xlarge", version="0.1")
