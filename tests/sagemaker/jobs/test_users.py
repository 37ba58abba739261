"""Users of a batch transform: files in, requests out, answers joined."""

import json
from pathlib import Path
from typing import Any

import pytest

from ncf.errors import CloudError
from ncf.sagemaker.jobs import users


def lines_of(folder: Path) -> list[list[dict[str, Any]]]:
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in sorted(folder.iterdir())]


def test_requests_are_cut_into_parts_in_order(tmp_path: Path) -> None:
    users.write_requests(range(1200), tmp_path, 2, 10, True)
    parts = lines_of(tmp_path)
    assert [[len(line["users"]) for line in part] for part in parts] == [[500, 500], [200]]
    assert [user for part in parts for line in part for user in line["users"]] == list(range(1200))
    assert parts[0][0]["k"] == 10
    assert "exclude_seen" not in parts[0][0]


def test_long_lists_make_short_lines(tmp_path: Path) -> None:
    assert users.users_a_line(1000) == 20
    assert users.users_a_line(10**6) == 1
    users.write_requests(["a"], tmp_path, 3, 5, False, ["x"])
    assert lines_of(tmp_path) == [[{"users": ["a"], "k": 5, "exclude_seen": False, "exclude": ["x"]}]]


def answered(folder: Path, *documents: dict[str, Any]) -> Path:
    (folder / "part-0000.jsonl.out").write_text("\n".join(json.dumps(one) for one in documents) + "\n\n")
    return folder


def answer(*ids: Any) -> dict[str, Any]:
    items = [{"item": 5, "score": 1.5}, {"item": 6, "score": 1.0}]
    return {"recommendations": [{"user": id, "source": "model", "items": items} for id in ids]}


def test_answers_are_joined(tmp_path: Path) -> None:
    lists = list(users.read_answers(answered(tmp_path, answer(1, 2), answer(3)), ["1", "2", "3"]))
    assert users.kinds(lists) == ("integer", "integer")
    table = next(users.tables(lists, "integer", "string"))
    assert table["user"].to_list() == [1, 1, 2, 2, 3, 3]
    assert table["rank"].to_list() == [1, 2] * 3
    assert table["item"].to_list() == ["5", "6"] * 3
    assert list(table.schema.values()) == list(users.columns("integer", "string").values())


def test_a_missing_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="no answer for 1 of 3 users"):
        list(users.read_answers(answered(tmp_path, answer(1, 2)), [1, 2, 3]))


def test_answers_to_others_are_told(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="answered for user"):
        list(users.read_answers(answered(tmp_path, answer(1, 9)), [1, 2]))


def test_a_refused_line_is_told(tmp_path: Path) -> None:
    refused = {"error": {"code": "invalid", "message": "k must be at most 30.", "field": "k"}}
    with pytest.raises(CloudError, match="k must be at most 30"):
        list(users.read_answers(answered(tmp_path, refused), [1]))


def test_text_ids_are_kept_as_text(tmp_path: Path) -> None:
    lists = list(users.read_answers(answered(tmp_path, answer(1, "new")), [1, "new"]))
    assert users.kinds(lists) == ("string", "integer")
    assert next(users.tables(lists, "string", "integer"))["user"].to_list() == ["1", "1", "new", "new"]
