"""Errors of AWS as one sentence that says what to do: every client of a `Session` is wrapped in `Guarded`.

The sentence names the call and quotes AWS's message. Keys, tokens and signed addresses never appear: anything
that looks like one is removed from the message first.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from ncf.errors import CloudError, ConfigError

_BASE64 = r"[A-Za-z0-9/+=]"
_SECRETS = re.compile(
    rf"""(?:AKIA|ASIA)[A-Z0-9]{{12,}}
    | (?i:secret|token|password|signature)[\w-]*["']?(?:\s+(?:key|is))*\s*[=:]?\s*["']?
      (?:{_BASE64}{{16,}}|(?<=[=:"'])[^\s"'&,]+)
    | X-Amz-[A-Za-z-]+=[^&\s]+
    | (?<!{_BASE64})(?=[^\s]*[A-Z])(?=[^\s]*[a-z])(?=[^\s]*[0-9]){_BASE64}{{40}}(?!{_BASE64})""",
    re.VERBOSE,
)
"""Key ids; values after a word such as `token`; signed addresses; anything in the form of a secret key."""
_SIGN_IN = "the AWS credentials have expired: sign in again ('aws sso login', or renew the keys)."
_FORBIDDEN = "the credentials may not do this: docs/iam.md has the policy that ncf needs."
_REMEDIES = {
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException"), _SIGN_IN),
    "RequestExpired": "the AWS credentials have expired, or this machine's clock is wrong.",
    "InvalidClientTokenId": "AWS does not know these credentials: check the profile and the keys.",
    "UnrecognizedClientException": "AWS does not know these credentials, or not in this region: check both.",
    "SignatureDoesNotMatch": "the secret key is not that of the key id, or this machine's clock is wrong.",
    **dict.fromkeys(("AccessDenied", "AccessDeniedException"), _FORBIDDEN),
    "403": "the credentials may not do this, or it belongs to another account (docs/iam.md).",
    "ResourceLimitExceeded": (
        "a quota of the account is used up: ask for more under Service Quotas, or take another instance type."
    ),
    **dict.fromkeys(
        ("ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown"),
        "AWS refuses so many requests, even after several tries: try again in a minute.",
    ),
    "NoSuchEntity": "there is no such role: check --role.",
    "NoSuchBucket": "there is no such bucket: check --bucket.",
}


def redacted(text: str) -> str:
    """The text without keys, tokens and signed addresses."""
    return _SECRETS.sub("…", text)


class Guarded:
    """A client whose methods raise `CloudError` instead of botocore's exceptions."""

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
    """A paginator whose pages raise `CloudError`."""

    def __init__(self, paginator: Any, what: str) -> None:
        self._paginator = paginator
        self._what = what

    def paginate(self, **request: Any) -> Iterator[Any]:
        """Yield every page; AWS is asked for a page when it is needed."""
        try:
            yield from self._paginator.paginate(**request)
        except Exception as error:
            raise translated(error, self._what) from error


def _guard(call: Callable[..., Any], what: str) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            translation = translated(error, what)
            if translation is error:
                raise
            raise translation from error

    return guarded


def translated(error: Exception, what: str) -> Exception:
    """The `CloudError` for an exception of botocore during the call `what`; other exceptions as they are."""
    from botocore import exceptions

    if isinstance(error, exceptions.WaiterError) and "Error" in error.last_response:
        error = exceptions.ClientError(error.last_response, what)
    if isinstance(error, exceptions.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        message = redacted(str(error.response.get("Error", {}).get("Message", "")))
        remedy = _REMEDIES.get(code, f"{message or code}.".replace("..", "."))
        more = f" AWS said: {message}" if code in _REMEDIES and message else ""
        return CloudError(f"AWS refused {what}: {remedy}{more}", code)
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return CloudError(
            "No AWS credentials were found: run 'aws configure' or 'aws sso login', or set AWS_PROFILE; "
            "'--local' needs none.",
            "NoCredentials",
        )
    if isinstance(error, exceptions.InvalidRegionError):
        sentence = f"{redacted(str(error))} It looks like eu-west-1: check --region and AWS_REGION."
        return CloudError(sentence, "Region")
    if isinstance(error, exceptions.TokenRetrievalError | exceptions.SSOError):
        return CloudError(
            f"AWS sign-in has expired ({redacted(str(error))}): run 'aws sso login'.", "Expired"
        )
    if isinstance(error, exceptions.ParamValidationError):
        return ConfigError(f"{what} refuses its parameters: {redacted(str(error)).splitlines()[-1].strip()}")
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        reason = redacted(str(error))
        sentence = f"AWS cannot be reached for {what} ({reason}): check the network and the region."
        return CloudError(sentence, "Network")
    if isinstance(error, exceptions.BotoCoreError):
        return CloudError(f"{what} failed: {redacted(str(error))}", type(error).__name__)
    return error
