"""The file formats: how each is recognised, and which files a path stands for.

In: the path of a file or folder, or a pattern. Out: a `Source`. The decision worth knowing: a name that
exists is that file, whatever brackets it holds. The files of a folder are read in the order of their names,
and empty ones have no rows.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal
from urllib.parse import unquote

import polars as pl

from ncf.errors import ConfigError, DataError

Format = Literal["csv", "parquet", "jsonl", "movielens", "lines"]
"""`lines`: a user and then its items on each line, separated by spaces or tabs."""

HEADERLESS = ("user", "item", "rating", "timestamp")
"""What the columns of a table of interactions without a header are, by position."""
PIPED = ("u.item", "u.user", "u.genre", "u.occupation")
"""MovieLens-100K separates the fields of these files with `|`."""
_SUFFIXES: dict[str, tuple[Format, str, bool]] = {
    ".csv": ("csv", ",", True),
    ".tsv": ("csv", "\t", True),
    ".tab": ("csv", "\t", True),
    ".inter": ("csv", "\t", True),
    ".item": ("csv", "\t", True),
    ".user": ("csv", "\t", True),
    ".rating": ("csv", "\t", False),
    ".data": ("csv", "\t", False),
    ".dat": ("movielens", "::", False),
    ".parquet": ("parquet", "", True),
    ".pq": ("parquet", "", True),
    ".jsonl": ("jsonl", "", True),
    ".ndjson": ("jsonl", "", True),
    ".json": ("jsonl", "", True),
}
_PARTITION = re.compile(r"([^/=]+)=([^/]*)/")
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_HEAD = 1 << 12


@dataclass(frozen=True)
class Source:
    """What to read and how. `header` False: the columns are user, item, rating, timestamp, in this order.

    `files`: the files of a local folder or pattern, in order; empty where `path` is one file, or remote.
    `encoding`: of a text file; None is UTF-8. `stamp`: size and time of change of each local file.
    """

    path: str
    format: Format
    delimiter: str
    header: bool
    files: tuple[str, ...] = ()
    encoding: str | None = None
    stamp: tuple[tuple[int, int], ...] = ()

    @property
    def remote(self) -> bool:
        return "://" in self.path

    @property
    def paths(self) -> tuple[str, ...]:
        """All files to read; of a remote source its address."""
        return self.files or (self.path,)

    @property
    def label(self) -> str:
        """The last part of the path: of a pattern the part before it."""
        if self.files:
            return Path(_base(self.path)).name or self.path
        parts = [part for part in self.path.split("/") if part and (not self.remote or not _is_pattern(part))]
        return parts[-1] if parts else self.path

    def partitions(self, path: str) -> dict[str, str | None]:
        """The columns that the folders of one of `paths` name, as Spark writes them: `day=2024-01-01/`."""
        root = self.path.split("*")[0].rstrip("/") if self.remote else _base(self.path)
        inside = path[len(root) :] if path.startswith(root) else ""
        found = {key: unquote(value) for key, value in _PARTITION.findall(inside.replace("\\", "/"))}
        return {key: None if value == NO_PARTITION else value for key, value in found.items()}

    def refuse_changed(self) -> None:
        """Raise `DataError` if a local file is not what it was when the source was made."""
        for path, before in zip(self.paths, self.stamp, strict=False):
            if stamp_of(path) != before:
                raise changed(path)


@dataclass(frozen=True)
class FrameSource(Source):
    """A table in memory; `path` is what messages call it."""

    frame: pl.LazyFrame = field(default_factory=pl.LazyFrame)


def changed(path: str) -> DataError:
    """The error for a file that is not what it was when its reading began."""
    return DataError(f"{path} changed while it was read: wait until it is complete, or read a copy of it.")


def source(
    path: str | Path,
    format: Format | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
) -> Source:
    """How to read `path`: by its suffix (before `.gz`), or as `format`, `delimiter` and `header` say.

    A local folder stands for all files in it whose names do not begin with a dot or an underscore. A remote
    address without a known suffix stands for the files below it. `encoding`: a name that Python knows.
    """
    text = str(path)
    files = _files(text)
    guess = _guess(files[0] if files else remote_pattern(text))
    if any(_guess(file) != guess for file in files):
        raise DataError(
            f"{text} holds files of several formats: select one format with a pattern, such as "
            f"'{text.rstrip('/')}/*.parquet'."
        )
    if guess is None and format is None and delimiter is None:
        raise DataError(
            f"The format of {text} is not known from its name: it must end in one of {', '.join(_SUFFIXES)} "
            "(also with .gz), or give --format or --delimiter."
        )
    kind, separator, has_header = guess or ("csv", ",", True)
    if format is not None and format != kind:
        kind, separator = format, {"movielens": "::"}.get(format, ",")
        has_header = format not in ("movielens", "lines")
    if delimiter is not None and kind != "lines":
        delimiter = delimiter.replace("\\t", "\t")
        kind, separator = ("movielens" if len(delimiter.encode()) > 1 else "csv"), delimiter
    has_header = has_header if header is None else header
    stamp = () if "://" in text else tuple(map(stamp_of, files or (text,)))
    return Source(text, kind, separator, has_header, files, _known_encoding(encoding), stamp)


@lru_cache(maxsize=64)
def remote_pattern(address: str) -> str:
    """What a remote address stands for: itself, or a pattern of the files below it if no suffix is known.

    The first known suffix with which any file below it ends decides; an address below which none is found
    stays as it is.
    """
    if "://" not in address or _guess(address) or _is_pattern(address):
        return address
    for suffix in (ending + packed for ending in _SUFFIXES for packed in ("", ".gz")):
        pattern = f"{address.rstrip('/')}/**/*{suffix}"
        try:
            if suffix in (".parquet", ".pq"):
                pl.scan_parquet(pattern).collect_schema()
            else:  # a scan of lines does not look whether there is a file
                pl.scan_csv(
                    pattern, infer_schema=False, missing_columns="insert", extra_columns="ignore"
                ).collect_schema()
        except (pl.exceptions.PolarsError, OSError):
            continue
        return pattern
    return address


def is_known(path: str | Path) -> bool:
    """Whether the name of a file, or of the first one in a folder or pattern, tells its format."""
    text = str(path)
    return _guess((_files(text) or (text,))[0]) is not None


def bare(name: str) -> str:
    """A column name without RecBole's type suffix."""
    return name.split(":", 1)[0].strip()


