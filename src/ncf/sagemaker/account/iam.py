"""The smallest IAM policies, made from the calls of ncf (`ncf.sagemaker.account.permissions`).

In: a `ArnContext` (project, account, region, bucket, role). Out: policy documents, as `ncf sagemaker policy`
prints them and docs/iam.md holds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ncf.errors import ConfigError
from ncf.sagemaker.account.permissions import BEYOND, CALLS, EXECUTION, KMS, PIPELINE, SCOPES, VPC, Scope


@dataclass(frozen=True)
class ArnContext:
    """The names in a policy; unknown ones stay words in capitals, to be replaced."""

    project: str = "ncf"
    account: str = "ACCOUNT"
    region: str = "REGION"
    bucket: str = "BUCKET"
    role: str = "ROLE"


_VERSION = "2012-10-17"
_PREFIXES = {"sagemaker-runtime": "sagemaker", "resourcegroupstaggingapi": "tag"}
_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "s3.head_bucket": ("s3:ListBucket",),
    "s3.list_objects_v2": ("s3:ListBucket",),
    "s3.list_object_versions": ("s3:ListBucketVersions",),
    "s3.head_object": ("s3:GetObject", "s3:GetObjectVersion"),
    "s3.download_file": ("s3:GetObject",),
    "s3.upload_file": ("s3:PutObject", "s3:AbortMultipartUpload"),
    "s3.delete_objects": ("s3:DeleteObject", "s3:DeleteObjectVersion"),
    "sts.get_caller_identity": (),  # always allowed
}
"""Operations whose action has another name, or that need several actions."""


def document(
    which: str, names: ArnContext | None = None, *, kms: bool = False, vpc: bool = False
) -> dict[str, Any]:
    """The policy `which`: user, execution or trust; raises `ConfigError` for other names."""
    if which == "trust":
        return _trust()
    more = (*(KMS if kms else ()), *(VPC if vpc and which == "execution" else ()))
    if which == "user":
        statements = [
            *_of_calls(),
            *(_statement(extra.sid, extra.actions, extra.scope) for extra in (*BEYOND, *more)),
        ]
    elif which == "execution":
        permissions = (*EXECUTION, *PIPELINE, *more)
        statements = [_statement(extra.sid, extra.actions, extra.scope) for extra in permissions]
    else:
        raise ConfigError(f"--role takes user, execution or trust, and not {which!r}.")
    policy: dict[str, Any] = _filled({"Version": _VERSION, "Statement": statements}, names or ArnContext())
    return policy


def actions_of(service: str, operation: str) -> tuple[str, ...]:
    """The IAM actions that an operation of a service needs, both by boto3's names."""
    special = _ACTIONS.get(f"{service}.{operation}")
    if special is not None:
        return special
    return (
        f"{_PREFIXES.get(service, service)}:{''.join(part.capitalize() for part in operation.split('_'))}",
    )


def _of_calls() -> list[dict[str, Any]]:
    """A statement for each scope of a service; actions that admit no resource share one statement."""
    actions: dict[tuple[str, str], set[str]] = {}
    for service, scopes in CALLS.items():
        for scope, operations in scopes.items():
            words = _PREFIXES.get(service, service).split("-")
            sid = "Unscoped" if scope == "Anything" else "".join(word.capitalize() for word in words) + scope
            needed = {action for operation in operations for action in actions_of(service, operation)}
            actions.setdefault((sid, scope), set()).update(needed)
    return [_statement(sid, tuple(sorted(needed)), SCOPES[scope]) for (sid, scope), needed in actions.items()]


def _statement(sid: str, actions: tuple[str, ...], scope: Scope) -> dict[str, Any]:
    condition = {"Condition": scope.condition} if scope.condition else {}
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": list(scope.resources),
        **condition,
    }


def _trust() -> dict[str, Any]:
    services = ["sagemaker.amazonaws.com", "scheduler.amazonaws.com"]
    statement = {"Effect": "Allow", "Principal": {"Service": services}, "Action": "sts:AssumeRole"}
    return {"Version": _VERSION, "Statement": [statement]}


def _filled(value: Any, names: ArnContext) -> Any:
    if isinstance(value, str):
        return value.format(**vars(names)) if "{" in value else value
    if isinstance(value, Mapping):
        return {key: _filled(inner, names) for key, inner in value.items()}
    return [_filled(item, names) for item in value]
