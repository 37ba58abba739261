"""What a job needs, sent before it starts: data, halves to fuse, source. A second time costs a look at each file.

In: folders here. Out: URIs for the request. What has arrived before a failure stays, and is not sent again.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from ncf.data import Dataset
from ncf.data.files import sha256_of
from ncf.errors import ConfigError
from ncf.sagemaker import package
from ncf.sagemaker.session import Session
from ncf.serving.artifact import open_artifact

Progress = Callable[[int, int], None]
"""Told the bytes that are done, and all."""
_SHORT = 16


def silent(_done: int, _total: int) -> None:
    """No progress."""


def send_data(session: Session, folder: str | Path, progress: Progress = silent) -> tuple[str, str]:
    """A prepared data folder to `data/DIGEST`; its URI and the digest. Raises `DataError` for a damaged one."""
    digest = Dataset.open(folder).digest
    return send_folder(session, Path(folder), "data", digest, progress=progress), digest


def send_folder(session: Session, folder: Path, *parts: str, progress: Progress = silent) -> str:
    """The files of a folder, one by one."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total, done = sum(path.stat().st_size for path in files), 0
    for path in files:
        progress(done, total)
        session.upload(path, *parts, *path.relative_to(folder).parts)
        done += path.stat().st_size
    progress(total, total)
    return session.uri(*parts)


def send_pretrained(session: Session, gmf: str | Path, mlp: str | Path, data_digest: str) -> str:
    """Two artifacts to the folders gmf/ and mlp/; raises `ConfigError` where they are of other data."""
    halves = {"gmf": open_artifact(gmf), "mlp": open_artifact(mlp)}
    for name, artifact in halves.items():
        if artifact.manifest["data"]["digest"] != data_digest:
            raise ConfigError(
                f"The run of --{name} was trained on other data than --data: train it on these."
            )
    where = "-".join(sha256_of(one.folder / "manifest.json")[:_SHORT] for one in halves.values())
    for name, artifact in halves.items():
        send_folder(session, artifact.folder, "pretrained", where, name)
    return session.uri("pretrained", where)


def send_code(session: Session) -> str:
    """The source for AWS's image: packed for S3, as a folder for local mode, which mounts it."""
    with tempfile.TemporaryDirectory(prefix="ncf-code-") as folder:
        packed = package.pack_training_code(Path(folder) / "sourcedir.tar.gz")
        parts = ("code", sha256_of(packed)[:_SHORT])
        if session.uri(*parts).startswith("file://"):
            return session.upload(package.pack_training_code(Path(folder) / "source"), *parts)
        return session.upload(packed, *parts, packed.name)