def opened(path: str) -> IO[bytes]:
    """A local file, decompressed if its name ends in .gz."""
    return gzip.open(path) if path.lower().endswith(".gz") else Path(path).open("rb")  # type: ignore[return-value]


def head(path: str) -> bytes:
    """The first bytes of a local file, decompressed; a damaged file has none."""
    with opened(path) as file:
        try:
            return file.read(_HEAD)
        except (OSError, EOFError, zlib.error):
            return b""


def _guess(path: str) -> tuple[Format, str, bool] | None:
    plain = path[: -len(".gz")] if path.lower().endswith(".gz") else path
    if Path(plain).name in PIPED:
        return ("csv", "|", False)
    return _SUFFIXES.get(Path(plain).suffix.lower())


def _known_encoding(encoding: str | None) -> str | None:
    """The usual name of `encoding`; None for UTF-8, which needs no translation."""
    if encoding is None:
        return None
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise ConfigError(
            f"There is no encoding '{encoding}': use one such as utf-8, utf-16, cp949 or latin-1."
        ) from None
    return None if name in ("utf-8", "utf-8-sig", "ascii") else name


def _is_pattern(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) and "=" not in part for part in path.parts)


def _base(text: str) -> str:
    """The folder that a local folder or pattern names, with a slash at its end."""
    if Path(text).is_dir():
        return f"{text.rstrip('/')}/"
    parts = Path(text).parts
    first = next((index for index, part in enumerate(parts) if _is_pattern(part)), len(parts) - 1)
    return f"{Path(*parts[:first])}/" if first else ""


def _files(text: str) -> tuple[str, ...]:
    """The files of a local folder or pattern, sorted; none for one file or a remote address."""
    if "://" in text or Path(text).is_file():
        return ()
    if Path(text).is_dir():
        visible = (path for path in Path(text).rglob("*") if not _is_hidden(path.relative_to(text)))
        files = [str(path) for path in visible if path.is_file()]
        what = "is a folder without a file of interactions"
    elif _is_pattern(text):
        parts = Path(text).parts
        first = next(index for index, part in enumerate(parts) if _is_pattern(part))
        files = [str(p) for p in Path(*parts[:first]).glob(str(Path(*parts[first:]))) if p.is_file()]
        what = "matches no file"
    else:
        return ()
    if not files:
        raise DataError(f"{text} {what}: check the path.")
    filled = tuple(sorted(file for file in files if not is_empty(file)))
    if not filled:
        raise DataError(f"All files of {text} are empty: give files with interactions.")
    return filled


def is_empty(path: str) -> bool:
    """Whether a local file has no bytes, or none once it is decompressed."""
    size = Path(path).stat().st_size
    if path.lower().endswith(".gz") and 0 < size < _HEAD:
        with Path(path).open("rb") as file:
            return file.read(2) == b"\x1f\x8b" and _unpacks_to_nothing(path)
    return size == 0


def _unpacks_to_nothing(path: str) -> bool:
    try:
        with gzip.open(path) as file:
            return not file.read(1)
    except (OSError, EOFError, zlib.error):
        return False


def stamp_of(path: str) -> tuple[int, int]:
    """Size in bytes and time of change in ns of a local file; zeros where there is none."""
    try:
        facts = Path(path).stat()
    except OSError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns
