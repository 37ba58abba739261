"""Files and folders to and from S3, so that a second try costs only what is missing.

Each object carries the sha256 of its file; what is there already with the same digest is not sent again, so an upload
that lost its network half-way is simply asked for once more. Downloads are whole or not there.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ncf.data.files import atomic_file, atomic_folder, sha256_of
from ncf.errors import CloudError
from ncf.sagemaker.aws_errors import redacted, translated
from ncf.sagemaker.paging import entries

_DIGEST = "ncf-sha256"


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; raises `CloudError` for anything else."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise CloudError(f"{uri!r} is no address in S3: it looks like s3://bucket/key.")
    return bucket, key.rstrip("/")


def upload(s3: Any, path: Path, uri: str, kms_key: str | None = None) -> int:
    """Send a file to a key, or a folder's files to below it; returns how many were sent."""
    bucket, key = split(uri)
    if not path.exists():
        raise CloudError(f"There is nothing at {path} to upload.")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    sent = 0
    for file in files:
        name = str(PurePosixPath(key, file.relative_to(path).as_posix())) if path.is_dir() else key
        digest = sha256_of(file)
        if _digest(s3, bucket, name) == digest:
            continue
        extra: dict[str, Any] = {"Metadata": {_DIGEST: digest}}
        if kms_key:
            extra |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}
        _transfer(f"upload of {file.name}", s3.upload_file, str(file), bucket, name, ExtraArgs=extra)
        sent += 1
    return sent


def download(s3: Any, uri: str, target: Path) -> None:
    """Fetch one object to a file, or everything below a prefix to a folder; raises `CloudError` where there is none."""
    bucket, key = split(uri)
    if _exists(s3, bucket, key):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as temporary:
            _transfer(f"download of {uri}", s3.download_file, bucket, key, str(temporary))
        return
    names = list(keys(s3, bucket, f"{key}/"))
    if not names:
        raise CloudError(f"There is nothing at {uri}.", "404")
    with atomic_folder(target) as folder:
        for name in names:
            file = folder / name.removeprefix(f"{key}/")
            file.parent.mkdir(parents=True, exist_ok=True)
            _transfer(f"download of {name}", s3.download_file, bucket, name, str(file))


def keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    """The keys of all objects below a prefix, markers of folders left out."""
    found = entries(
        s3.list_objects_v2,
        "Contents",
        "NextContinuationToken",
        "ContinuationToken",
        Bucket=bucket,
        Prefix=prefix,
    )
    return (one["Key"] for one in found if not one["Key"].endswith("/"))


def _digest(s3: Any, bucket: str, key: str) -> str | None:
    try:
        found: str | None = s3.head_object(Bucket=bucket, Key=key)["Metadata"].get(_DIGEST)
    except CloudError as error:
        if error.code not in ("404", "NoSuchKey"):
            raise
        return None
    return found


def _exists(s3: Any, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except CloudError as error:
        if error.code not in ("404", "NoSuchKey"):
            raise
        return False
    return True


def _transfer(what: str, call: Any, *args: Any, **kwargs: Any) -> None:
    """boto3's managed transfers wrap what AWS refused in exceptions of their own; the file is named in all of them."""
    from boto3.exceptions import Boto3Error

    try:
        call(*args, **kwargs)
    except (Boto3Error, CloudError) as error:
        cause = (
            error
            if isinstance(error, CloudError)
            else translated(error.__cause__ or error.__context__ or error, what)
        )
        code = cause.code if isinstance(cause, CloudError) else ""
        said = redacted(str(cause)).rstrip(".")
        raise CloudError(
            f"The {what} failed: {said}. Run the command again: what has arrived is kept.", code
        ) from error
