"""The OpenAPI 3.1 document of the server: what can be asked, made from the very models that check it."""

from importlib.metadata import version
from typing import Any, get_args

from pydantic.json_schema import models_json_schema

from ncf.serving.schemas import Limits, Request

_REF = "#/components/schemas/{model}"
_ID = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "field"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "field": {"type": ["string", "null"]},
            },
        }
    },
}
_ITEM = {
    "type": "object",
    "required": ["item", "score"],
    "properties": {"item": _ID, "score": {"type": "number"}},
    "description": "With `describe` also the title and other columns of the item.",
}
_LIST = {
    "type": "object",
    "required": ["source", "items", "ignored"],
    "properties": {
        "user": {"anyOf": [*_ID["anyOf"], {"type": "null"}]},
        "item": _ID,
        "title": {"type": "string", "description": "Of the item that was asked about, with `describe`."},
        "source": {"enum": ["model", "fold_in", "popularity", "similar"]},
        "items": {"type": "array", "items": _ITEM},
        "ignored": {"type": "array", "items": _ID, "description": "Ids of the request that the model does not know."},
    },
}  # fmt: skip
_ANSWER = {
    "oneOf": [
        {
            "type": "object",
            "required": ["recommendations"],
            "properties": {"recommendations": {"type": "array", "items": _LIST}},
        },
        {
            "type": "object",
            "required": ["scores"],
            "properties": {"scores": {"type": "array", "items": {"type": "number"}}},
        },
    ]
}
_WHEN = {
    "400": "The body is not JSON or CSV.",
    "404": "There is no such thing.",
    "406": "None of the accepted types can be answered.",
    "408": "The body came too slowly.",
    "413": "The request is larger than a limit, which is named.",
    "415": "The content type is not understood.",
    "422": "The request is not valid, or names an unknown id where that is an error.",
    "503": "The server is busy.",
}


def openapi(limits: Limits) -> dict[str, Any]:
    """The document for a server with these limits."""
    models = get_args(Request)
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ncf",
            "version": version("ncf"),
            "description": f"Recommendations from an ncf artifact. Limits of one request: {_said(limits)}.",
        },
        "paths": {
            "/invocations": {"post": _invocations([model.__name__ for model in models])},
            "/ping": {"get": _get("Whether the server answers.", "application/json", {"type": "object"}, "503")},
            "/metrics": {"get": _get("Counts in Prometheus' format.", "text/plain", {"type": "string"})},
            "/explorer/about": {"get": _get("About the model.", "application/json", {"type": "object"}, "503")},
            "/explorer/items": {
                "get": _get(
                    "Items by title.", "application/json", {"type": "object"}, "422", "503",
                    parameters=[_parameter("query", "query", {"type": "string"}),
                                _parameter("limit", "query", {"type": "integer", "minimum": 0, "maximum": 999_999})],
                )
            },
            "/explorer/users/{user}": {
                "get": _get(
                    "What a user has used.", "application/json", {"type": "object"}, "404", "503",
                    parameters=[_parameter("user", "path", {"type": "string", "minLength": 1})],
                )
            },
        },
        "components": {"schemas": {**schemas["$defs"], "Answer": _ANSWER, "Error": _ERROR}},
    }  # fmt: skip


def _said(limits: Limits) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in vars(limits).items())


def _invocations(forms: list[str]) -> dict[str, Any]:
    request = {"oneOf": [{"$ref": _REF.format(model=name)} for name in forms]}
    lines = {"type": "string", "description": "A JSON request a line."}
    answer = {
        "application/json": {"schema": {"$ref": _REF.format(model="Answer")}},
        "application/jsonlines": {"schema": {"type": "string"}},
        "text/csv": {"schema": {"type": "string"}},
    }
    return {
        "summary": "Recommend, score, or find similar items.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request},
                "application/jsonlines": {"schema": lines},
                "text/csv": {"schema": {"type": "string", "description": "A user id a line."}},
            },
        },
        "responses": {
            "200": {"description": "The answer.", "content": answer},
            **_errors("400", "406", "408", "413", "415", "422", "503"),
        },
    }


def _get(
    summary: str, media: str, schema: dict[str, Any], *errors: str, parameters: Any = ()
) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200": {"description": summary, "content": {media: {"schema": schema}}}, **_errors(*errors)},
    }  # fmt: skip


def _errors(*statuses: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    return {status: {"description": _WHEN[status], "content": content} for status in statuses}


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}
