"""What AWS refuses, as one sentence that says what to do: every client of a `Session` is wrapped in `Guarded`.

The sentence names the call and what AWS said of it. Keys, tokens and signed addresses never appear: AWS's own message
is passed on only after anything that looks like one was taken out.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from ncf.errors import CloudError, ConfigError

_BASE64 = r"[A-Za-z0-9/+=]"
_SECRETS = re.compile(
    rf"""(?:AKIA|ASIA)[A-Z0-9]{{12,}}
    | (?i:secret|token|password|signature)[\w-]*["']?(?:\s+(?:key|is))*\s*[=:]?\s*["']?(?:{_BASE64}{{16,}}|(?<=[=:"'])[^\s"'&,]+)
    | X-Amz-[A-Za-z-]+=[^&\s]+
    | (?<!{_BASE64})(?=[^\s]*[A-Z])(?=[^\s]*[a-z])(?=[^\s]*[0-9]){_BASE64}{{40}}(?!{_BASE64})""",
    re.VERBOSE,
)
"""Key ids; values after a telling word; signed addresses; and anything that has the form of a secret key."""
_REMEDIES = {
    "ExpiredToken": "the AWS credentials have expired: sign in again ('aws sso login', or renew the keys).",
    "ExpiredTokenException": "the AWS credentials have expired: sign in again ('aws sso login', or renew the keys).",
    "RequestExpired": "the AWS credentials have expired, or this machine's clock is wrong.",
    "InvalidClientTokenId": "AWS does not know these credentials: check the profile and the keys.",
    "UnrecognizedClientException": "AWS does not know these credentials, or not in this region: check both.",
    "SignatureDoesNotMatch": "the secret key does not belong to the key id, or this machine's clock is wrong.",
    "AccessDenied": "the credentials may not do this: docs/iam.md has the policy that ncf needs.",
    "AccessDeniedException": "the credentials may not do this: docs/iam.md has the policy that ncf needs.",
    "403": "the credentials may not do this, or it belongs to another account (docs/iam.md).",
    "ResourceLimitExceeded": "a quota of the account is used up: ask for more under Service Quotas, or take another instance type.",
    **dict.fromkeys(
        ("ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown"),
        "AWS is asked too often, even after several tries: try again in a minute.",
    ),
    "NoSuchEntity": "there is no such role: check --role.",
    "NoSuchBucket": "there is no such bucket: check --bucket.",
}


def redacted(text: str) -> str:
    """The text without keys, tokens and signatures."""
    return _SECRETS.sub("…", text)


def missing_extra(package: str, extra: str = "sagemaker") -> ConfigError:
    """For a package that is not installed."""
    return ConfigError(f"This needs {package}, which is not installed: pip install 'ncf[{extra}]'.")


class Guarded:
    """A client whose methods raise `CloudError` instead of botocore's exceptions; everything else is the client's own."""

    def __init__(self, client: Any, service: str) -> None:
        self._client = client
        self._service = service

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not callable(value):
            return value
        if name == "get_paginator":
            return lambda operation: _Pages(value(operation), f"{self._service} {operation}")
        if name == "get_waiter":
            return lambda waiter: Guarded(value(waiter), f"{self._service} {waiter}")
        return _guard(value, f"{self._service} {name}")


class _Pages:
    """A paginator; it asks AWS only while its pages are gone through."""

    def __init__(self, paginator: Any, what: str) -> None:
        self._paginator = paginator
        self._what = what

    def paginate(self, **request: Any) -> Iterator[Any]:
        """Every page."""
        try:
            yield from self._paginator.paginate(**request)
        except Exception as error:
            raise translated(error, self._what) from error


def _guard(call: Callable[..., Any], what: str) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            known = translated(error, what)
            if known is error:
                raise
            raise known from error

    return guarded


def translated(error: Exception, what: str) -> Exception:
    """The `CloudError` for an exception of botocore; any other exception as it is."""
    from botocore import exceptions

    if isinstance(error, exceptions.WaiterError) and "Error" in error.last_response:
        error = exceptions.ClientError(error.last_response, what)
    if isinstance(error, exceptions.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        said = redacted(str(error.response.get("Error", {}).get("Message", "")))
        remedy = _REMEDIES.get(code, f"{said or code}.".replace("..", "."))
        more = f" AWS said: {said}" if code in _REMEDIES and said else ""
        return CloudError(f"AWS refused {what}: {remedy}{more}", code)
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return CloudError(
            "No AWS credentials were found: run 'aws configure' or 'aws sso login', or set AWS_PROFILE; "
            "'--local' needs none.",
            "NoCredentials",
        )
    if isinstance(error, exceptions.InvalidRegionError):
        return CloudError(
            f"{redacted(str(error))} It looks like eu-west-1: check --region and AWS_REGION.", "Region"
        )
    if isinstance(error, exceptions.TokenRetrievalError | exceptions.SSOError):
        return CloudError(
            f"AWS sign-in has expired ({redacted(str(error))}): run 'aws sso login'.", "Expired"
        )
    if isinstance(error, exceptions.ParamValidationError):
        return ConfigError(
            f"{what} cannot be asked like that: {redacted(str(error)).splitlines()[-1].strip()}"
        )
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return CloudError(
            f"AWS cannot be reached for {what} ({redacted(str(error))}): check the network and the region.",
            "Network",
        )
    if isinstance(error, exceptions.BotoCoreError):
        return CloudError(f"{what} failed: {redacted(str(error))}", type(error).__name__)
    return error
