"""The checks of `ncf doctor` that ask AWS: region, credentials, clock, execution role, bucket.

Keys are never shown, only the two ends of a key id. What depends on credentials is not checked without them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache, cached_property
from typing import Any

from ncf.errors import CloudError, NcfError
from ncf.sagemaker.account.checks import Check, Finding
from ncf.sagemaker.session import Session

_SKEW = 120
"""Seconds by which this machine's clock may be wrong."""
_SOON = 3600
"""Credentials that expire within so many seconds are worth a warning."""
SERVICE = "sagemaker.amazonaws.com"
_SIGN_IN = "'aws sso login', or renew the keys"
_NO_CREDENTIALS = Finding("not checked", "needs credentials")


def checks(session: Session, only_for: str) -> list[Check]:
    """The checks of AWS, each request tried once and briefly; `only_for` as in `Check`."""
    account = Account(Session(replace(session.settings, local=False, quick=True)))
    looks = (
        ("AWS region", account.region), ("AWS credentials", account.credentials), ("clock", account.clock),
        ("execution role", account.role), ("bucket", account.bucket),
    )  # fmt: skip
    return [Check(name, look, only_for, 20) for name, look in looks]


class Account:
    """One AWS account as a session sees it."""

    def __init__(self, session: Session) -> None:
        self._given = session
        self._identity = cache(self._ask)

    @cached_property
    def _session(self) -> Session:
        """The session, with a region in any case: credentials can be checked without the right one."""
        try:
            region = self._given.region
        except CloudError:
            region = "us-east-1"
        return Session(replace(self._given.settings, region=region))

    def region(self) -> Finding:
        """Check that a region is set and has SageMaker."""
        name = self._given.region
        if name not in self._given.regions("sagemaker"):
            message = f"{name} is not among those that have SageMaker"
            return Finding("warning", message, "check --region or AWS_REGION")
        return Finding("ok", name)

    def credentials(self) -> Finding:
        """Check whose credentials these are and when they expire."""
        identity, error = self._identity()
        keys = self._session.credentials()
        if error is not None or identity is None:
            message, _, remedy = str(error).partition(": ")
            return Finding("problem", message, remedy or f"sign in again: {_SIGN_IN}")
        message = f"{identity['Arn']} (key {masked(keys.access_key)}, from {keys.method})"
        expiry = getattr(keys, "_expiry_time", None)
        if expiry is None:
            return Finding("ok", message)
        message = f"{message}, good until {expiry:%Y-%m-%d %H:%M} UTC"
        if (expiry - datetime.now(UTC)).total_seconds() < _SOON:
            return Finding("warning", message, f"sign in again before a long job: {_SIGN_IN}")
        return Finding("ok", message)

    def clock(self) -> Finding:
        """Compare this machine's time with the date of AWS's answer, which may be a refusal."""
        identity, error = self._identity()
        answer = (
            identity if identity is not None else getattr(getattr(error, "__cause__", None), "response", {})
        )
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if date is None:
            return Finding("not checked", "AWS did not answer")
        seconds = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
        if abs(seconds) > _SKEW:
            message = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} AWS"
            remedy = "set the time ('sudo timedatectl set-ntp true'): AWS refuses after 5 minutes"
            return Finding("problem", message, remedy)
        return Finding("ok", "agrees with AWS's")

    def role(self) -> Finding:
        """Check that the execution role exists and that SageMaker may assume it."""
        name = self._session.settings.role
        if name is None:
            remedy = "give --role or set NCF_ROLE to a role that SageMaker may assume (docs/iam.md)"
            return Finding("problem", "none is set", remedy)
        if self._identity()[1] is not None:
            return _NO_CREDENTIALS
        try:
            role = self._session.client("iam").get_role(RoleName=name.rpartition("/")[2])["Role"]
        except CloudError as error:
            if error.code == "AccessDenied":
                message = f"{name}: these credentials may not look at it"
                return Finding("warning", message, "allow iam:GetRole (docs/iam.md)")
            return Finding("problem", str(error), "check the name, or make the role (docs/iam.md)")
        if not trusts_sagemaker(role.get("AssumeRolePolicyDocument") or {}):
            remedy = f"let {SERVICE} assume it: 'ncf sagemaker policy --role trust' prints the trust policy"
            return Finding("problem", f"{role['Arn']}: SageMaker may not assume it", remedy)
        return Finding("ok", role["Arn"])

    def bucket(self) -> Finding:
        """Check that the bucket exists, belongs to this account and is in the region."""
        if self._identity()[1] is not None:
            return _NO_CREDENTIALS
        name, region = self._session.bucket_name, self._session.region
        try:
            answer = self._session.client("s3").head_bucket(
                Bucket=name, ExpectedBucketOwner=self._session.account
            )
        except CloudError as error:
            return _no_bucket(name, self._session.settings.bucket, error)
        actual = answer.get("BucketRegion") or region
        if actual != region:
            remedy = f"give --region {actual}, or a bucket in {region}"
            return Finding("problem", f"{name} is in {actual}, not in {region}", remedy)
        return Finding("ok", name)

    def _ask(self) -> tuple[dict[str, Any] | None, NcfError | None]:
        try:
            return self._session.client("sts").get_caller_identity(), None
        except NcfError as error:
            return None, error


def masked(key: str) -> str:
    """The two ends of a key id: `AKIA…MPLE`."""
    return f"{key[:4]}…{key[-4:]}" if len(key) > 12 else "…"


def trusts_sagemaker(policy: dict[str, Any]) -> bool:
    """Whether a trust policy lets SageMaker assume the role."""
    for statement in _listed(policy.get("Statement")):
        principal = statement.get("Principal")
        services = _listed(principal.get("Service")) if isinstance(principal, dict) else []
        actions = set(_listed(statement.get("Action")))
        if (
            statement.get("Effect") == "Allow"
            and SERVICE in services
            and actions & {"sts:AssumeRole", "sts:*", "*"}
        ):
            return True
    return False


def _no_bucket(name: str, given: str | None, error: CloudError) -> Finding:
    """The finding for a bucket that could not be asked for; `given` is the one that the user named."""
    if error.code in ("404", "NoSuchBucket"):
        if given is None:
            return Finding("ok", f"{name} is not there yet; the first upload makes it")
        remedy = f"make it ('aws s3 mb s3://{name}'), or leave --bucket out"
        return Finding("problem", f"there is no bucket {name}", remedy)
    if error.code in ("403", "AccessDenied"):
        message = f"{name} belongs to another account, or these credentials may not look at it"
        remedy = "take a bucket of this account, or allow s3:ListBucket on it (docs/iam.md)"
        return Finding("problem", message, remedy)
    return Finding("problem", str(error), "check --bucket and --region")


def _listed(value: Any) -> list[Any]:
    """A value of a policy, which may be a list or a single entry."""
    return value if isinstance(value, list) else [] if value is None else [value]
