"""What the test of the whole hosted way stands on: an account with our image in ECR, commands as processes,
and callers
of an endpoint that never pause."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aws import Aws, hosted_aws
from ncf.sagemaker.local.docker import DockerRunner
from ncf.sagemaker.local.double import ACCOUNT

PROJECT = "journey"
BUCKET = f"sagemaker-us-east-1-{ACCOUNT}"
RECIPE = str(Path(__file__).parents[2] / "recipes" / "ml-100k-neumf.toml")
SHORT = tuple(
    word
    for setting in (
        "model.factors=16",
        "model.embedding=16",
        "model.tower=[16]",
        "train.epochs=1",
        "train.patience=0",
        "train.threads=1",
    )
    for word in ("--set", setting)
)
_MANIFEST = {
    "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": [],
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """An account, a folder to work in, and prepared data."""

    aws: Aws
    folder: Path
    data: str

    def ncf(self, *words: str) -> str:
        """The output of one command, which must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "ncf", *words], cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"ncf {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def sagemaker(self, *words: str) -> str:
        """`ncf sagemaker …`."""
        return self.ncf("sagemaker", *words)

    def json(self, *words: str) -> Any:
        """`ncf sagemaker … --json`."""
        return json.loads(self.sagemaker(*words, "--json"))

    def keys(self) -> list[str]:
        """The keys of all objects of the account's bucket."""
        pages = self.aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [one["Key"] for page in pages for one in page.get("Contents", ())]


@contextmanager
def journey(image: str, folder: Path, data: Path) -> Iterator[Stage]:
    """The account, until the block ends: an execution role, and the image under the name that push-image
    gives it.
    """
    tag = version("ncf")
    uri = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/{PROJECT}:{tag}"
    with hosted_aws(DockerRunner(images={uri: image})) as aws:
        ecr = aws.client("ecr")
        ecr.create_repository(repositoryName=PROJECT, tags=[{"Key": "ncf:project", "Value": PROJECT}])
        ecr.put_image(repositoryName=PROJECT, imageTag=tag, imageManifest=json.dumps(_MANIFEST))
        os.environ.update(NCF_PROJECT=PROJECT, NCF_ROLE=aws.role)
        try:
            yield Stage(aws, folder, str(data))
        finally:
            del os.environ["NCF_PROJECT"], os.environ["NCF_ROLE"]


@dataclass
class Caller:
    """Asks an endpoint without a pause and without a second try."""

    aws: Aws
    body: str
    answers: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Until the block ends."""
        ended = threading.Event()
        thread = threading.Thread(target=self._call, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(60)

    def _call(self, ended: threading.Event) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        runtime = self.aws.client("sagemaker-runtime", tries=1)
        while not ended.wait(0.01):
            try:
                answer = runtime.invoke_endpoint(
                    EndpointName=PROJECT, ContentType="application/json", Body=self.body
                )
                self.answers.append(answer["Body"].read().decode())
            except (BotoCoreError, ClientError) as error:
                self.failures.append(str(error))
