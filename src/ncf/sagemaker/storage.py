"""Files and folders to and from S3, so that a second try costs only what is missing.

Each object carries the sha256 of its file in its metadata. An object with the same digest is not sent again,
so an interrupted upload is simply repeated. A download is complete or absent.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ncf.data.files import atomic_file, atomic_folder, sha256_of
from ncf.errors import CloudError
from ncf.sagemaker.aws_errors import redacted, translated
from ncf.sagemaker.calls import entries

DIGEST = "ncf-sha256"
"""Metadata of every object that ncf uploads."""


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; raises `CloudError` for anything else."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise CloudError(f"{uri!r} is not an S3 address: give one such as s3://bucket/key.")
    return bucket, key.rstrip("/")


def upload(s3: Any, path: Path, uri: str, kms_key: str | None = None) -> int:
    """Send the file or folder at `path` to `uri` and return how many files were sent.

    `s3` is a client, `kms_key` the key that encrypts the objects (by default the bucket's own encryption).
    """
    bucket, key = split(uri)
    if not path.exists():
        raise CloudError(f"There is nothing at {path} to upload.")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    sent = 0
    for file in files:
        name = str(PurePosixPath(key, file.relative_to(path).as_posix())) if path.is_dir() else key
        digest = sha256_of(file)
        if (_metadata(s3, bucket, name) or {}).get(DIGEST) == digest:
            continue
        extra: dict[str, Any] = {"Metadata": {DIGEST: digest}}
        if kms_key:
            extra |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}
        _transfer(f"upload of {file.name}", s3.upload_file, str(file), bucket, name, ExtraArgs=extra)
        sent += 1
    return sent


def download(s3: Any, uri: str, target: Path) -> None:
    """Fetch the object at `uri` to the file `target`, or everything below that prefix to the folder `target`.

    Raises `CloudError` with code 404 where there is nothing.
    """
    bucket, key = split(uri)
    if _metadata(s3, bucket, key) is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as temporary:
            _transfer(f"download of {uri}", s3.download_file, bucket, key, str(temporary))
        return
    names = list(keys(s3, bucket, f"{key}/"))
    if not names:
        raise CloudError(f"There is nothing at {uri}.", "404")
    with atomic_folder(target) as folder:
        for name in names:
            file = below(folder, name.removeprefix(f"{key}/"))
            file.parent.mkdir(parents=True, exist_ok=True)
            _transfer(f"download of {name}", s3.download_file, bucket, name, str(file))


def below(folder: Path, name: str) -> Path:
    """Where the object called `name` goes below `folder`; raises `CloudError` where that is no path below it.

    A key may be any text: `/etc/x`, `../x` and `a//b` are keys, and the last would meet `a/b`.
    """
    if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise CloudError(
            f"The key {name!r} cannot be the path of a file in a folder: rename or remove that object, which "
            "ncf did not put there."
        )
    return folder / name


def keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    """Yield the keys of all objects below a prefix, without folder markers."""
    objects = entries(s3, "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix)
    return (item["Key"] for item in objects if not item["Key"].endswith("/"))


def _metadata(s3: Any, bucket: str, key: str) -> dict[str, str] | None:
    """The metadata of an object, or None where there is no such object."""
    try:
        metadata: dict[str, str] = s3.head_object(Bucket=bucket, Key=key)["Metadata"]
    except CloudError as error:
        if error.code not in ("404", "NoSuchKey"):
            raise
        return None
    return metadata


def _transfer(what: str, call: Any, *args: Any, **kwargs: Any) -> None:
    """Run one of boto3's managed transfers, whose exceptions do not name the file."""
    from boto3.exceptions import Boto3Error

    try:
        call(*args, **kwargs)
    except (Boto3Error, CloudError) as error:
        cause: BaseException = error
        if not isinstance(error, CloudError):
            cause = translated(error.__cause__ or error.__context__ or error, what)
        reason = redacted(str(cause)).rstrip(".")
        sentence = f"The {what} failed: {reason}. Run the command again: finished files are not sent again."
        raise CloudError(sentence, getattr(cause, "code", "")) from error
