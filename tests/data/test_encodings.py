from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ncf.data.columns import ColumnNames
from ncf.data.encodings import likely_encoding
from ncf.data.formats import source
from ncf.data.readers import read_columns
from ncf.data.scanning import scan
from ncf.errors import ConfigError, DataError

TEXTS = {"utf-16": "나무", "cp949": "나무 위의 집", "latin-1": "Café Zürich", "utf-8": "나무 é"}


@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv"])
def test_each_encoding(tmp_path: Path, encoding: str, name: str) -> None:
    mark = "\t" if name.endswith("tsv") else ","
    content = f"user{mark}item\n1{mark}{TEXTS[encoding]}\n".encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert scan(source(path, encoding=encoding)).collect()["item"].to_list() == [TEXTS[encoding]]
    if encoding != "utf-8":
        with pytest.raises(
            DataError, match=rf"is not UTF-8.*probably {encoding}, so give --encoding {encoding}"
        ):
            read_columns(source(path), ColumnNames())


def test_utf_16_without_a_mark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("user,item\n1,2\n".encode("utf-16-le"))
    with pytest.raises(DataError, match="it is probably utf-16, so give --encoding utf-16"):
        read_columns(source(tmp_path / "a.csv"), ColumnNames())


def test_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"user": 1, "item": "é"}\n'.encode("latin-1"))
    assert scan(source(tmp_path / "a.jsonl", encoding="latin-1")).collect().rows() == [("1", "é")]
    with pytest.raises(DataError, match=r"is not UTF-8 in line 1: it is probably latin-1"):
        read_columns(source(tmp_path / "a.jsonl"), ColumnNames())


def test_movielens_files_are_latin_1_where_they_are_not_utf_8(tmp_path: Path) -> None:
    for name, encoding in (("a.dat", "latin-1"), ("b.dat", "utf-8")):
        (tmp_path / name).write_bytes("1::é\n".encode(encoding))
    assert scan(source(tmp_path)).collect()["item"].to_list() == ["é", "é"]


def test_another_encoding_than_the_given_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"user,item\n1,2\n1,\xff\xff\n")
    with pytest.raises(DataError, match=r"is not cp949 \(after line 1\): give its encoding with --encoding"):
        scan(source(tmp_path / "a.csv", encoding="cp949"))
    with pytest.raises(ConfigError, match="There is no encoding 'utf-9': use one such as utf-8, utf-16"):
        source(tmp_path / "a.csv", encoding="utf-9")


def test_what_is_likely() -> None:
    assert likely_encoding("ab".encode("utf-16-le")) == "utf-16"
    assert likely_encoding("한국어 ab".encode("cp949")) == "cp949"
    assert likely_encoding("für".encode("latin-1")) == "latin-1"
