"""docs/serving.md: each example is sent, and answered in the form that the page shows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from ncf.data import PrepareOptions, prepare_catalog
from ncf.serving.app import State, create_app
from ncf.serving.artifact import write_artifact
from ncf.serving.recommender import Recommender
from ncf.serving.schemas import Limits
from support import experiment, model_of

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
EXAMPLES = re.findall(r"```(\w+) request\n(.*?)```\n```\w+ answer\n(.*?)```", PAGE, re.DOTALL)
TYPES = {"json": "application/json", "jsonlines": "application/jsonlines", "csv": "text/csv"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """ML-100K with an untrained model: ids and titles are real, scores are not."""
    dataset, _ = prepare_catalog("ml-100k", PrepareOptions())
    model = model_of("neumf", len(dataset.users), len(dataset.items), tower=[16, 8])
    folder = tmp_path_factory.mktemp("page") / "artifact"
    write_artifact(folder, model, experiment("neumf"), dataset, {"test": {}}, "")
    with TestClient(create_app(State(Recommender.open(folder)))) as client:
        yield client


def form(value: Any, key: str = "") -> Any:
    """A value without what depends on the training: scores, and which items are listed."""
    if isinstance(value, dict):
        return {name: form(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [form(one, key) for one in value]
    depends = key in ("score", "scores", "title", "year", "genres", "popularity", "item") and key != "ignored"
    return type(value).__name__ if depends else value


@pytest.mark.parametrize(("format", "request_", "shown"), EXAMPLES)
def test_the_example_is_answered_as_shown(client: TestClient, format: str, request_: str, shown: str) -> None:
    response = client.post("/invocations", content=request_, headers={"content-type": TYPES[format]})
    assert response.status_code == 200, response.text
    if format == "csv":
        assert [line.split(",")[:2] for line in response.text.splitlines()] == [
            line.split(",")[:2] for line in shown.splitlines()
        ]
        assert {line.count(",") for line in response.text.splitlines()} == {11}
        return
    lines, expected = response.text.splitlines(), shown.splitlines()
    assert [form(json.loads(line)) for line in lines] == [form(json.loads(line)) for line in expected]


def test_there_is_an_example_of_each_form_and_format() -> None:
    assert {format for format, _, _ in EXAMPLES} == set(TYPES)
    requests = [json.loads(text) for format, text, _ in EXAMPLES if format == "json"]
    assert {next(iter(request)) for request in requests} == {"users", "history", "items", "pairs", "user"}


def test_the_limits_on_the_page_are_the_limits() -> None:
    for name, value in vars(Limits()).items():
        (said,) = re.findall(rf"\| `{name}` \| ([\d,]+)( MiB)?", PAGE)
        assert int(said[0].replace(",", "")) * (2**20 if said[1] else 1) == value


def test_every_metric_is_explained(client: TestClient) -> None:
    types = re.findall(r"^# TYPE (ncf_\w+?)(?:_total|_created)? ", client.get("/metrics").text, re.MULTILINE)
    explained = re.findall(r"`(ncf_\w+?)(?:_total)?[`{]", PAGE)
    assert set(types) == {name for name in explained if not name.endswith("_sum")}
