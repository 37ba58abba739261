"""The one object that knows whether we use hosted SageMaker or local mode; the rest does not ask.

Both answer the same calls: `session.client("sagemaker").create_training_job(**request)` goes to AWS through
boto3, or to containers on this machine through `ncf.sagemaker.local`. URIs are `s3://` or `file://`. Every
call passes `ncf.sagemaker.aws_errors`, so a refusal becomes one sentence, without secrets.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ncf.data.files import storage_errors
from ncf.errors import CloudError, ConfigError, imported
from ncf.sagemaker.aws_errors import Guarded, translated

TAG = "ncf:project"
"""The key of the tag on everything that ncf makes; clean-up touches nothing without it."""
_LOCAL_REGION = "us-east-1"
_ATTEMPTS = 8
_QUICK = 5.0
"""Seconds for an answer in a quick session."""


@dataclass(frozen=True)
class Settings:
    """What a user sets once, by options or variables (`NCF_ROLE`, `NCF_BUCKET`, `AWS_REGION`, …)."""

    local: bool = False
    project: str = "ncf"
    """The tag's value, the first part of names, and the prefix in the bucket."""
    region: str | None = None
    profile: str | None = None
    role: str | None = None
    """Name or ARN of the execution role."""
    bucket: str | None = None
    """By default SageMaker's own, `sagemaker-REGION-ACCOUNT`."""
    kms_key: str | None = None
    """The key that encrypts volumes and results."""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    """Further tags on everything that is made."""
    home: Path = Path(".ncf")
    """Local mode's folder: jobs, endpoints, logs."""
    quick: bool = False
    """One try and a few seconds for each request, for checks such as `ncf doctor`."""


