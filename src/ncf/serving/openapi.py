"""The OpenAPI 3.1 document of the server, made from the models that check requests and type responses."""

from importlib.metadata import version
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from ncf.serving import explorer
from ncf.serving.schemas import Answer, ErrorResponse, Limits, Request

_REF = "#/components/schemas/{model}"
_REQUESTS: tuple[Any, ...] = get_args(Request)
_RESPONSES: dict[str, Any] = {
    "Answer": Answer,
    "ErrorResponse": ErrorResponse,
    "About": explorer.About,
    "ItemMatches": explorer.ItemMatches,
    "UserHistory": explorer.UserHistory,
}
_WHEN = {
    "400": "The body is not JSON or CSV.",
    "404": "There is no such thing.",
    "406": "None of the accepted types can be answered.",
    "408": "The body arrived too slowly.",
    "413": "The request is larger than a limit, which is named.",
    "415": "The content type or encoding is not supported.",
    "422": "The request is not valid, or names an unknown id where that is an error.",
    "503": "The server is busy.",
}


def openapi(limits: Limits, explorer: bool = True) -> dict[str, Any]:
    """The document for a server with these `limits`, with or without the explorer."""
    query = _parameter("query", "query", {"type": "string"})
    limit = _parameter("limit", "query", {"type": "integer", "minimum": 0, "maximum": 999_999})
    user = _parameter("user", "path", {"type": "string", "minLength": 1})
    sizes = ", ".join(f"{name} {value:,}" for name, value in vars(limits).items())
    paths = {
        "/invocations": {"post": _invocations()},
        "/ping": {"get": _get("Whether the server answers.", {"type": "object"}, "503")},
        "/metrics": {"get": _get("Counts in Prometheus' format.", {"type": "string"}, media="text/plain")},
        "/explorer/about": {"get": _get("About the model.", _ref("About"), "503")},
        "/explorer/items": {
            "get": _get("Items by title.", _ref("ItemMatches"), "422", "503", parameters=[query, limit])
        },
        "/explorer/users/{user}": {
            "get": _get("What a user has used.", _ref("UserHistory"), "404", "503", parameters=[user])
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ncf",
            "version": version("ncf"),
            "description": f"Recommendations from an ncf artifact. Limits of one body: {sizes}.",
        },
        "paths": {path: value for path, value in paths.items() if explorer or "explorer" not in path},
        "components": {"schemas": _schemas()},
    }


def _schemas() -> dict[str, Any]:
    """All models by name, and those that they refer to."""
    models: list[tuple[str, Literal["validation", "serialization"], TypeAdapter[Any]]] = [
        *((model.__name__, "validation", TypeAdapter(model)) for model in _REQUESTS),
        *((name, "serialization", TypeAdapter(model)) for name, model in _RESPONSES.items()),
    ]
    by_name, document = TypeAdapter.json_schemas(models, ref_template=_REF)
    schemas = {name: schema for (name, _), schema in by_name.items()}
    # A class stands for itself among the definitions; what stands in `schemas` for it is a reference to that.
    return {**schemas, **document["$defs"]}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": _REF.format(model=name)}


def _invocations() -> dict[str, Any]:
    lines = {"type": "string", "description": "A JSON request a line."}
    text = {"schema": {"type": "string"}}
    return {
        "summary": "Recommend, score, or find similar items.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"oneOf": [_ref(model.__name__) for model in _REQUESTS]}},
                "application/jsonlines": {"schema": lines},
                "text/csv": {"schema": {"type": "string", "description": "A user id a line."}},
            },
        },
        "responses": {
            "200": {
                "description": "The answer.",
                "content": {
                    "application/json": {"schema": _ref("Answer")},
                    "application/jsonlines": text,
                    "text/csv": text,
                },
            },
            **_errors("400", "406", "408", "413", "415", "422", "503"),
        },
    }


def _get(
    summary: str,
    schema: dict[str, Any],
    *errors: str,
    media: str = "application/json",
    parameters: Any = (),
) -> dict[str, Any]:
    answer = {"description": summary, "content": {media: {"schema": schema}}}
    return {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200": answer, **_errors(*errors)},
    }


def _errors(*statuses: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref("ErrorResponse")}}
    return {status: {"description": _WHEN[status], "content": content} for status in statuses}


def _parameter(name: str, location: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": location, "required": location == "path", "schema": schema}
