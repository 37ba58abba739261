"""What the parts of the double share: the store, the double's own clients, the runner, threads and folders."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hosted.folders import Cloud, split
from hosted.runners import Runner
from hosted.store import ACCOUNT, Store, invalid


@dataclass
class Context:
    """One double."""

    store: Store
    cloud: Cloud
    runner: Runner
    scratch: Path
    inside: str | None = None
    """The double's address as containers reach it."""
    pause: float = 0.05
    patience: float = 600
    """The longest that a container may take until it is well, whatever was asked for."""
    unwell: set[str] = field(default_factory=set)
    """Models that never become well."""
    threads: list[threading.Thread] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def spawn(self, work: Callable[[], None], name: str) -> None:
        """In a thread; or here and now where the runner only pretends."""
        if self.runner.at_once:
            work()
            return
        thread = threading.Thread(target=work, name=f"double {name}", daemon=True)
        self.threads.append(thread)
        thread.start()

    def folder(self, name: str) -> Path:
        """A new folder that stands at /opt/ml; anybody may write, as the container's user may be another."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name[:30]}-", dir=self.scratch))
        folder.chmod(0o777)
        return folder

    def environment(self, region: str) -> dict[str, str]:
        """What SageMaker gives to every container, and the way to the double."""
        here = {"AWS_ENDPOINT_URL": self.inside} if self.inside else {}
        keys = {"AWS_ACCESS_KEY_ID": "AKIACONTAINER0000000", "AWS_SECRET_ACCESS_KEY": "container"}
        return {"AWS_REGION": region, "AWS_DEFAULT_REGION": region, **keys, **here}

    def role(self, arn: str) -> None:
        """Raises what AWS answers where IAM has no such role."""
        from moto.backends import get_backend

        known = get_backend("iam")[ACCOUNT]["aws"].get_roles()
        if arn not in {role.arn for role in known}:
            raise invalid(
                f"Could not assume role {arn}. Please ensure that the role exists and allows principal "
                "'sagemaker.amazonaws.com' to assume the role."
            )

    def data(self, uri: str, region: str, role: str) -> None:
        """Raises what AWS answers where nothing lies there."""
        from botocore.exceptions import ClientError

        bucket = split(uri)[0]
        said = ""
        try:
            if self.cloud.keys(uri):
                return
        except ClientError as error:
            said = f" Error message from S3: {error.response['Error']['Message']}"
        raise invalid(
            f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists '
            f'in the selected region ({region}), that objects exist under that S3 prefix, and that the role "{role}" '
            f'has "s3:ListBucket" permissions on bucket "{bucket}".{said}'
        )
