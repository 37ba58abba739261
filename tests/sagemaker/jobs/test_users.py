"""Users of a batch transform: files in, requests out, answers joined."""

import json
from pathlib import Path
from typing import Any

import pytest

from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.jobs import users


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("u.txt", "42\n7\n\n", ["42", "7"]),
        ("u.csv", "user_id\n42\n7\n", ["42", "7"]),
        ("u.csv", 'name,user_id\n"a, b",42\nc,7\n', ["42", "7"]),
        ("u.csv", "user\nü\n", ["ü"]),
        ("u.jsonl", '{"user_id": 42}\n{"user": "a"}\n\n7\n"b"\n', [42, "a", 7, "b"]),
        ("u.txt", "\ufeff42\r\n7\r\n", ["42", "7"]),
    ],
)
def test_files_of_users(name: str, text: str, ids: list[Any], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert users.read_users(tmp_path / name) == ids


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("u.csv", "", "is empty"),
        ("u.csv", "user_id\n", "is empty"),
        ("u.csv", "1,2\n", "several cells"),
        ("u.jsonl", '{"id": 1}\n', "line 1 has no user_id"),
        ("u.jsonl", "true\n", "line 1 has no user_id"),
        ("u.jsonl", "{\n", "cannot be read"),
        ("u.csv", "user_id,x\n1,2\n,\n3\n", None),
        ("u.csv", "x,user_id\n1\n", "line 2 has no column user_id"),
    ],
)
def test_bad_files_of_users_are_one_sentence(
    name: str, text: str, sentence: str | None, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    if sentence is None:
        assert users.read_users(tmp_path / name) == ["1", "3"]
        return
    with pytest.raises(ConfigError, match=sentence):
        users.read_users(tmp_path / name)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        users.read_users(tmp_path / "nothing")


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
    users.write_requests(["a"], tmp_path, 3, 5, False)
    assert lines_of(tmp_path) == [[{"users": ["a"], "k": 5, "exclude_seen": False}]]


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