class Session:
    """Clients, names, tags and storage for one project."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._clients: dict[str, Any] = {}

    @property
    def local(self) -> bool:
        """Whether containers run on this machine. Ask only to word a message."""
        return self.settings.local

    @property
    def project(self) -> str:
        return self.settings.project

    @cached_property
    def home(self) -> Path:
        """Local mode's folder, as an absolute path; made when first needed."""
        folder = self.settings.home.resolve()
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def client(self, service: str) -> Any:
        """The client of an AWS service, by boto3's name.

        Local mode has `sagemaker`, `sagemaker-runtime` and `logs`; other names raise `ConfigError` there.
        """
        if service not in self._clients:
            raw = self._local_client(service) if self.local else self._hosted_client(service)
            self._clients[service] = Guarded(raw, service)
        return self._clients[service]

    @property
    def boto(self) -> Any:
        """boto3's session, for calls that the SDK makes itself; None in local mode."""
        return None if self.local else self._boto

    @cached_property
    def region(self) -> str:
        """The region of the settings, or the one that boto3 finds; raises `CloudError` without one."""
        if self.local:
            return self.settings.region or _LOCAL_REGION
        region: str | None = self._boto.region_name
        if region is None:
            raise CloudError("No AWS region is set: give --region or set AWS_REGION, such as eu-west-1.")
        return region

    @cached_property
    def account(self) -> str:
        """The account's number; made up in local mode."""
        return "000000000000" if self.local else str(self.client("sts").get_caller_identity()["Account"])

    @cached_property
    def role(self) -> str:
        """ARN of the execution role; raises `CloudError` where it is not given or does not exist."""
        given = self.settings.role
        if self.local:
            return given or "arn:aws:iam::000000000000:role/local"
        if given is None:
            raise CloudError(
                "No execution role is set: give --role or set NCF_ROLE to the name or ARN of a role that "
                "SageMaker may assume (docs/iam.md has its policy)."
            )
        if given.startswith("arn:"):
            return given
        return str(self.client("iam").get_role(RoleName=given)["Role"]["Arn"])

    @cached_property
    def bucket(self) -> str:
        """The bucket; SageMaker's default one is made if missing. Raises `CloudError` for a foreign one."""
        s3, name = self.client("s3"), self.bucket_name
        try:
            s3.head_bucket(Bucket=name, ExpectedBucketOwner=self.account)
        except CloudError as error:
            if error.code not in ("404", "NoSuchBucket"):
                raise
            if self.settings.bucket:
                sentence = f"There is no bucket {name!r}: check --bucket, or leave it out."
                raise CloudError(sentence, error.code) from None
            where = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
            s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": where} if where else {}))
        return name

    @property
    def bucket_name(self) -> str:
        """The name of the bucket, which need not exist."""
        return self.settings.bucket or f"sagemaker-{self.region}-{self.account}"

    def tags(self, **more: str) -> list[dict[str, str]]:
        """The tags of a new resource: the project's, those of the settings, and `more`."""
        tags = {TAG: self.project, **self.settings.tags, **more}
        return [{"Key": key, "Value": value} for key, value in tags.items()]

    def uri(self, *parts: str) -> str:
        """The URI of something of this project: `s3://BUCKET/PROJECT/PARTS`, or `file://` below `home`."""
        if self.local:
            return f"file://{self.home.joinpath('storage', *parts)}"
        return "/".join((f"s3://{self.bucket}", self.project, *parts))

    def upload(self, path: Path, *parts: str) -> str:
        """Copy the file or folder at `path` to `uri(*parts)`, which is returned; unchanged files are kept."""
        target = self.uri(*parts)
        if self.local:
            _copy(path, _path(target))
        else:
            from ncf.sagemaker import storage

            storage.upload(self.client("s3"), path, target, self.settings.kms_key)
        return target

    def download(self, uri: str, target: Path) -> Path:
        """Copy the file at a URI, or everything below that prefix, to `target`, completely or not at all."""
        if uri.startswith("file://"):
            _copy(_path(uri), target)
        else:
            from ncf.sagemaker import storage

            storage.download(self.client("s3"), uri, target)
        return target

    def regions(self, service: str) -> list[str]:
        """The regions that have a service, according to this boto3."""
        return [
            name
            for partition in self._boto.get_available_partitions()
            for name in self._boto.get_available_regions(service, partition)
        ]

    def credentials(self) -> Any:
        """botocore's credentials, or None; they must never be printed."""
        return self._boto.get_credentials()

    @cached_property
    def _boto(self) -> Any:
        boto3 = imported("sagemaker", "boto3")
        from botocore.exceptions import ProfileNotFound

        try:
            # boto3 itself reads only AWS_DEFAULT_REGION; AWS's other tools and its containers use AWS_REGION.
            region = self.settings.region or os.environ.get("AWS_REGION") or None
            return boto3.Session(profile_name=self.settings.profile, region_name=region)
        except ProfileNotFound:
            profile = self.settings.profile
            sentence = f"There is no AWS profile {profile!r}: see 'aws configure list-profiles'."
            raise CloudError(sentence) from None

    def _hosted_client(self, service: str) -> Any:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        region = self.region
        retries = {"mode": "standard", "total_max_attempts": 1 if self.settings.quick else _ATTEMPTS}
        patience = {"connect_timeout": _QUICK, "read_timeout": _QUICK} if self.settings.quick else {}
        try:
            return self._boto.client(service, region_name=region, config=Config(retries=retries, **patience))
        except (BotoCoreError, ValueError) as error:
            raise translated(error, service) from error

    def _local_client(self, service: str) -> Any:
        from ncf.sagemaker import local

        if service not in local.SERVICES:
            raise ConfigError(f"Local mode has no {service}: run this without --local.")
        return local.local_client(service, self.home, self.region)


def from_environment(local: bool, variables: Mapping[str, str] | None = None, **given: Any) -> Session:
    """A session with the `given` fields of `Settings`; `variables` of the environment replace None."""
    environment = os.environ if variables is None else variables
    values: dict[str, Any] = {}
    for name in ("project", "role", "bucket", "kms_key", "home"):
        if text := environment.get(f"NCF_{name.upper()}"):
            values[name] = text
    values |= {name: value for name, value in given.items() if value is not None}
    if "home" in values:
        values["home"] = Path(values["home"])
    return Session(Settings(local=local, **values))


def _path(uri: str) -> Path:
    return Path(urlparse(uri).path)


def _copy(source: Path, target: Path) -> None:
    if not source.exists():
        raise CloudError(f"There is nothing at {source}.", "404")
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.resolve() != target.resolve():
            shutil.copy(source, target)
