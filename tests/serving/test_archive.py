"""An archive is the same to the byte, comes back as it was, and is refused when it is more than a model."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ncf.errors import ArtifactError
from ncf.serving import archive
from ncf.serving.archive import pack, unpack, unpacked
from ncf.serving.recommender import Recommender

CONTENTS: dict[str, Path | bytes] = {"b.txt": b"b", "a.txt": b"a" * 5000, "code/inference.py": b"pass\n"}


def of_artifact(artifact: Path) -> dict[str, Path | bytes]:
    return {path.name: path for path in artifact.iterdir()}


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as written:
        for member, content in members:
            member.size = len(content)
            written.addfile(member, io.BytesIO(content))
    return path


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    for path, time in ((one, 1_000), (other, 2_000_000_000)):
        path.write_bytes(b"content")
        os.utime(path, (time, time))
        path.chmod(0o600 if path == one else 0o777)
    first = pack({"x": b"1", "y": one}, tmp_path / "first.tar.gz").read_bytes()
    assert pack({"y": other, "x": b"1"}, tmp_path / "second.tar.gz").read_bytes() == first
    with tarfile.open(tmp_path / "first.tar.gz") as read:
        members = read.getmembers()
    assert [member.name for member in members] == ["x", "y"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    folder = unpack(pack(CONTENTS, tmp_path / "m.tar.gz"), tmp_path / "out")
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == CONTENTS


def test_an_artifact_beside_code_answers_as_before(
    tmp_path: Path, artifact: Path, served: Recommender
) -> None:
    contents = of_artifact(artifact) | {"code/inference.py": b"pass\n", "code/deep/er.txt": b"x"}
    opened = Recommender.open(unpack(pack(contents, tmp_path / "m.tar.gz"), tmp_path / "model"))
    assert opened.recommend(104, 5) == served.recommend(104, 5)


def test_an_archive_is_opened_as_a_folder_is(tmp_path: Path, artifact: Path, served: Recommender) -> None:
    path = pack(of_artifact(artifact), tmp_path / "model.tar.gz")
    assert Recommender.open(path).recommend(104, 5) == served.recommend(104, 5)


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (named("link", tarfile.SYMTYPE, "/etc/passwd"), "is not a plain file"),
        (named("hard", tarfile.LNKTYPE, "a"), "is not a plain file"),
        (named("pipe", tarfile.FIFOTYPE), "is not a plain file"),
        (named("disk", tarfile.BLKTYPE), "is not a plain file"),
        (named("/absolute"), "leads elsewhere"),
        (named("../up"), "leads elsewhere"),
        (named("code/../../up"), "leads elsewhere"),
        (named("code\\..\\up"), "leads elsewhere"),
        (named("a"), "is in it twice"),
    ],
)
def test_what_no_model_has_is_refused_and_nothing_is_left(
    tmp_path: Path, member: tarfile.TarInfo, why: str
) -> None:
    path = tar_of(tmp_path / "m.tar.gz", (named("a"), b"a"), (member, b""))
    with pytest.raises(ArtifactError, match=f"is refused .*{why}"):
        unpack(path, tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["m.tar.gz"]


def test_too_much_is_refused_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(CONTENTS, tmp_path / "m.tar.gz")
    with pytest.raises(ArtifactError, match=r"no room for 'a.txt'"):
        unpack(path, tmp_path / "out", most_bytes=4999)
    monkeypatch.setattr(archive, "MOST_MEMBERS", 2)
    with pytest.raises(ArtifactError, match="more than 2 members"):
        unpack(path, tmp_path / "out")


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 2**32
    (tmp_path / "m.tar.gz").write_bytes(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(2**20)))
    with pytest.raises(ArtifactError, match="not a complete"):
        unpack(tmp_path / "m.tar.gz", tmp_path / "out")


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[-6] ^= 1  # in the checksum
    return bytes(changed)


@pytest.mark.parametrize(
    "harm", [cut, flipped, lambda _: b"no gzip at all", lambda _: gzip.compress(b"no tar" * 200)]
)
def test_a_damaged_one_is_one_sentence(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    path = pack({"random": os.urandom(100_000)}, tmp_path / "m.tar.gz")
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(ArtifactError, match=r"is not a complete model\.tar\.gz .*: copy it again"):
        unpack(path, tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["m.tar.gz"]


def test_a_missing_one_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read .*: give a"):
        unpack(tmp_path / "m.tar.gz", tmp_path / "out")


def test_unpacked_for_a_process_goes_with_it(tmp_path: Path) -> None:
    path = pack(CONTENTS, tmp_path / "m.tar.gz")
    assert unpacked(path) is unpacked(path)
    code = (
        "from pathlib import Path\nfrom ncf.serving.archive import "
        f"unpacked\nprint(unpacked(Path({str(path)!r})))"
    )
    folder = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "ncf-model-" in folder
    assert not Path(folder.strip()).parent.exists()
