"""What SageMaker does around a container: channels from S3, results to S3, lines to CloudWatch.

`Cloud` holds the double's own clients; their key marks them, so faults on demand and the list of calls pass them by.
"""

from __future__ import annotations

import io
import tarfile
import time
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

OWN_KEY = "AKIADOUBLEOWNCALLS00"


@cache
def session() -> Any:
    """One for all doubles of a process: what takes time is to read the services' models."""
    import boto3

    return boto3.Session()


class Cloud:
    """S3 and logs for the double itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: dict[tuple[str, str], Any] = {}

    @property
    def s3(self) -> Any:
        return self._client("s3", "us-east-1")

    def logs(self, region: str) -> Any:
        """Log groups belong to a region."""
        return self._client("logs", region)

    def ringing(self, region: str, alarms: list[str]) -> list[str]:
        """Which of these alarms of CloudWatch ring."""
        if not alarms:
            return []
        found = self._client("cloudwatch", region).describe_alarms(AlarmNames=alarms, StateValue="ALARM")
        return [one["AlarmName"] for one in found["MetricAlarms"]]

    def _client(self, service: str, region: str) -> Any:
        own = {"aws_access_key_id": OWN_KEY, "aws_secret_access_key": "own"}
        if (service, region) not in self._clients:
            self._clients[service, region] = session().client(service, region, endpoint_url=self.url, **own)
        return self._clients[service, region]

    def keys(self, uri: str) -> list[str]:
        """The keys that begin with an address, as SageMaker's S3Prefix reads it."""
        bucket, prefix = split(uri)
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [
            one["Key"] for page in pages for one in page.get("Contents", ()) if not one["Key"].endswith("/")
        ]

    def fetch(self, uri: str, folder: Path, share: tuple[int, int] = (0, 1)) -> int:
        """Put what begins with an address into a folder; with a share, every nth object."""
        bucket, prefix = split(uri)
        folder.mkdir(parents=True, exist_ok=True)
        found = self.keys(uri)[share[0] :: share[1]]
        for key in found:
            file = folder / relative(key, prefix)
            file.parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file(bucket, key, str(file))
        return len(found)

    def read(self, uri: str) -> bytes:
        """One object."""
        bucket, key = split(uri)
        body: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def write(self, uri: str, content: bytes, **more: Any) -> None:
        """One object."""
        bucket, key = split(uri)
        self.s3.put_object(Bucket=bucket, Key=key, Body=content, **more)

    def send(self, folder: Path, uri: str) -> None:
        """Everything in a folder to below an address."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.write(f"{uri.rstrip('/')}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def unpack(self, uri: str, folder: Path) -> None:
        """A model.tar.gz into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(self.read(uri))) as archive:
            archive.extractall(folder, filter="data")

    def pack(self, folder: Path, uri: str) -> None:
        """A folder as a tar.gz."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
                archive.add(file, file.relative_to(folder).as_posix(), recursive=False)
        self.write(uri, buffer.getvalue())


class Log:
    """One stream, to which the lines go that were not there before."""

    def __init__(self, cloud: Cloud, region: str, group: str, stream: str) -> None:
        self.client, self.group, self.stream = cloud.logs(region), group, stream
        self.put = 0
        for create, names in (
            (self.client.create_log_group, {"logGroupName": group}),
            (self.client.create_log_stream, {"logGroupName": group, "logStreamName": stream}),
        ):
            try:
                create(**names)
            except self.client.exceptions.ResourceAlreadyExistsException:
                continue

    def write(self, lines: list[str]) -> None:
        """`lines` are all lines so far."""
        new = [line or " " for line in lines[self.put :]]
        now = int(time.time() * 1000)
        for first in range(0, len(new), 1000):
            events = [{"timestamp": now, "message": line} for line in new[first : first + 1000]]
            self.client.put_log_events(logGroupName=self.group, logStreamName=self.stream, logEvents=events)
        self.put = len(lines)


def split(uri: str) -> tuple[str, str]:
    """Bucket and key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def relative(key: str, prefix: str) -> str:
    """Where a key lies in the channel's folder: below the prefix, or beside it where the prefix is no whole folder."""
    if key.startswith(folder := prefix.rstrip("/") + "/"):
        return key.removeprefix(folder)
    if not prefix:
        return key
    return PurePosixPath(key).relative_to(PurePosixPath(prefix).parent).as_posix()
