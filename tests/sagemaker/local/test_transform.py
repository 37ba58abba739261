"""How the input of a transform job is found and cut, and how data is copied between addresses."""

from pathlib import Path
from typing import Any

import pytest

from ncf.errors import CloudError
from ncf.sagemaker.local.storage import Storage
from ncf.sagemaker.local.transform import TransformError, pieces

MEBIBYTE = 1 << 20


def nothing() -> Any:
    raise AssertionError("no client of S3 is needed")


def request(split: str = "Line", **more: Any) -> dict[str, Any]:
    return {"TransformInput": {"SplitType": split}, "MaxPayloadInMB": 1, **more}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three lines of 0.4 MiB, the last without its end."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(bytes([letter]) * (4 * MEBIBYTE // 10) for letter in b"abc"))
    return path


@pytest.mark.parametrize(
    ("strategy", "lines"), [("SingleRecord", ["a", "b", "c"]), ("MultiRecord", ["ab", "c"])]
)
def test_pieces_are_whole_lines_in_order(file: Path, strategy: str, lines: list[str]) -> None:
    bodies = list(pieces(file, request(BatchStrategy=strategy)))
    assert b"".join(bodies) == file.read_bytes()
    assert ["".join(chr(line[0]) for line in body.splitlines()) for body in bodies] == lines


def test_an_empty_file_has_no_pieces_and_a_whole_one_is_one(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert list(pieces(tmp_path / "empty", request())) == []
    (tmp_path / "two").write_bytes(b"a\nb")
    assert list(pieces(tmp_path / "two", request("None"))) == [b"a\nb"]


@pytest.mark.parametrize(
    ("split", "message"), [("Line", "line 1 of in.jsonl is longer"), ("None", "set SplitType")]
)
def test_what_is_too_long_is_said(file: Path, split: str, message: str) -> None:
    file.write_bytes(b"a" * (MEBIBYTE + 1))
    with pytest.raises(TransformError, match=message):
        list(pieces(file, request(split)))


def test_a_prefix_is_all_files_below_it(tmp_path: Path, file: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x").touch()
    files = Storage(nothing).files(f"file://{tmp_path}", tmp_path / "scratch")
    assert [name for name, _ in files] == ["in.jsonl", "more/x"]


def test_a_model_is_copied_and_an_archive_unpacked(tmp_path: Path) -> None:
    from ncf.serving.archive import pack

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    pack({"weights": b"1"}, tmp_path / "model.tar.gz")
    for number, source in enumerate((tmp_path / "model", tmp_path / "model.tar.gz")):
        Storage(nothing).fetch_model(f"file://{source}", tmp_path / str(number), tmp_path / "scratch")
        assert (tmp_path / str(number) / "weights").read_text() == "1"


def test_other_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="neither a file:// nor an s3:// address"):
        Storage(nothing).fetch("gs://bucket/x", tmp_path)
