"""Where data lies that jobs read and write: `file://` addresses are paths of this machine, `s3://` is copied
by boto3.

Containers see files of this machine as they are, mounted; objects of S3 are copied into a scratch folder
before, and what a container wrote is copied back afterwards.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ncf.errors import CloudError
from ncf.sagemaker.local.requests import invalid
from ncf.sagemaker.storage import below
from ncf.serving.archive import unpack


class Storage:
    """Files, and objects of S3 through the client that `s3` makes when it is first needed."""

    def __init__(self, s3: Callable[[], Any]) -> None:
        self._make = s3
        self._client: Any = None
        self._sent: dict[Path, tuple[int, int]] = {}
        """Modification time and size of what `sync` has copied."""

    @property
    def s3(self) -> Any:
        """The client of S3."""
        if self._client is None:
            self._client = self._make()
        return self._client

    def check(self, uri: str, what: str) -> None:
        """Raise AWS's error where nothing lies at an address; `what` names its role in the request."""
        path = path_of(uri)
        if path is None:
            self._check_objects(uri)
        elif not path.exists():
            raise invalid(f"{what} is not there: {path}.")

    def fetch(self, uri: str, scratch: Path, share: tuple[int, int] = (0, 1)) -> Path:
        """A folder or file with what lies at an address; objects go to `scratch`, with a share every n-th of
        them.
        """
        path = path_of(uri)
        if path is not None:
            return path
        bucket, prefix = _split(uri)
        scratch.mkdir(parents=True, exist_ok=True)
        for key in self.keys(uri)[share[0] :: share[1]]:
            target = below(scratch, _relative(key, prefix))
            target.parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file(bucket, key, str(target))
        return scratch

    def files(self, uri: str, scratch: Path) -> list[tuple[str, Path]]:
        """Every file at an address with its name below it, in order."""
        path = self.fetch(uri, scratch)
        if path.is_file():
            return [(path.name, path)]
        paths = sorted(file for file in path.rglob("*") if file.is_file())
        return [(file.relative_to(path).as_posix(), file) for file in paths]

    def fetch_model(self, uri: str, target: Path, scratch: Path) -> None:
        """Unpack a model's archive, or copy its folder, into `target`."""
        if path_of(uri) is None:
            self.fetch(uri, scratch)
            archives = list(scratch.iterdir())
            source = archives[0] if uri.endswith(".tar.gz") and len(archives) == 1 else scratch
        else:
            source = self.fetch(uri, scratch)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            unpack(source, target)
        if path_of(uri) is None:
            shutil.rmtree(scratch, ignore_errors=True)

    def checkpoints(self, uri: str, scratch: Path) -> Path:
        """The folder for checkpoints: the one of this machine, made, or a copy of what lies in S3."""
        path = path_of(uri)
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
            return path
        return self.fetch(uri.rstrip("/") + "/", scratch)

    def sync(self, folder: Path, uri: str) -> None:
        """Copy what is new or changed in a folder of checkpoints to S3; files may vanish meanwhile."""
        if path_of(uri) is not None:
            return
        # os.walk passes over a folder that vanishes; rglob does not.
        for file in [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]:
            with suppress(FileNotFoundError, IsADirectoryError):
                state = (file.stat().st_mtime_ns, file.stat().st_size)
                if self._sent.get(file) != state:
                    self.write(f"{uri.rstrip('/')}/{file.relative_to(folder).as_posix()}", file.read_bytes())
                    self._sent[file] = state

    def send(self, folder: Path, uri: str) -> None:
        """Copy everything in a folder to below an address."""
        path = path_of(uri)
        if path is not None:
            shutil.copytree(folder, path, dirs_exist_ok=True)
            return
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.write(f"{uri.rstrip('/')}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def read(self, uri: str) -> bytes:
        """The content of one file or object."""
        path = path_of(uri)
        if path is not None:
            return path.read_bytes()
        bucket, key = _split(uri)
        body: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def write(self, uri: str, content: bytes) -> None:
        """Write one file or object."""
        path = path_of(uri)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        else:
            bucket, key = _split(uri)
            self.s3.put_object(Bucket=bucket, Key=key, Body=content)

    def keys(self, uri: str) -> list[str]:
        """The keys that begin with an address, as SageMaker's S3Prefix reads it."""
        bucket, prefix = _split(uri)
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return [key for key in keys if not key.endswith("/")]

    def _check_objects(self, uri: str) -> None:
        from botocore.exceptions import ClientError

        reason = ""
        try:
            if self.keys(uri):
                return
        except ClientError as error:
            reason = f" Error message from S3: {error.response['Error']['Message']}"
        raise invalid(
            f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the '
            f"bucket exists "
            "in the selected region, that objects exist under that S3 prefix, and that the role has "
            f'"s3:ListBucket" permissions on bucket "{_split(uri)[0]}".{reason}'
        )


def path_of(uri: str) -> Path | None:
    """The path of a `file://` address; None for one of S3; raises `CloudError` for others."""
    parts = urlparse(uri)
    if parts.scheme == "file":
        return Path(parts.netloc + parts.path)
    if parts.scheme != "s3":
        raise CloudError(f"{uri} is neither a file:// nor an s3:// address.")
    return None


def _split(uri: str) -> tuple[str, str]:
    """Bucket and key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _relative(key: str, prefix: str) -> str:
    """Where a key lies in a channel's folder: below the prefix, or next to it where the prefix ends within a
    name.
    """
    folder = prefix.rstrip("/") + "/"
    if key.startswith(folder):
        return key.removeprefix(folder)
    return key[prefix.rfind("/") + 1 :]
