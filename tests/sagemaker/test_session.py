"""The session against the double: what is missing or refused is said in one sentence; nothing is asked
twice."""

from pathlib import Path

import pytest

from aws import KEY, SECRET, Aws
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.session import TAG, Session, Settings, from_environment


def test_the_default_bucket_is_made_once(aws: Aws) -> None:
    session = aws.session()
    assert session.bucket == "sagemaker-us-east-1-123456789012"
    assert aws.session().bucket == session.bucket
    assert len(aws.calls("CreateBucket")) == 1


def test_the_default_bucket_of_another_region_lies_there(aws: Aws) -> None:
    bucket = aws.session(region="eu-west-1").bucket
    assert bucket == "sagemaker-eu-west-1-123456789012"
    assert aws.client("s3").get_bucket_location(Bucket=bucket)["LocationConstraint"] == "eu-west-1"


def test_a_bucket_that_was_named_is_never_made(aws: Aws) -> None:
    with pytest.raises(CloudError, match="There is no bucket 'not-there-at-all': check --bucket"):
        _ = aws.session(bucket="not-there-at-all").bucket
    assert aws.calls("CreateBucket") == []


@pytest.mark.parametrize("named", [True, False])
def test_a_bucket_of_another_account_is_not_used(aws: Aws, named: bool) -> None:
    name = "sagemaker-us-east-1-123456789012"
    aws.foreign(name)
    with pytest.raises(CloudError, match="it belongs to another account") as caught:
        _ = aws.session(bucket=name if named else None).bucket
    assert caught.value.code == "403"
    assert aws.calls("CreateBucket") == []


def test_no_credentials(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CloudError, match="No AWS credentials were found: run 'aws configure'") as caught:
        _ = aws.session().account
    assert caught.value.code == "NoCredentials"


def test_half_of_the_credentials(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CloudError, match="No AWS credentials were found"):
        _ = aws.session().account


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException"])
def test_expired_credentials(aws: Aws, code: str) -> None:
    aws.fail("*", code, times=float("inf"), status=403, message="The security token is expired")
    with pytest.raises(CloudError, match="credentials have expired: sign in again") as caught:
        _ = aws.session().account
    assert caught.value.code == code
    assert len(aws.calls()) == 1


def test_a_region_that_the_account_has_not(aws: Aws) -> None:
    with pytest.raises(CloudError, match="does not know these credentials, or not in this region"):
        aws.session(region="me-south-1").client("sagemaker").list_models()


def test_no_region(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(CloudError, match="No AWS region is set: give --region or set AWS_REGION"):
        aws.session().client("sagemaker")


@pytest.mark.parametrize("region", ["eu west 1", "EU_WEST_1", "-"])
def test_a_region_that_is_no_region(aws: Aws, region: str) -> None:
    with pytest.raises(CloudError, match="check --region and AWS_REGION"):
        aws.session(region=region).client("sagemaker")


def test_aws_region_alone_is_enough(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert aws.session().region == "eu-west-1"


def test_a_profile_that_is_not_there(aws: Aws) -> None:
    with pytest.raises(CloudError, match="There is no AWS profile 'none'"):
        _ = aws.session(profile="none").region


def test_a_role_by_name_becomes_its_arn(aws: Aws) -> None:
    assert aws.session(role="ncf-execution").role == aws.role
    assert aws.calls("GetRole")[0].body


def test_a_role_that_is_not_there(aws: Aws) -> None:
    with pytest.raises(CloudError, match="there is no such role: check --role"):
        _ = aws.session(role="none").role


def test_no_role(aws: Aws) -> None:
    with pytest.raises(CloudError, match="No execution role is set: give --role or set NCF_ROLE"):
        _ = aws.session(role=None).role


def test_throttling_is_retried_with_longer_and_longer_pauses(aws: Aws, quick: list[float]) -> None:
    aws.fail("ListModels", "ThrottlingException", times=5)
    assert aws.session().client("sagemaker").list_models()["Models"] == []
    assert len(aws.calls("ListModels")) == 6
    assert len(quick) == 5
    assert all(pause <= 2**number for number, pause in enumerate(quick))


def test_throttling_that_does_not_end_is_said_after_eight_tries(aws: Aws, quick: list[float]) -> None:
    aws.fail("ListModels", "ThrottlingException", times=float("inf"))
    with pytest.raises(CloudError, match="refuses so many requests, even after several tries"):
        aws.session().client("sagemaker").list_models()
    assert len(aws.calls("ListModels")) == 8


def test_a_refusal_is_not_retried(aws: Aws, quick: list[float]) -> None:
    aws.fail("ListModels", "AccessDeniedException", times=float("inf"))
    with pytest.raises(CloudError, match="docs/iam.md has the policy"):
        aws.session().client("sagemaker").list_models()
    assert (len(aws.calls("ListModels")), quick) == (1, [])


def test_nobody_listening_is_said(aws: Aws, monkeypatch: pytest.MonkeyPatch, quick: list[float]) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(CloudError, match="AWS cannot be reached for sagemaker list_models") as caught:
        aws.session().client("sagemaker").list_models()
    assert caught.value.code == "Network"


def test_a_session_does_not_show_its_keys(aws: Aws) -> None:
    session = aws.session()
    session.client("s3").list_buckets()
    for shown in (repr(session), repr(session.settings), str(vars(session))):
        assert KEY not in shown
        assert SECRET not in shown


def test_tags_and_addresses_carry_the_project(aws: Aws) -> None:
    session = aws.session(project="shop", bucket=None, tags={"team": "x"})
    assert {tag["Key"]: tag["Value"] for tag in session.tags(more="y")} == {
        TAG: "shop",
        "team": "x",
        "more": "y",
    }
    assert session.uri("a", "b") == f"s3://{session.bucket}/shop/a/b"


def test_local_mode_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    session = Session(Settings(local=True, home=tmp_path / "home"))
    assert (session.region, session.account) == ("us-east-1", "000000000000")
    assert session.uri("a") == f"file://{tmp_path}/home/storage/a"
    with pytest.raises(ConfigError, match=r"Local mode has no ecr: run this without --local"):
        session.client("ecr")


def test_local_storage_copies(tmp_path: Path) -> None:
    session = Session(Settings(local=True, home=tmp_path / "home"))
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_text("1")
    uri = session.upload(tmp_path / "f", "x")
    assert (session.download(uri, tmp_path / "back") / "a").read_text() == "1"
    with pytest.raises(CloudError, match="There is nothing at"):
        session.download(f"{uri}/none", tmp_path / "other")


def test_options_go_before_variables(tmp_path: Path) -> None:
    variables = {"NCF_PROJECT": "a", "NCF_BUCKET": "b", "NCF_ROLE": "", "NCF_HOME": str(tmp_path)}
    settings = from_environment(True, variables, bucket="c", region=None).settings
    assert (settings.project, settings.bucket, settings.role, settings.home) == ("a", "c", None, tmp_path)
