"""How the input of a transform job is cut."""

from pathlib import Path

import pytest

from ncf.errors import CloudError
from ncf.sagemaker.local.transform import _sources, pieces


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"aaa\nbb\nc\ndddd")
    return path


@pytest.mark.parametrize(
    ("split", "strategy", "most", "expected"),
    [
        ("None", "MultiRecord", 100, [b"aaa\nbb\nc\ndddd"]),
        ("Line", "SingleRecord", 100, [b"aaa\n", b"bb\n", b"c\n", b"dddd"]),
        ("Line", "MultiRecord", 100, [b"aaa\nbb\nc\ndddd"]),
        ("Line", "MultiRecord", 7, [b"aaa\nbb\n", b"c\ndddd"]),
        ("Line", "MultiRecord", 4, [b"aaa\n", b"bb\n", b"c\n", b"dddd"]),
    ],
)
def test_pieces_are_whole_lines_in_order(
    file: Path, split: str, strategy: str, most: int, expected: list[bytes]
) -> None:
    assert list(pieces(file, split, strategy, most)) == expected


@pytest.mark.parametrize(
    ("split", "said"), [("Line", "Line 1 of in.jsonl is longer"), ("None", "set SplitType")]
)
def test_what_is_too_long_is_said(file: Path, split: str, said: str) -> None:
    with pytest.raises(CloudError, match=said):
        list(pieces(file, split, "MultiRecord", 3))


def test_an_empty_file_has_no_pieces(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert list(pieces(tmp_path / "empty", "Line", "MultiRecord", 10)) == []


def test_a_prefix_is_all_files_below_it(tmp_path: Path, file: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x").touch()
    found = _sources({"S3DataType": "S3Prefix", "S3Uri": f"file://{tmp_path}"})
    assert [relative for _, relative in found] == ["in.jsonl", "more/x"]


@pytest.mark.parametrize("uri", ["s3://bucket/x", "file:///nowhere/at/all"])
def test_input_that_cannot_be_read_is_said(uri: str) -> None:
    with pytest.raises(CloudError, match=r"download the input first|There is no input"):
        _sources({"S3DataType": "S3Prefix", "S3Uri": uri})
