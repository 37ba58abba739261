"""The four functions that AWS's PyTorch inference containers call, each a call to `ncf.serving.api`.

In: the folder of an unpacked model.tar.gz, bodies, content types. Out: bodies as `ncf serve` answers them,
under the same HTTP status. `code/inference.py` in model.tar.gz imports them (`ncf artifact pack --code` puts
it there).

The one decision worth knowing: a caller's mistake passes through the remaining steps as a value, and the last
one writes it. The toolkit would turn an exception into a body with a traceback; this way a caller gets
`{"error": {...}}` and the right status from either server. Without the toolkit's context, `output_fn` raises
the error.

The toolkit passes its context to a function with one parameter more than it needs: hence `context`.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from ncf.serving import api
from ncf.serving.api import ParsedBody, Result
from ncf.serving.recommender import Recommender
from ncf.serving.schemas import ApiError

LOG = logging.getLogger("ncf.sagemaker")
_DEFAULT_ACCEPT = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"


@dataclass(frozen=True)
class Answers:
    """The answers to a call, and the format it came in."""

    format: str
    answers: list[Result | ApiError]


def model_fn(model_dir: str) -> Recommender:
    """Open the artifact in `model_dir`, which may hold `code/` and other files as well."""
    recommender = Recommender.open(Path(model_dir))
    threadpool_limits(1)  # One thread a worker: the server runs as many workers as there are cores.
    return recommender


def input_fn(body: str | bytes, content_type: str | None) -> ParsedBody | ApiError:
    """Parse a request `body` of that content type; the toolkit has decoded JSON and CSV to text."""
    try:
        return api.read(body.encode() if isinstance(body, str) else bytes(body or b""), content_type)
    except ApiError as error:
        return error


def predict_fn(call: ParsedBody | ApiError, recommender: Recommender) -> Answers | ApiError:
    """Answer each request of the call with the recommender that `model_fn` opened."""
    if isinstance(call, ApiError):
        return call
    try:
        return Answers(call.format, api.answer(recommender, call))
    except ApiError as error:
        return error
    except Exception:
        LOG.exception("A request could not be answered.")
        return ApiError(500, "internal", "The server made a mistake; details are in its log.")


def output_fn(answers: Answers | ApiError, accept: str | None, context: Any = None) -> tuple[bytes, str]:
    """The body that `accept` asks for, and its content type; an error sets the status in `context`."""
    try:
        if isinstance(answers, ApiError):
            raise answers
        format = api.answer_format(_accepted(accept, context), answers.format)
        return api.write(answers.answers, format), api.media_type(format)
    except ApiError as error:
        if context is None:
            raise
        context.set_response_status(error.status, error.code)
        return api.write([error], "json"), api.media_type("json")


def _accepted(accept: str | None, context: Any) -> str | None:
    """What the client accepts, or None; where it said nothing, the toolkit claims JSON."""
    if context is None or _DEFAULT_ACCEPT in os.environ:
        return accept
    headers = context.get_all_request_header(0)
    accepted: str | None = headers.get("Accept") or headers.get("accept")
    return accepted
