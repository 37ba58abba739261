"""The artifact as one file: model.tar.gz as in SageMaker, with files at the top level.

In: files and the names they take; or an archive that somebody gave us. Out: a file that is the same to the
byte whenever the files are; or a folder with nothing in it but plain files of its own.

The one decision worth knowing: an archive is not trusted. Links, devices, absolute names, names with `..`,
and more bytes or members than a model has, are refused before anything of them is written.
"""

import atexit
import gzip
import io
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

from ncf.data.files import atomic_file, atomic_folder
from ncf.errors import ArtifactError

MOST_MEMBERS = 10_000
MOST_BYTES = 256 * 2**30
_LEVEL = 1
_MOST_AT_ONCE = 64 * 2**20
_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Python's own second look at a member, which 3.11 has from 3.11.4 on; `_wrong` comes first and refuses as
much.
"""


def pack(contents: Mapping[str, Path | bytes], target: Path) -> Path:
    """Write `target` with `contents` (name in the archive -> a file or its bytes), whole or not at all."""
    with (
        atomic_file(target) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(contents):
            _add(archive, name, contents[name])
    return target


def _add(archive: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    """A member without owner, time or permissions of this machine."""
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    if isinstance(content, bytes):
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        return
    with content.open("rb") as file:
        member.size = content.stat().st_size
        archive.addfile(member, file)


def unpack(path: Path, folder: Path, *, most_bytes: int = MOST_BYTES) -> Path:
    """Unpack `path` into `folder`, whole or not at all, at most `most_bytes`.

    Raises `ArtifactError` for anything that a model archive does not contain.
    """
    try:
        zipped = _Zipped(path)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}): give a model.tar.gz.") from None
    with zipped, atomic_folder(folder) as temporary:
        try:
            with tarfile.open(fileobj=zipped, mode="r:") as archive:
                _extract(archive, temporary, path, most_bytes)
            while zipped.read(_MOST_AT_ONCE):
                """Read to the end, where the checksum is."""
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
            raise ArtifactError(
                f"{path} is not a complete model.tar.gz ({error}): "
                "copy it again, or pack it with 'ncf artifact pack'."
            ) from None
    return folder


def _extract(archive: tarfile.TarFile, folder: Path, path: Path, most_bytes: int) -> None:
    room = min(most_bytes, shutil.disk_usage(folder).free)
    names: set[str] = set()
    for member in archive:
        room -= member.size
        wrong = _wrong(member, names)
        if wrong is None and room < 0:
            wrong = f"there is no room for {member.name[:80]!r}"
        if wrong is None and len(names) >= MOST_MEMBERS:
            wrong = f"it has more than {MOST_MEMBERS:,} members"
        if wrong is not None:
            raise ArtifactError(
                f"{path} is refused ({wrong}): a model.tar.gz has a few plain files under relative names."
            )
        names.add(member.name)
        archive.extract(member, folder, set_attrs=False, **_FILTER)


def _wrong(member: tarfile.TarInfo, before: set[str]) -> str | None:
    name = member.name
    if not (member.isfile() or member.isdir()) or member.issparse():
        return f"{name[:80]!r} is not a plain file"
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        return f"{name[:80]!r} leads elsewhere"
    if name in before and member.isfile():
        return f"{name[:80]!r} is in it twice"
    return None


class _Zipped(gzip.GzipFile):
    """Refuses a read that no header or piece of a file needs: a header may claim any size."""

    def __init__(self, path: Path) -> None:
        self._raw: IO[bytes] = path.open("rb")
        super().__init__(fileobj=self._raw, mode="rb")

    def read(self, size: int | None = -1) -> bytes:
        """At most 64 MiB."""
        if size is None or size < 0 or size > _MOST_AT_ONCE:
            raise tarfile.ReadError("a header of it is too large")
        return super().read(size)

    def close(self) -> None:
        """Close both files."""
        super().close()
        self._raw.close()


@cache
def unpacked(path: Path) -> Path:
    """A folder with the contents of an archive, which goes when this process ends; the same one when asked
    again.
    """
    holder = Path(tempfile.mkdtemp(prefix="ncf-model-"))
    atexit.register(shutil.rmtree, holder, ignore_errors=True)
    return unpack(path, holder / "model")
