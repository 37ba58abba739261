"""The OpenAPI document is valid, complete, and the server keeps to it: schemathesis asks whatever it
allows."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from ncf.serving.app import State, create_app
from ncf.serving.openapi import openapi
from ncf.serving.recommender import Recommender
from ncf.serving.schemas import LIMITS

OPERATIONS = [(path, method) for path, methods in openapi(LIMITS)["paths"].items() for method in methods]


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=lambda value: value)
def test_whatever_is_asked_the_answer_is_as_documented(served: Recommender, path: str, method: str) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(State(served)))
    asked = []

    @settings(
        max_examples=50 if path == "/invocations" else 10,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy())
    def ask(case: schemathesis.Case) -> None:
        # An id that the model does not know is valid by the document and refused all the same.
        asked.append(case.call_and_validate(excluded_checks=[positive_data_acceptance]).status_code)

    ask()
    assert all(status < 500 for status in asked)
    assert 200 in asked or path == "/explorer/users/{user}"


def test_all_five_forms_and_all_paths_are_documented() -> None:
    document = openapi(LIMITS)
    forms = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["schema"][
        "oneOf"
    ]
    assert len(forms) == 5
    assert {form["$ref"].split("/")[-1] for form in forms} <= set(document["components"]["schemas"])
    assert {"/ping", "/metrics", "/invocations"} <= set(document["paths"])
    assert "body_bytes 6,291,456" in document["info"]["description"]
