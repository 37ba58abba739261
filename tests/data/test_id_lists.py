from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from ncf.data.id_lists import Id, ids_of_rows, read_ids
from ncf.errors import DataError


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("u.txt", "42\n7\n\n", [42, 7]),
        ("u", "042\n7\n", ["042", "7"]),
        ("u.csv", "user_id\n42.0\n7\n", [42, 7]),
        ("u.csv", "UserId\n42\n7\n", [42, 7]),
        ("u.csv", "Account\n42\n7\n", [42, 7]),
        ("u.csv", 'name,user_id\n"a, b",42\nc,7\n', [42, 7]),
        ("u.tsv", "user_id:token\tx\nü\t1\n", ["ü"]),
        ("u.jsonl", '{"user_id": 42}\n{"user": "a"}\n\n7\n"b"\n', ["42", "a", "7", "b"]),
        ("u.json", '[{"account": 42.0}, 7]', [42, 7]),
        ("u.txt", "\ufeff42\r\n7\r\n", [42, 7]),
        ("u.txt", f"{2**64}\n", [str(2**64)]),
        ("u.csv", "user_id,x\n1,2\n,\n3\n", [1, 3]),
    ],
)
def test_files_of_users(name: str, text: str, ids: list[Id], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_ids(tmp_path / name, "user", "account") == ids


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "u.parquet"
    pl.DataFrame({"x": [0.5, 1.5], "User_Id": [2, 1]}).write_parquet(path)
    assert read_ids(path) == [2, 1]
    pl.DataFrame({"x": [0.5], "y": [1]}).write_parquet(path)
    with pytest.raises(DataError, match=r"has no column user_id with ids: name one so; its columns are x, y"):
        read_ids(path)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("u.csv", "", "is empty"),
        ("u.csv", "user_id\n", "is empty"),
        ("u.csv", "1,2\n", "line 1 has 2 cells and there is no heading user_id"),
        ("u.csv", "user_id,x\n1,2\n,3\n", "line 3 has no user_id"),
        ("u.jsonl", '{"id": 1}\n', "line 1 has no user_id"),
        ("u.jsonl", "true\n", "line 1 has no user_id"),
        ("u.jsonl", "{\n", "cannot be read"),
        ("u.csv", "1\n\xff\n", "is not UTF-8 in line 2: it is probably latin-1"),
    ],
)
def test_bad_files_of_users_are_one_sentence(name: str, text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=sentence):
        read_ids(tmp_path / name)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file .*nothing: check the path"):
        read_ids(tmp_path / "nothing")


def test_rows_of_a_body() -> None:
    assert ids_of_rows([["x", "item_id"], ["1", " a "], [], ["2", "b"]], "item") == ["a", "b"]
    with pytest.raises(ValueError, match="line 3 has no column item_id"):
        ids_of_rows([["x", "item_id"], ["1", "a"], ["2"]], "item")
