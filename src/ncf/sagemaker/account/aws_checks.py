"""What `ncf doctor` asks AWS: who am I, and are the clock, the region, the role and the bucket as they must be.

Keys are never shown: of a key id its ends. What depends on credentials is not asked without them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache, cached_property
from typing import Any

from ncf.errors import CloudError, NcfError
from ncf.sagemaker.account.checks import Check, Finding
from ncf.sagemaker.account.project_resources import bucket as bucket_name
from ncf.sagemaker.session import Session

_SKEW = 120
_SOON = 3600
SERVICE = "sagemaker.amazonaws.com"


def checks(session: Session, only_for: str) -> list[Check]:
    """The looks at AWS. They are taken with one try each, whatever the session's patience is."""
    asked = Session(replace(session.settings, local=False, quick=True))
    account = Account(asked)
    looks = (
        ("AWS region", account.region), ("AWS credentials", account.credentials), ("clock", account.clock),
        ("execution role", account.role), ("bucket", account.bucket),
    )  # fmt: skip
    return [Check(name, look, only_for, 20) for name, look in looks]


class Account:
    """One account as a session sees it."""

    def __init__(self, session: Session) -> None:
        self._given = session
        self._identity = cache(self._ask)

    @cached_property
    def _session(self) -> Session:
        """Without a region the credentials can still be asked, where AWS began."""
        try:
            region = self._given.region
        except CloudError:
            region = "us-east-1"
        return Session(replace(self._given.settings, region=region))

    def region(self) -> Finding:
        """Whether one is set that has SageMaker."""
        name = self._given.region
        if name not in self._given.regions("sagemaker"):
            return Finding(
                "AWS region",
                "warning",
                f"{name} is not among those that have SageMaker",
                "check --region or AWS_REGION",
            )
        return Finding("AWS region", "ok", name)

    def credentials(self) -> Finding:
        """Who the keys belong to, and until when they are good."""
        answer, error = self._identity()
        found = self._session.credentials()
        if error is not None or answer is None:
            said, _, remedy = str(error).partition(": ")
            return Finding(
                "AWS credentials",
                "problem",
                said,
                remedy or "sign in again: 'aws sso login', or renew the keys",
            )
        said = f"{answer['Arn']} (key {masked(found.access_key)}, from {found.method})"
        until = getattr(found, "_expiry_time", None)
        if until is None:
            return Finding("AWS credentials", "ok", said)
        left = (until - datetime.now(UTC)).total_seconds()
        said = f"{said}, good until {until:%Y-%m-%d %H:%M} UTC"
        if left < _SOON:
            return Finding(
                "AWS credentials",
                "warning",
                said,
                "sign in again before a long job: 'aws sso login', or renew the keys",
            )
        return Finding("AWS credentials", "ok", said)

    def clock(self) -> Finding:
        """This machine's time against that of AWS's answer, be it a refusal."""
        answer, error = self._identity()
        source = answer if answer is not None else getattr(getattr(error, "__cause__", None), "response", {})
        date = source.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if date is None:
            return Finding("clock", "not checked", "AWS did not answer")
        off = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
        if abs(off) > _SKEW:
            said = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} AWS"
            return Finding(
                "clock",
                "problem",
                said,
                "set the time ('sudo timedatectl set-ntp true'): AWS refuses after 5 minutes",
            )
        return Finding("clock", "ok", "as AWS's")

    def role(self) -> Finding:
        """Whether the execution role is there and SageMaker may assume it."""
        given = self._session.settings.role
        if given is None:
            remedy = "give --role or set NCF_ROLE to a role that SageMaker may assume (docs/iam.md has its policies)"
            return Finding("execution role", "problem", "none is set", remedy)
        if self._identity()[1] is not None:
            return Finding("execution role", "not checked", "needs credentials")
        try:
            found = self._session.client("iam").get_role(RoleName=given.rpartition("/")[2])["Role"]
        except CloudError as error:
            if error.code == "AccessDenied":
                return Finding(
                    "execution role",
                    "warning",
                    f"{given}: these credentials may not look at it",
                    "allow iam:GetRole (docs/iam.md)",
                )
            return Finding(
                "execution role", "problem", str(error), "check the name, or make the role (docs/iam.md)"
            )
        if not trusts(found.get("AssumeRolePolicyDocument") or {}):
            remedy = f"let {SERVICE} assume it: 'ncf sagemaker policy --role trust' prints the trust policy"
            return Finding(
                "execution role", "problem", f"{found['Arn']}: SageMaker may not assume it", remedy
            )
        return Finding("execution role", "ok", found["Arn"])

    def bucket(self) -> Finding:
        """Whether it is there, ours and in the region."""
        if self._identity()[1] is not None:
            return Finding("bucket", "not checked", "needs credentials")
        name, given = bucket_name(self._session), self._session.settings.bucket
        try:
            answer = self._session.client("s3").head_bucket(
                Bucket=name, ExpectedBucketOwner=self._session.account
            )
        except CloudError as error:
            return _no_bucket(name, given, error)
        where = answer.get("BucketRegion") or self._session.region
        if where != self._session.region:
            remedy = f"give --region {where}, or a bucket in {self._session.region}"
            return Finding(
                "bucket", "problem", f"{name} is in {where}, not in {self._session.region}", remedy
            )
        return Finding("bucket", "ok", name)

    def _ask(self) -> tuple[dict[str, Any] | None, NcfError | None]:
        try:
            return self._session.client("sts").get_caller_identity(), None
        except NcfError as error:
            return None, error


def masked(key: str) -> str:
    """`AKIA…MPLE`."""
    return f"{key[:4]}…{key[-4:]}" if len(key) > 12 else "…"


def trusts(policy: dict[str, Any]) -> bool:
    """Whether a trust policy lets SageMaker assume the role."""
    return any(
        one.get("Effect") == "Allow"
        and SERVICE
        in _listed(
            one.get("Principal", {}).get("Service") if isinstance(one.get("Principal"), dict) else None
        )
        and {"sts:AssumeRole", "sts:*", "*"} & set(_listed(one.get("Action")))
        for one in _listed(policy.get("Statement"))
    )


def _no_bucket(name: str, given: str | None, error: CloudError) -> Finding:
    if error.code in ("404", "NoSuchBucket"):
        if given is None:
            return Finding("bucket", "ok", f"{name} is not there yet; the first upload makes it")
        return Finding(
            "bucket",
            "problem",
            f"there is no bucket {name}",
            f"make it ('aws s3 mb s3://{name}'), or leave --bucket out",
        )
    if error.code in ("403", "AccessDenied"):
        remedy = "take a bucket of this account, or allow s3:ListBucket on it (docs/iam.md)"
        return Finding(
            "bucket",
            "problem",
            f"{name} belongs to another account, or these credentials may not look at it",
            remedy,
        )
    return Finding("bucket", "problem", str(error), "check --bucket and --region")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
