"""Ask an endpoint: a request document in, the answer document out, whichever way it went.

| way | calls |
| --- | --- |
| the SDK (default) | `sagemaker.core.resources.Endpoint.get(...).invoke(...)`; in local mode the SDK's local runtime |
| boto3 | `invoke_endpoint` of `sagemaker-runtime` |
| an asynchronous endpoint | upload, `invoke_endpoint_async` (by either), and the object that the answer becomes |

An error of the model (`{"error": {...}}` with a 4xx) is raised as its own sentence, as `ncf recommend` would say it.
Source: InvokeEndpoint and InvokeEndpointAsync, Amazon SageMaker Runtime API Reference.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.aws_errors import missing_extra, redacted, translated
from ncf.sagemaker.endpoints.state import existing
from ncf.sagemaker.session import Session

JSON, LINES = "application/json", "application/jsonlines"
MOST_BYTES = 4 * 2**20
"""Of the lines that are sent at once; SageMaker takes 6 MiB, and an answer may not be longer either."""
MOST_LINES = 200
_ASYNC_SECONDS = 900
_SHORTEST, _LONGEST = 0.5, 10.0


class Endpoint:
    """An endpoint that can be asked."""

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
        found = existing(session, name)
        if found["EndpointStatus"] in ("Creating", "Failed", "Deleting", "OutOfService"):
            raise CloudError(
                f"The endpoint {name} is {found['EndpointStatus']} and cannot answer: "
                f"'ncf sagemaker describe {name}' says more."
            )
        self.asynchronous = "AsyncInferenceConfig" in found

    def ask(self, document: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; raises `ConfigError` with the model's sentence for one that it refuses."""
        answer = _read(self._send(json.dumps(document).encode(), JSON))
        if "error" in answer:
            raise ConfigError(answer["error"]["message"])
        return answer

    def ask_lines(self, lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        """An answer for each line, in order; a line that is refused is answered by its error."""
        for part in _parts(lines):
            answers = self._send(b"".join(line + b"\n" for line in part), LINES).splitlines()
            if len(answers) != len(part):
                raise CloudError(
                    f"The endpoint {self.name} answered {len(answers)} lines to {len(part)}: is it an endpoint of ncf?"
                )
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
            answer = self._through_sdk(
                "invoke",
                body=body,
                content_type=content_type,
                accept=content_type,
                **self._target("target_variant"),
            )
            return bytes(answer.body.read())
        answer = self.session.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=self.name, Body=body, ContentType=content_type, Accept=content_type,
            **self._target("TargetVariant"),
        )  # fmt: skip
        return bytes(answer["Body"].read())

    def _later(self, body: bytes, content_type: str) -> bytes:
        """Through S3; raises `CloudError` with what the model said where it failed."""
        where = self._upload(body)
        if self._sdk is not None:
            made = self._through_sdk(
                "invoke_async", input_location=where, content_type=content_type, accept=content_type
            )
            output, failure = made.output_location, made.failure_location
        else:
            told = self.session.client("sagemaker-runtime").invoke_endpoint_async(
                EndpointName=self.name, InputLocation=where, ContentType=content_type, Accept=content_type
            )
            output, failure = told["OutputLocation"], told.get("FailureLocation")
        return self._wait(output, failure if isinstance(failure, str) else None)

    def _upload(self, body: bytes) -> str:
        name = sha256(body).hexdigest()
        with tempfile.TemporaryDirectory(prefix="ncf-invoke-") as folder:
            path = Path(folder) / name
            path.write_bytes(body)
            return self.session.upload(path, "async", self.name, "requests", name)

    def _wait(self, output: str, failure: str | None) -> bytes:
        wait, left = _SHORTEST, float(_ASYNC_SECONDS)
        while left > 0:
            if (answer := self._object(output)) is not None:
                return answer
            if failure and (said := self._object(failure)) is not None:
                raise CloudError(_sentence(said.decode("utf-8", "replace")), "ModelError")
            self._sleep(wait)
            left, wait = left - wait, min(_LONGEST, wait * 1.5)
        raise CloudError(
            f"The endpoint {self.name} has not answered in {_ASYNC_SECONDS // 60} minutes: the answer will be at {output}.",
            "Timeout",
        )

    def _object(self, uri: str) -> bytes | None:
        from ncf.sagemaker.storage import split

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
        """One call of the SDK's `Endpoint`, whose errors are botocore's."""
        try:
            from sagemaker.core.resources import Endpoint as Resource
        except ImportError:
            raise missing_extra("sagemaker-core") from None
        region = self.session.region
        try:
            endpoint = Resource.get(self.name, session=self._sdk, region=region)
            return getattr(endpoint, verb)(**request, session=self._sdk, region=region)
        except Exception as error:
            raise translated(error, f"sagemaker-runtime {verb}") from error

    def _target(self, name: str) -> dict[str, str]:
        return {} if self._variant is None else {name: self._variant}


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
    """What `ncf recommend` asks, as a request of the wire; titles are asked for."""
    ranked = {"k": k, "describe": True, "exclude": list(exclude)}
    if candidates is not None:
        ranked["candidates"] = list(candidates)
    if similar_to is not None:
        return {"items": [similar_to], "similar": True} | ranked
    if not users:
        return {"history": list(history or ()), "exclude_seen": exclude_seen} | ranked
    known = {"users": list(users), "exclude_seen": exclude_seen, "strict": strict} | ranked
    return known if history is None else known | {"history": list(history)}


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
        raise CloudError("The endpoint's answer is no answer of ncf: does it serve an artifact of ncf?")
    return answer


def _explained(error: CloudError) -> Exception:
    """The model's own sentence, where it was the model that refused."""
    response = getattr(error.__cause__, "response", {})
    said = response.get("OriginalMessage")
    if not said:
        return error
    status, sentence = response.get("OriginalStatusCode", 500), _sentence(said)
    return ConfigError(sentence) if status < 500 else CloudError(sentence, error.code)


def _sentence(said: str) -> str:
    """What is in `{"error": {"message": …}}`, which SageMaker may have put into a sentence of its own; or the text."""
    start = said.find('{"error"')
    try:
        document, _ = json.JSONDecoder().raw_decode(said, max(start, 0))
        return str(document["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"The model failed: {redacted(said.strip())[:500]}"
