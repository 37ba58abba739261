"""The double answers as AWS's documents say."""

from aws import Aws


def test_a_role_is_there(aws: Aws) -> None:
    assert aws.client("iam").get_role(RoleName="ncf-execution")["Role"]["Arn"] == aws.role
