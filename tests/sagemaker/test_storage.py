"""Uploads and downloads against the double: only what is missing is sent, and what is fetched is whole or not
there."""

import os
from pathlib import Path

import pytest

from aws import Aws
from ncf.errors import CloudError
from ncf.sagemaker import storage
from ncf.sagemaker.local import storage as local
from ncf.sagemaker.session import Session

BUCKET = "ncf-tests-of-storage"


@pytest.fixture
def session(aws: Aws) -> Session:
    aws.client("s3").create_bucket(Bucket=BUCKET)
    return aws.session(bucket=BUCKET)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, one of them large enough to be sent in parts."""
    made = tmp_path / "folder"
    (made / "deep").mkdir(parents=True)
    (made / "a").write_bytes(b"first")
    (made / "b").write_bytes(b"")
    (made / "deep" / "c").write_bytes(os.urandom(9 * 1024 * 1024))
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_comes_back_as_it_was(session: Session, folder: Path, tmp_path: Path) -> None:
    uri = session.upload(folder, "data")
    assert uri == f"s3://{BUCKET}/ncf/data"
    assert contents(session.download(uri, tmp_path / "back")) == contents(folder)


@pytest.mark.parametrize("name", ["/etc/x", "../../planted", "a//b", "./a", "deep/../../planted", "deep/."])
def test_no_key_leads_out_of_the_folder(session: Session, tmp_path: Path, name: str) -> None:
    for key in ("part-1.out", name):
        session.client("s3").put_object(Bucket=BUCKET, Key=f"p/output/{key}", Body=b"x")
    target = tmp_path / "deep" / "target"
    with pytest.raises(CloudError, match="cannot be the path of a file"):
        session.download(f"s3://{BUCKET}/p/output", target)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(CloudError, match="cannot be the path of a file"):
        local.Storage(lambda: session.client("s3")).fetch(f"s3://{BUCKET}/p/output/", target / "local")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {"part-1.out"}


def test_a_file_comes_back_as_it_was(session: Session, folder: Path, tmp_path: Path) -> None:
    uri = session.upload(folder / "a", "one", "model.tar.gz")
    assert session.download(uri, tmp_path / "new" / "x").read_bytes() == b"first"


def test_what_is_there_with_the_same_content_is_not_sent_again(
    aws: Aws, session: Session, folder: Path
) -> None:
    s3, uri = session.client("s3"), session.uri("data")
    assert storage.upload(s3, folder, uri) == 3
    sent = len(aws.calls("PutObject"))
    assert storage.upload(s3, folder, uri) == 0
    (folder / "a").write_bytes(b"other")
    assert storage.upload(s3, folder, uri) == 1
    assert len(aws.calls("PutObject")) == sent + 1


def test_a_network_that_is_lost_in_the_middle_costs_only_what_is_missing(
    aws: Aws, session: Session, folder: Path, quick: list[float]
) -> None:
    aws.cut("UploadPart", after_bytes=100_000, times=float("inf"))
    with pytest.raises(
        CloudError, match="The upload of c failed: AWS cannot be reached .*Run the command again"
    ) as caught:
        session.upload(folder, "data")
    assert caught.value.code == "Network"
    assert quick
    aws.heal()
    before = len(aws.calls())
    session.upload(folder, "data")
    again = [call.operation for call in aws.calls()[before:]]
    assert "PutObject" not in again
    assert again.count("UploadPart") == 2


def test_one_cut_is_mended_without_a_word(
    aws: Aws, session: Session, folder: Path, tmp_path: Path, quick: list[float]
) -> None:
    aws.cut("PutObject", after_bytes=2, times=1)
    uri = session.upload(folder / "a", "one")
    assert session.download(uri, tmp_path / "a").read_bytes() == b"first"
    assert len(quick) == 1


def test_a_download_that_breaks_leaves_nothing(
    aws: Aws, session: Session, folder: Path, tmp_path: Path, quick: list[float]
) -> None:
    uri = session.upload(folder, "data")
    aws.fail("GetObject", "AccessDenied", times=float("inf"), status=403, after=1)
    with pytest.raises(CloudError):
        session.download(uri, tmp_path / "back")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_an_existing_file_stays_where_its_download_breaks(
    aws: Aws, session: Session, folder: Path, tmp_path: Path
) -> None:
    uri = session.upload(folder / "a", "one")
    target = tmp_path / "x"
    target.write_bytes(b"old")
    aws.fail("GetObject", "AccessDenied", times=float("inf"), status=403)
    with pytest.raises(CloudError):
        session.download(uri, target)
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "x"]


@pytest.mark.parametrize("uri", [f"s3://{BUCKET}/nothing", f"s3://{BUCKET}/ncf/dat"])
def test_nothing_there_is_said(session: Session, folder: Path, tmp_path: Path, uri: str) -> None:
    session.upload(folder, "data")
    with pytest.raises(CloudError, match=f"There is nothing at {uri}"):
        session.download(uri, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_nothing_to_upload_is_said(session: Session, tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="There is nothing at .* to upload"):
        session.upload(tmp_path / "none", "data")


def test_a_kms_key_goes_with_every_object(aws: Aws, folder: Path) -> None:
    aws.client("s3").create_bucket(Bucket=BUCKET)
    aws.session(bucket=BUCKET, kms_key="alias/ncf").upload(folder / "a", "one")
    head = aws.client("s3").head_object(Bucket=BUCKET, Key="ncf/one")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/ncf")


def test_keys_are_listed_over_pages_without_folder_markers(aws: Aws, session: Session) -> None:
    s3 = aws.client("s3")
    for number in range(1005):
        s3.put_object(Bucket=BUCKET, Key=f"many/{number:04}")
    s3.put_object(Bucket=BUCKET, Key="many/folder/")
    assert len(list(storage.keys(session.client("s3"), BUCKET, "many/"))) == 1005


@pytest.mark.parametrize("uri", ["https://x/y", "s3://", "s3:///key", "folder"])
def test_an_address_that_is_none(uri: str) -> None:
    with pytest.raises(CloudError, match="is not an S3 address"):
        storage.split(uri)
