"""A bucket with data and a packed model, for the tests of the double."""

import io
import tarfile
from typing import Any

import pytest

from aws import Aws
from images import image, ml_100k, two_epochs
from jobs import BUCKET, MODEL

__all__ = ["image", "ml_100k", "two_epochs"]


@pytest.fixture
def sm(aws: Aws) -> Any:
    """A client of SageMaker; there is a bucket with two files of data and a model.tar.gz."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for key in ("data/a.txt", "data/deep/b.txt"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("weights")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"1"))
    s3.put_object(Bucket=BUCKET, Key=MODEL.removeprefix(f"s3://{BUCKET}/"), Body=buffer.getvalue())
    return aws.client("sagemaker")
