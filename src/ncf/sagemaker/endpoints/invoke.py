"""Invokes an endpoint: a request document in, the answer document out, over any of three ways.

| way | calls |
| --- | --- |
| the SDK (default) | `sagemaker.core.resources.Endpoint.get(...).invoke(...)`; not in local mode |
| boto3 | `invoke_endpoint` of `sagemaker-runtime` |
| an asynchronous endpoint | upload, `invoke_endpoint_async` (by either), then the answer from S3 |

An error of the model (`{"error": {...}}` with a 4xx) is raised with its own sentence, as `ncf recommend`
would. Source: InvokeEndpoint and InvokeEndpointAsync, Amazon SageMaker Runtime API Reference.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ncf.errors import CloudError, ConfigError, imported
from ncf.sagemaker.aws_errors import redacted, translated
from ncf.sagemaker.calls import wait_until
from ncf.sagemaker.endpoints.describe import existing
from ncf.sagemaker.session import Session
from ncf.sagemaker.storage import split

JSON, LINES = "application/json", "application/jsonlines"
MOST_BYTES = 4 * 2**20
"""Bytes of lines that are sent at once; SageMaker takes 6 MiB, and limits answers too."""
MOST_LINES = 200
_ASYNC_SECONDS = 900


class Endpoint:
    """An endpoint that can be invoked.

    `boto3` avoids the SDK; `variant` names a production variant. Raises `CloudError` unless the endpoint can
    answer.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        *,
        boto3: bool = False,
        variant: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.session, self.name, self._boto3, self._sleep = session, name, boto3, sleep
        self._variant = variant
        described = existing(session, name)
        status = described["EndpointStatus"]
        if status in ("Creating", "Failed", "Deleting", "OutOfService"):
            raise CloudError(
                f"The endpoint {name} is {status} and cannot answer: 'ncf sagemaker describe {name}' says "
                "more."
            )
        self.asynchronous = "AsyncInferenceConfig" in described

    def ask(self, document: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; raises `ConfigError` with the model's sentence where it refuses."""
        answer = _read(self._send(json.dumps(document).encode(), JSON))
        if "error" in answer:
            raise ConfigError(answer["error"]["message"])
        return answer

    def ask_lines(self, lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        """Yield an answer for each line, in order; the answer to a refused line is its error."""
        for part in _parts(lines):
            answers = self._send(b"".join(line + b"\n" for line in part), LINES).splitlines()
            if len(answers) != len(part):
                counts = f"{len(answers)} lines to {len(part)}"
                raise CloudError(f"The endpoint {self.name} answered {counts}: is it an endpoint of ncf?")
            yield from map(_read, answers)

    def _send(self, body: bytes, content_type: str) -> bytes:
        try:
            if self.asynchronous:
                return self._later(body, content_type)
            return self._now(body, content_type)
        except CloudError as error:
            raise _explained(error) from error

    def _now(self, body: bytes, content_type: str) -> bytes:
        if self._sdk is not None:
            target = {} if self._variant is None else {"target_variant": self._variant}
            answer = self._through_sdk(
                "invoke", body=body, content_type=content_type, accept=content_type, **target
            )
            return bytes(answer.body.read())
        target = {} if self._variant is None else {"TargetVariant": self._variant}
        answer = self.session.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=self.name, Body=body, ContentType=content_type, Accept=content_type, **target
        )
        return bytes(answer["Body"].read())

    def _later(self, body: bytes, content_type: str) -> bytes:
        """Send a request through S3; raises `CloudError` with the model's sentence where it failed."""
        where = self._upload(body)
        if self._sdk is not None:
            made = self._through_sdk(
                "invoke_async", input_location=where, content_type=content_type, accept=content_type
            )
            output, failure = made.output_location, made.failure_location
        else:
            accepted = self.session.client("sagemaker-runtime").invoke_endpoint_async(
                EndpointName=self.name, InputLocation=where, ContentType=content_type, Accept=content_type
            )
            output, failure = accepted["OutputLocation"], accepted.get("FailureLocation")
        return self._wait(output, failure if isinstance(failure, str) else None)

    def _upload(self, body: bytes) -> str:
        name = sha256(body).hexdigest()
        with tempfile.TemporaryDirectory(prefix="ncf-invoke-") as folder:
            path = Path(folder) / name
            path.write_bytes(body)
            return self.session.upload(path, "async", self.name, "requests", name)

    def _wait(self, output: str, failure: str | None) -> bytes:
        """The object at the URI `output`, once it is there; raises `CloudError` for one at `failure`."""

        def look() -> bytes | None:
            answer = self._object(output)
            if answer is None and failure and (reason := self._object(failure)) is not None:
                raise CloudError(_sentence(reason.decode("utf-8", "replace")), "ModelError")
            return answer

        try:
            answer = wait_until(
                look,
                lambda body: body is not None,
                patience=_ASYNC_SECONDS,
                first=0.5,
                longest=10.0,
                sleep=self._sleep,
            )
        except TimeoutError:
            minutes = _ASYNC_SECONDS // 60
            late = f"has not answered in {minutes} minutes: the answer will be at {output}."
            raise CloudError(f"The endpoint {self.name} {late}", "Timeout") from None
        return answer or b""

    def _object(self, uri: str) -> bytes | None:
        bucket, key = split(uri)
        try:
            return bytes(self.session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
        except CloudError as error:
            if error.code not in ("NoSuchKey", "404"):
                raise
            return None

    @property
    def _sdk(self) -> Any:
        return None if self._boto3 else self.session.boto

    def _through_sdk(self, verb: str, **request: Any) -> Any:
        """One call of the SDK's `Endpoint`, which raises botocore's errors."""
        Resource = imported("sagemaker", "sagemaker.core.resources").Endpoint
        region = self.session.region
        try:
            endpoint = Resource.get(self.name, session=self._sdk, region=region)
            return getattr(endpoint, verb)(**request, session=self._sdk, region=region)
        except Exception as error:
            raise translated(error, f"sagemaker-runtime {verb}") from error


def request_document(
    *,
    users: Sequence[str] = (),
    history: Sequence[str] | None = None,
    similar_to: str | None = None,
    k: int = 10,
    candidates: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    exclude_seen: bool = True,
    strict: bool = False,
) -> dict[str, Any]:
    """A request as `POST /invocations` takes it, with the options of `ncf recommend`; it asks for titles too.

    `users` are known ids; without them `history` is that of a visitor; `similar_to` asks for items like one.
    `k` is the number of items, `candidates` the only ones allowed, `exclude` those that are not;
    `exclude_seen` leaves out what the user has used, `strict` refuses unknown ids.
    """
    ranking = {"k": k, "describe": True, "exclude": list(exclude)}
    if candidates is not None:
        ranking["candidates"] = list(candidates)
    if similar_to is not None:
        return {"items": [similar_to], "similar": True} | ranking
    if not users:
        return {"history": list(history or ()), "exclude_seen": exclude_seen} | ranking
    request = {"users": list(users), "exclude_seen": exclude_seen, "strict": strict} | ranking
    return request if history is None else request | {"history": list(history)}


def _parts(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and (size + len(line) > MOST_BYTES or len(part) >= MOST_LINES):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line) + 1
    if part:
        yield part


def _read(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise CloudError("The endpoint did not answer as ncf does: does it serve an artifact of ncf?")
    return answer


def _explained(error: CloudError) -> Exception:
    """The model's own sentence, where the model refused the request."""
    response = getattr(error.__cause__, "response", {})
    message = response.get("OriginalMessage")
    if not message:
        return error
    status, sentence = response.get("OriginalStatusCode", 500), _sentence(message)
    return ConfigError(sentence) if status < 500 else CloudError(sentence, error.code)


def _sentence(text: str) -> str:
    """The message in `{"error": {"message": …}}`, which SageMaker may have put into a sentence of its own."""
    start = text.find('{"error"')
    try:
        document, _ = json.JSONDecoder().raw_decode(text, max(start, 0))
        return str(document["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"The model failed: {redacted(text.strip())[:500]}"
