"""What the explorer page asks: about the model, items by title, what a user has used; and the page's own
files.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from ncf.serving import explorer
from ncf.serving.app import State, create_app
from ncf.serving.recommender import Recommender

TITLES = [
    "Star Wars",
    "Stargate",
    "A Star Is Born",
    "Amélie",
    "L'Été meurtrier",
    "Fargo (director's [cut])",
    None,
    "12",
]


@pytest.fixture
def client(served: Recommender) -> Iterator[TestClient]:
    with TestClient(create_app(State(served))) as client:
        yield client


def with_columns(served: Recommender, **columns: pl.Series | None) -> Recommender:
    """The same model with other columns for display; None takes a column away."""
    items = served.artifact.item_columns
    items = items.drop([name for name, column in columns.items() if column is None])
    items = items.with_columns(**{name: column for name, column in columns.items() if column is not None})
    return Recommender(replace(served.artifact, item_columns=items))


@pytest.fixture
def titled(served: Recommender) -> Recommender:
    """Eight items with titles and years, then items without; the later in TITLES, the more popular."""
    nothing = [None] * (30 - len(TITLES))
    return with_columns(
        served,
        title=pl.Series(TITLES + nothing, dtype=pl.String),
        year=pl.Series([1977, 1994, 1976, 2001, 1983, 1996, None, 1997, *nothing], dtype=pl.Int16),
        popularity=pl.Series(range(30)),
    )


def test_an_id_may_have_any_character(client: TestClient) -> None:
    for user in ("u%0A7", "u%0A", "a%2Fb", "%20", "%3F"):
        assert client.get(f"/explorer/users/{user}").json()["error"]["code"] == "unknown_id"


def test_numbers_that_json_lacks_are_null(served: Recommender) -> None:
    odd = pl.Series([float("nan"), float("inf")] * 15)
    with TestClient(create_app(State(with_columns(served, price=odd)))) as client:
        for response in (
            client.get("/explorer/items"),
            client.get("/explorer/users/104"),
            client.post("/invocations", json={"users": [104], "describe": True}),
        ):
            assert response.status_code == 200
            assert '"price":null' in response.text


def found(recommender: Recommender, query: str, limit: int = 50) -> list[object]:
    """Titles (ids where there is none) that a search finds."""
    return [item.get("title", item["item"]) for item in explorer.search(recommender, query, limit)["items"]]


def test_about_tells_what_the_header_shows(client: TestClient) -> None:
    about = client.get("/explorer/about").json()
    assert (about["name"], about["kind"], about["data"]) == ("small-neumf", "neumf", "made-up")
    assert (about["users"], about["items"]) == (40, 30)
    assert about["metrics"] == {"hr@10": 0.5, "ndcg@10": 0.25}
    assert about["columns"] == ["popularity", "title"]


def test_examples_are_known_users_from_quiet_to_active(served: Recommender) -> None:
    random = np.random.default_rng(0)
    counts = random.permutation(40)
    seen = type(served.artifact.seen)(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), np.zeros(counts.sum(), np.int32)
    )
    examples = explorer.about(Recommender(replace(served.artifact, seen=seen)))["examples"]
    assert [one["history"] for one in examples] == [4, 12, 20, 27, 35]
    assert [one["history"] for one in examples] == [counts[one["user"] - 100] for one in examples]


def test_every_word_counts_and_neither_case_nor_accents_do(titled: Recommender) -> None:
    assert found(titled, "STAR wars") == ["Star Wars"]
    assert found(titled, "wars star") == ["Star Wars"]
    assert found(titled, "amelie") == found(titled, "AMÉLIE") == ["Amélie"]
    assert found(titled, "ete") == ["L'Été meurtrier"]
    assert found(titled, "star 1976") == ["A Star Is Born"]
    assert found(titled, "star nothing") == []


def test_titles_that_begin_with_the_query_come_first_then_the_most_popular(titled: Recommender) -> None:
    assert found(titled, "star") == ["Stargate", "Star Wars", "A Star Is Born"]
    assert found(titled, "star", 2) == ["Stargate", "Star Wars"]
    assert found(titled, "  ", 3) == found(titled, "", 3) == [529, 528, 527]


def test_an_id_finds_its_item_first_and_an_item_without_title_by_its_id(titled: Recommender) -> None:
    assert found(titled, "507") == ["12"]
    assert found(titled, "506") == [506]
    assert found(titled, "52") == [529, 528, 527, 526, 525, 524, 523, 522, 521, 520]


@pytest.mark.parametrize("query", ["(director's [cut])", "[", "fargo (director's"])
def test_a_query_is_text_and_no_pattern(titled: Recommender, query: str) -> None:
    assert found(titled, query) == ["Fargo (director's [cut])"]


@pytest.mark.parametrize("query", ["\\", ".*", "%", "\x00", "star\ud83d", "🎬" * 200, "a" * 10_000])
def test_queries_that_find_nothing(titled: Recommender, query: str) -> None:
    assert explorer.search(titled, query.encode("utf-8", "replace").decode()) == {"items": [], "total": 0}


def test_titles_that_are_no_text(served: Recommender) -> None:
    assert found(with_columns(served, title=pl.Series(range(1000, 1030))), "1007") == [1007]


def test_without_titles_ids_are_searched(served: Recommender) -> None:
    untitled = with_columns(served, title=None)
    answer = explorer.search(untitled, "51")
    assert {item["item"] for item in answer["items"]} == set(range(510, 520))
    assert set(answer["items"][0]) == {"item", "popularity"}


def test_a_column_named_item_does_not_hide_the_id(served: Recommender) -> None:
    both = with_columns(served, item=pl.Series(["x"] * 30))
    assert {item["item"] for item in explorer.search(both, "", 50)["items"]} == set(range(500, 530))


@pytest.mark.parametrize(("limit", "items"), [(-1, 0), (0, 0), (7, 7), (10**6, 30)])
def test_the_limit_of_a_search(served: Recommender, limit: int, items: int) -> None:
    answer = explorer.search(served, "item", limit)
    assert (len(answer["items"]), answer["total"]) == (items, 30)


def test_history_is_what_is_known_the_most_popular_first(served: Recommender) -> None:
    document = explorer.history(served, "104")
    assert document is not None
    popularity = dict(served.artifact.item_columns.select("id", "popularity").iter_rows())
    used = [500 + row for row in served.artifact.seen.row(4).tolist()]
    assert document["user"] == 104
    assert document["total"] == len(used) == 15
    assert [item["item"] for item in document["history"]] == sorted(
        used, key=lambda item: (-popularity[item], item)
    )
    assert document["history"][0]["title"].startswith("Item ")


def test_a_long_history_is_cut(served: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "HISTORY_LIMIT", 4)
    document = explorer.history(served, "104")
    assert document is not None
    assert (len(document["history"]), document["total"]) == (4, 15)


def test_the_history_of_nobody(client: TestClient) -> None:
    response = client.get("/explorer/users/nobody")
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "The model does not know user 'nobody': check the id."


def test_search_over_http(client: TestClient) -> None:
    answer = client.get("/explorer/items", params={"query": "item 7", "limit": "3"}).json()
    assert answer["items"][0]["title"] == "Item 7"
    assert {item["title"] for item in answer["items"]} == {"Item 7", "Item 17", "Item 27"}
    assert answer["total"] == 3
    assert client.get("/explorer/items", params={"limit": "-1"}).status_code == 422


def test_the_page_loads_nothing_but_its_own_files(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.text
    linked = re.findall(r'(?:src|href)="([^"#][^"]*)"', page.text)
    imported = [
        f"explorer/{name}"
        for path in explorer.PAGES.glob("*.js")
        for name in re.findall(r'from "\./([^"]+)"', path.read_text("utf-8"))
    ]
    assert {path.name for path in explorer.PAGES.iterdir()} == {
        address.removeprefix("explorer/")
        for address in [*linked, *imported]
        if address.startswith("explorer/")
    } | {"index.html"}
    for address in {*linked, *imported}:
        assert client.get(f"/{address}").status_code == 200, address


@pytest.mark.parametrize("path", sorted(explorer.PAGES.iterdir()), ids=lambda path: path.name)
def test_no_file_of_the_page_names_another_host_or_inlines_what_the_policy_forbids(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\sstyle=|\son\w+=\"", text
    )
