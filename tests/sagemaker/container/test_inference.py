"""The four functions, called as the toolkit calls them, answer as our own server does."""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ncf.sagemaker.container.inference import input_fn, model_fn, output_fn, predict_fn
from ncf.serving.app import State, respond
from ncf.serving.recommender import Recommender
from ncf.serving.schemas import ApiError

JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"


class Context:
    """What of TorchServe's context the functions use."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers, self.status = headers, 200

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        assert idx == 0
        return self.headers

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.status = code


def transform(served: Recommender, body: bytes, content_type: str | None, accept: str | None = None) -> Any:
    """What the toolkit does with a request: JSON and CSV decoded, a missing Accept replaced."""
    context = Context({} if accept is None else {"Accept": accept})
    text = body.decode() if content_type in (JSON, CSV) else bytearray(body)
    call = input_fn(text, content_type)
    answer, kind = output_fn(
        predict_fn(call, served), accept if accept not in (None, "*/*") else JSON, context
    )
    return context.status, kind, answer


@pytest.mark.parametrize("accept", [None, "*/*", JSON, CSV, LINES, "image/png"])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"users": [104, "105", "x"], "k": 3}', JSON),
        (b'{"users": [104], "history": [501], "k": 3}', f"{JSON}; charset=utf-8"),
        (b'{"history": [501, 502], "k": 3}', None),
        (b'{"items": [500], "k": 3, "similar": true}', JSON),
        (b'{"pairs": [[104, 500], [105, 501]]}', JSON),
        (b'{"user": [104, 104], "item": [500, 501], "k": 1}', JSON),
        (b'{"users": ["104"], "k": 2}\n{"users": ["105"], "k": 0}\n', LINES),
        (b"user_id\n104\n105\n", CSV),
        (b'{"users": ["x"], "strict": true}', JSON),
        (b'{"users": [104], "k": 31}', JSON),
        (b"no json", JSON),
        (b"", JSON),
        (b"104", "image/png"),
    ],
)
def test_the_answer_is_that_of_our_server(
    served: Recommender, body: bytes, content_type: str | None, accept: str | None
) -> None:
    expected = respond(State(served), body, content_type, accept)
    status, kind, answer = transform(served, body, content_type, accept)
    if (status, expected.status_code) != (422, 406):  # Of two mistakes it may name the other one.
        assert (status, kind, answer) == (expected.status_code, expected.media_type, expected.body)


def test_an_accept_that_was_configured_counts(served: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", JSON)
    assert transform(served, b"104\n", CSV)[1] == JSON


def test_without_a_context_a_mistake_is_raised(served: Recommender) -> None:
    with pytest.raises(ApiError, match="k must be at least 1"):
        output_fn(predict_fn(input_fn('{"users": [104], "k": 0}', JSON), served), JSON)
    body, kind = output_fn(predict_fn(input_fn('{"users": [104], "k": 1}', JSON), served), JSON)
    assert (kind, len(json.loads(body)["recommendations"])) == (JSON, 1)


def test_a_mistake_of_ours_is_a_500_without_a_traceback(
    served: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(Recommender, "recommend", broken)
    status, _, body = transform(served, b'{"users": [104]}', JSON)
    assert (status, json.loads(body)["error"]["code"]) == (500, "internal")
    assert b"secret" not in body


def test_the_model_folder_may_hold_other_things(artifact: Path, tmp_path: Path) -> None:
    for path in artifact.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text("", "utf-8")
    assert len(model_fn(str(tmp_path)).recommend(104, 2)) == 2


def test_the_toolkit_knows_by_the_number_of_parameters_what_to_pass() -> None:
    """It passes its context to a function with one more than these."""
    own = {model_fn: 1, input_fn: 2, predict_fn: 2, output_fn: 2}
    takes_context = {
        function for function, number in own.items() if len(inspect.signature(function).parameters) > number
    }
    assert takes_context == {output_fn}


def test_serving_needs_no_more_than_what_the_container_is_given(artifact: Path) -> None:
    code = f"""
import sys
for name in ("torch", "uvicorn", "starlette", "httptools", "uvloop", "prometheus_client", "typer", "rich",
             "boto3", "sagemaker", "faiss", "scipy"):
    sys.modules[name] = None
from ncf.sagemaker.container.inference import *
recommender = model_fn({str(artifact)!r})
print(output_fn(predict_fn(input_fn('{{"users": [104]}}', "application/json"), recommender), None)[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == JSON
