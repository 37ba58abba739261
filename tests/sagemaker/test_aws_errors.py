"""What AWS refuses, as a sentence; and no key, token or signature in any of them."""

import re
import string

import pytest
from botocore import exceptions
from hypothesis import given
from hypothesis import strategies as st

from aws import Aws
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.aws_errors import redacted, translated

_LETTERS = string.ascii_uppercase + string.digits
_SECRET = st.text(string.ascii_letters + string.digits + "/+", min_size=40, max_size=40)
_TOKEN = st.text(string.ascii_letters + string.digits + "/+=", min_size=100, max_size=400)
_KEY = st.builds(str.__add__, st.sampled_from(["AKIA", "ASIA"]), st.text(_LETTERS, min_size=16, max_size=16))


def refusal(code: str, message: str) -> exceptions.ClientError:
    return exceptions.ClientError({"Error": {"Code": code, "Message": message}}, "CreateModel")


@given(_KEY, st.text(max_size=20), st.text(max_size=20))
def test_a_key_id_never_appears(key: str, before: str, after: str) -> None:
    said = str(translated(refusal("AccessDenied", f"{before} {key} {after}"), "sagemaker create_model"))
    assert key not in said


@given(
    _SECRET,
    st.sampled_from(
        [
            "aws_secret_access_key = {}",
            '"SecretAccessKey": "{}"',
            "secret={}",
            "AWS_SECRET_ACCESS_KEY={}",
            "the secret key {} is wrong",
            "SecretAccessKey='{}'",
        ]
    ),
)
def test_a_secret_key_never_appears(secret: str, form: str) -> None:
    for code in ("SignatureDoesNotMatch", "Whatever"):
        assert secret not in str(translated(refusal(code, form.format(secret)), "sagemaker create_model"))


@given(
    _TOKEN,
    st.sampled_from(
        [
            "x-amz-security-token:{}",
            "SessionToken={}",
            '"SessionToken": "{}"',
            "https://b.s3.amazonaws.com/k?X-Amz-Security-Token={}&a=1",
        ]
    ),
)
def test_a_token_never_appears(token: str, form: str) -> None:
    assert token not in redacted(form.format(token))


@given(st.text("0123456789abcdef", min_size=64, max_size=64))
def test_a_signature_never_appears(signature: str) -> None:
    header = f"Credential=x/20261124/us-east-1/s3/aws4_request, SignedHeaders=host, Signature={signature}"
    for text in (header, f"https://b/k?X-Amz-Signature={signature}"):
        assert signature not in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws:sagemaker:us-east-1:123456789012:training-job/ncf-ml-1m-neumf-20261124-173012-123",
        "s3://sagemaker-us-east-1-123456789012/ncf/training/ncf-ml-1m-neumf-20261124-173012-123/output/model.tar.gz",
        "Could not find endpoint configuration 'ncf-ml-1m-neumf-20261124-173012-123'.",
        "The security token included in the request is expired",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ExpiredToken", "sign in again"),
        ("AccessDeniedException", r"docs/iam\.md"),
        ("ResourceLimitExceeded", "Service Quotas"),
        ("Throttling", "refuses so many requests"),
        ("RequestLimitExceeded", "refuses so many requests"),
        ("SlowDown", "refuses so many requests"),
    ],
)
def test_a_remedy_is_named_and_aws_is_cited(code: str, said: str) -> None:
    error = translated(refusal(code, "What AWS said."), "sagemaker create_model")
    assert isinstance(error, CloudError)
    assert error.code == code
    assert str(error).startswith("AWS refused sagemaker create_model: ")
    assert "What AWS said." in str(error)
    assert re.search(said, str(error))


def test_a_code_without_remedy_is_aws_own_sentence() -> None:
    error = translated(refusal("ValidationException", "One thing is wrong."), "sagemaker create_model")
    assert str(error) == "AWS refused sagemaker create_model: One thing is wrong."


def test_a_code_without_message_is_named() -> None:
    assert str(translated(refusal("Odd", ""), "x y")) == "AWS refused x y: Odd."


def test_parameters_that_botocore_refuses_are_named(aws: Aws) -> None:
    with pytest.raises(ConfigError, match="sagemaker create_model refuses its parameters: .*ModelName"):
        aws.session().client("sagemaker").create_model()


def test_pages_are_guarded_as_well(aws: Aws) -> None:
    aws.fail("ListModels", "AccessDeniedException", after=1)
    client = aws.session().client("sagemaker")
    for name in ("a", "b"):
        aws.client("sagemaker").create_model(
            ModelName=name, ExecutionRoleArn=aws.role, PrimaryContainer={"Image": "x"}
        )
    pages = client.get_paginator("list_models").paginate(MaxResults=1)
    with pytest.raises(CloudError, match="AWS refused sagemaker list_models"):
        list(pages)


def test_waiters_are_guarded_as_well(aws: Aws) -> None:
    aws.fail("DescribeEndpoint", "AccessDeniedException", times=float("inf"))
    waiter = aws.session().client("sagemaker").get_waiter("endpoint_in_service")
    with pytest.raises(CloudError):
        waiter.wait(EndpointName="x", WaiterConfig={"Delay": 1, "MaxAttempts": 1})


def test_other_mistakes_are_left_as_they_are() -> None:
    mistake = ValueError("ours")
    assert translated(mistake, "x") is mistake
