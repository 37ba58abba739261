"""Bytes in, bytes out: each form, each format, each mistake."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.serving.api import answer, answer_format, read, write
from ncf.serving.recommender import Recommender
from ncf.serving.schemas import LIMITS, ApiError, Limits


def ask(recommender: Recommender, request: Any, limits: Limits = LIMITS) -> Any:
    """The answer to one JSON request, there and back through bytes."""
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return json.loads(write(answer(recommender, read(body, "application/json", limits), limits), "json"))


def refused(recommender: Recommender, request: Any, limits: Limits = LIMITS) -> ApiError:
    with pytest.raises(ApiError) as caught:
        ask(recommender, request, limits)
    return caught.value


def test_users(served: Recommender) -> None:
    expected = served.recommend([104, "x"], k=3)
    lists = ask(served, {"users": ["104", "x"], "k": 3})["recommendations"]
    assert [(one["user"], one["source"], one["ignored"]) for one in lists] == [
        (104, "model", []),
        ("x", "popularity", []),
    ]
    assert [item["item"] for item in lists[0]["items"]] == expected[0].items
    assert [item["score"] for item in lists[0]["items"]] == pytest.approx(expected[0].scores, abs=1e-6)


def test_options_reach_the_recommender(served: Recommender) -> None:
    request = {
        "users": [104],
        "k": 2,
        "candidates": [500, 501, 503, 999],
        "exclude": [503],
        "exclude_seen": False,
    }
    expected = served.recommend(104, 2, candidates=[500, 501, 503, 999], exclude=[503], exclude_seen=False)
    one = ask(served, request)["recommendations"][0]
    assert [item["item"] for item in one["items"]] == expected.items
    assert one["ignored"] == [999]
    described = ask(served, request | {"describe": True})["recommendations"][0]["items"]
    assert described[0]["title"] == f"Item {described[0]['item'] - 500}"


def test_a_visitor_and_a_user_with_history(served: Recommender) -> None:
    visitor = ask(served, {"history": [503, "nothing"], "k": 3})["recommendations"][0]
    assert (visitor["user"], visitor["source"], visitor["ignored"]) == (None, "fold_in", ["nothing"])
    known = ask(served, {"users": [104], "history": [501], "k": 3})["recommendations"][0]
    assert (known["user"], known["source"]) == (104, "fold_in")
    assert refused(served, {"users": [104, 105], "history": [501]}).status == 422


def test_the_item_that_was_asked_about_has_its_title_where_titles_are_wanted(served: Recommender) -> None:
    request = {"items": [503], "k": 2, "similar": True}
    (plain,), (described,) = (
        ask(served, request | {"describe": wanted})["recommendations"] for wanted in (False, True)
    )
    assert ("title" in plain, described["title"]) == (False, "Item 3")
    (user,) = ask(served, {"users": [104], "k": 1, "describe": True})["recommendations"]
    assert "title" not in user


def test_similar_pairs_and_a_list_of_one_user(served: Recommender) -> None:
    similar = ask(served, {"items": [503, "504"], "k": 2, "similar": True})["recommendations"]
    assert [one["item"] for one in similar] == [503, 504]
    assert {one["source"] for one in similar} == {"similar"}
    scores = ask(served, {"pairs": [["104", 503], [105, "504"]]})["scores"]
    assert scores == pytest.approx(served.score([104, 105], [503, 504]).tolist(), abs=1e-6)
    best = ask(served, {"user": [104] * 3, "item": [504, 506, 507], "k": 2})["recommendations"][0]
    expected = served.recommend(104, 2, exclude_seen=False, candidates=[504, 506, 507])
    assert [item["item"] for item in best["items"]] == expected.items
    assert ask(served, {"user": 104, "item": [504, 506]})["recommendations"][0]["user"] == 104
    assert ask(served, {"user": [], "item": []}) == {"recommendations": []}


@pytest.mark.parametrize(
    ("request_", "code", "field", "says"),
    [
        ({"users": [104], "k": 0}, "invalid", "k", "k must be at least 1."),
        ({"users": [104], "k": -1}, "invalid", "k", "k must be at least 1."),
        ({"users": [104], "k": "10"}, "invalid", "k", "k must be a whole number."),
        ({"users": [104], "k": 2.5}, "invalid", "k", "k must be a whole number."),
        ({"users": [104], "k": True}, "invalid", "k", "k must be a whole number."),
        ({"users": [104], "k": None}, "invalid", "k", "k must be a whole number."),
        ({"users": 104}, "invalid", "users", "users must be a list."),
        ({"users": "104"}, "invalid", "users", "users must be a list."),
        ({"users": [None]}, "invalid", "users.0", "users.0 must be an id, an integer or a string."),
        ({"users": [104, 1.5]}, "invalid", "users.1", "users.1 must be an id, an integer or a string."),
        ({"users": [True]}, "invalid", "users.0", "users.0 must be an id, an integer or a string."),
        ({"users": [[104]]}, "invalid", "users.0", "users.0 must be an id, an integer or a string."),
        ({"users": [{"id": 104}]}, "invalid", "users.0", "users.0 must be an id, an integer or a string."),
        ({"users": [104], "candidates": 3}, "invalid", "candidates", "candidates must be a list."),
        ({"users": [104], "strict": 1}, "invalid", "strict", "strict must be true or false."),
        ({"users": ["x"], "strict": True}, "unknown_id", None, "does not know user 'x': check the id"),
        ({"users": [104], "top": 3}, "invalid", "top", "'top' is not a field here: this request takes k, "),
        (
            {"users": [104], "items": [503]},
            "invalid",
            "items",
            "users and items are different kinds of request",
        ),
        ({"history": [503], "pairs": [[104, 503]]}, "invalid", "history", "send one request for each."),
        ({"items": [503], "similar": False}, "invalid", "similar", "similar must be true."),
        ({"items": [503]}, "invalid", "similar", "similar is missing: give it."),
        ({"items": [999], "similar": True}, "unknown_id", None, "does not know item 999"),
        ({"pairs": [[1]]}, "invalid", "pairs.0", "pairs.0 must be a pair [user, item]."),
        ({"pairs": [[1, None]]}, "invalid", "pairs.0.1", "pairs.0.1 must be an id"),
        ({"pairs": [[104, 999]]}, "unknown_id", None, "does not know item 999"),
        ({"user": [104, 105], "item": [500, 501]}, "invalid", "user", "user must repeat one user"),
        ({"user": [104], "item": [500, 501]}, "invalid", "user", "equally long, and are 1 and 2"),
        ({"user": None, "item": [500]}, "invalid", "user", "user must be an id"),
        ({}, "unknown_request", None, "none of users, pairs, items, user, history"),
        ({"k": 3}, "unknown_request", None, "see /openapi.json"),
    ],
)
def test_mistakes_are_422(
    served: Recommender, request_: dict[str, Any], code: str, field: str | None, says: str
) -> None:
    error = refused(served, request_)
    assert (error.status, error.code, error.field) == (422, code, field)
    assert says in str(error)
    assert error.document()["error"] == {"code": code, "message": str(error), "field": field}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nope",
        b"[]",
        b"3",
        b'{"users": [NaN]}',
        b'{"users": [104], "k": Infinity}',
        b'{"users": ["\\ud800"]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"users":' * 100_000,
        b'{"users": [1]',
        b"\x00",
    ],
)
def test_what_is_no_json_object_is_400(served: Recommender, body: bytes) -> None:
    error = refused(served, body)
    assert (error.status, error.code) == (400, "invalid_json")
    assert len(str(error)) < 200


@pytest.mark.parametrize(
    ("request_", "limit"),
    [
        ({"users": list(range(11))}, "users"), ({"items": list(range(11)), "similar": True}, "users"),
        ({"users": [1], "candidates": list(range(21))}, "ids"), ({"history": list(range(21))}, "ids"),
        ({"pairs": [[1, 2]] * 21}, "ids"), ({"user": [1] * 21, "item": [1] * 21}, "ids"),
        ({"users": [1, 2, 3], "k": 20}, "answers"), ({"users": ["x" * 2000]}, "body_bytes"),
    ],
)  # fmt: skip
def test_too_much_is_413_and_names_the_limit(
    served: Recommender, request_: dict[str, Any], limit: str
) -> None:
    error = refused(served, request_, Limits(body_bytes=1500, users=10, ids=20, answers=50, lines=3))
    assert (error.status, error.code, error.field) == (413, "too_large", limit)
    assert f"the limit {limit} = " in str(error)


def test_the_default_k_fits_any_catalogue(served: Recommender) -> None:
    assert len(ask(served, {"users": [104]})["recommendations"][0]["items"]) == 10
    assert len(ask(served, {"users": [104], "k": 30})["recommendations"][0]["items"]) == 15


@pytest.mark.parametrize("user", ["", " ", "日本", "a\nb", "0104", "1e2", 2**70, -1, "null"])
def test_any_id_may_be_asked_for(served: Recommender, user: object) -> None:
    one = ask(served, {"users": [user], "k": 2})["recommendations"][0]
    assert (one["user"], one["source"]) == (user, "popularity")


def test_a_line_in_is_a_line_out(served: Recommender) -> None:
    body = b'{"users": [104], "k": 2}\n\n{"users": 3}\r\nnope\n{"pairs": [[104, 503]]}'
    lines = write(answer(served, read(body, "application/jsonlines")), "jsonlines").splitlines()
    first, second, third, fourth = map(json.loads, lines)
    assert first == ask(served, {"users": [104], "k": 2})
    assert second["error"]["message"] == "users must be a list."
    assert third["error"]["code"] == "invalid_json"
    assert list(fourth) == ["scores"]
    with pytest.raises(ApiError, match="the limit lines = 3"):
        read(b"{}\n" * 4, "application/jsonlines", Limits(lines=3))


@pytest.mark.parametrize(("limit", "value"), [("answers", 9), ("lists", 3)])
def test_all_lines_of_a_body_share_its_limits(served: Recommender, limit: str, value: int) -> None:
    """A line that asks for too much is refused in its place, and does not count for those after it."""
    limits = replace(LIMITS, users=3, **{limit: value})
    body = (
        b'{"users": [104, 105], "k": 3}\n{"items": [503, 504], "similar": true, "k": 3}\n'
        b'{"history": [503], "k": 3}'
    )
    lines = answer(served, read(body, "application/jsonlines", limits), limits)
    first, second, third = map(json.loads, write(lines, "jsonlines").splitlines())
    assert (second["error"]["code"], second["error"]["field"]) == ("too_large", limit)
    assert f"the limit {limit} = {value}" in second["error"]["message"]
    assert "recommendations" in first
    assert "recommendations" in third


def test_csv_has_a_user_a_line(served: Recommender) -> None:
    body = 'user_id\r\n104\n"a, b"\n日本\n'.encode("utf-8-sig")
    lines = write(answer(served, read(body, "text/csv")), "csv").decode().splitlines()
    model, popular = served.recommend(104), served.recommend("nobody")
    assert lines[0] == ",".join(map(str, [104, "model", *model.items]))
    assert lines[1] == ",".join(['"a, b"', "popularity", *map(str, popular.items)])
    assert lines[2].startswith("日本,popularity,")
    as_lines = write(answer(served, read(body, "text/csv")), "jsonlines").splitlines()
    assert json.loads(as_lines[0]) == ask(served, {"users": [104]})
    for bad in (b"104,105\n", b"\xff"):
        with pytest.raises(ApiError) as caught:
            read(bad, "text/csv")
        assert (caught.value.status, caught.value.code) == (400, "invalid_csv")
    assert write(answer(served, read(b"", "text/csv")), "csv") == b""


@pytest.mark.parametrize("heading", ["user_id", "userId", "USER", "Account"])
def test_a_heading_of_csv_is_no_user(served: Recommender, heading: str) -> None:
    served.artifact.manifest["data"]["columns"] = {"user": "account"}
    body = f"{heading}\n104\n105\n".encode()
    assert write(answer(served, read(body, "text/csv")), "csv").count(b"\n") == 2


def test_lists_are_no_longer_than_the_catalogue(served: Recommender) -> None:
    found = ask(served, {"users": [104], "k": 1_000, "exclude_seen": False})["recommendations"]
    assert len(found[0]["items"]) == 30


def test_any_answer_can_be_csv(served: Recommender) -> None:
    def cells(request: dict[str, Any]) -> list[str]:
        call = read(json.dumps(request).encode(), None)
        return write(answer(served, call), "csv").decode().strip().split(",")

    assert cells({"pairs": [[104, 503]]}) == [str(ask(served, {"pairs": [[104, 503]]})["scores"][0])]
    assert cells({"items": [503], "similar": True, "k": 2})[:2] == ["503", "similar"]
    assert cells({"history": [503], "k": 2})[:2] == ["", "fold_in"]


@pytest.mark.parametrize(
    ("accept", "asked_in", "expected"),
    [
        (None, "json", "json"),
        ("*/*", "csv", "csv"),
        ("application/json", "csv", "json"),
        ("text/*", "json", "csv"),
        ("text/html, application/jsonlines;q=0.9, */*;q=0.1", "json", "jsonlines"),
        ("text/csv;q=0, */*", "json", "json"),
        ("application/json;charset=utf-8", "csv", "json"),
        ("*/*;q=x, text/csv", "json", "csv"),
    ],
)
def test_accept_chooses_the_format(accept: str | None, asked_in: str, expected: str) -> None:
    assert answer_format(accept, asked_in) == expected


def test_what_cannot_be_answered_or_understood() -> None:
    with pytest.raises(ApiError) as caught:
        answer_format("image/png", "json")
    assert caught.value.status == 406
    with pytest.raises(ApiError) as caught:
        read(b"{}", "application/xml")
    assert (caught.value.status, caught.value.field) == (415, "Content-Type")
    assert "'application/xml' is not supported: send one of application/json," in str(caught.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    [
        "users",
        "user",
        "items",
        "item",
        "pairs",
        "history",
        "k",
        "candidates",
        "exclude",
        "exclude_seen",
        "strict",
        "similar",
        "describe",
    ]
)
ids = st.lists(st.integers(95, 145) | st.integers(495, 535).map(str) | st.text(max_size=3), max_size=4)


def status(call: Callable[[], object]) -> int:
    """200, or the status of the refusal."""
    try:
        call()
    except ApiError as error:
        return error.status
    return 200


@given(st.dictionaries(fields, anything | ids | st.integers(0, 31) | st.booleans(), max_size=5))
def test_every_request_is_answered_or_refused(served: Recommender, request: dict[str, Any]) -> None:
    assert status(lambda: ask(served, request)) in (200, 400, 413, 422)


@given(st.binary(max_size=60), st.sampled_from(["application/json", "application/jsonlines", "text/csv"]))
def test_every_body_is_answered_or_refused(served: Recommender, body: bytes, content_type: str) -> None:
    def there_and_back() -> None:
        call = read(body, content_type)
        assert isinstance(write(answer(served, call), call.format), bytes)

    assert status(there_and_back) in (200, 400, 413, 422)
