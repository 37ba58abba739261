"""The file formats: how each is recognised and scanned.

In: the path of a file or folder, or a pattern. Out: a lazy frame with the columns of the files, which are
strings in text formats. The decision worth knowing: every error of a scan becomes one sentence. The files of
a folder are read in the order of their names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from ncf.errors import DataError

Format = Literal["csv", "parquet", "jsonl", "movielens", "lines"]
"""`lines`: a user and then its items on each line, separated by spaces or tabs."""

SCAN_ERRORS = (pl.exceptions.PolarsError, OSError)
"""What scanning a file can raise; anything else is a defect of ours."""

HEADERLESS = ["user", "item", "rating", "timestamp"]
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


@dataclass(frozen=True)
class Source:
    """What to read and how. `header` False: the columns are user, item, rating, timestamp, in this order.

    `files`: the files of a local folder or pattern, in order; empty where `path` is one file, or remote.
    """

    path: str
    format: Format
    delimiter: str
    header: bool
    files: tuple[str, ...] = ()

    @property
    def remote(self) -> bool:
        return "://" in self.path

    @property
    def scanned(self) -> str | list[str]:
        """What the scanner is given."""
        return list(self.files) or self.path

    @property
    def label(self) -> str:
        """The last part of the path: of a pattern the part before it."""
        parts = [part for part in self.path.split("/") if part and not _is_pattern(part)]
        return parts[-1] if parts else self.path


def source(
    path: str | Path, format: Format | None = None, delimiter: str | None = None, header: bool | None = None
) -> Source:
    """How to read `path`: by its suffix (before `.gz`), or as `format`, `delimiter` and `header` say.

    A local folder stands for all files in it whose names do not begin with a dot or an underscore.
    """
    text = str(path)
    files = _files(text)
    guess = _guess(files[0] if files else text)
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
    return Source(text, kind, separator, has_header if header is None else header, files)


def is_known(path: str | Path) -> bool:
    """Whether the name of a file, or of the first one in a folder or pattern, tells its format."""
    text = str(path)
    return _guess((_files(text) or (text,))[0]) is not None


def _guess(path: str) -> tuple[Format, str, bool] | None:
    plain = path[: -len(".gz")] if path.endswith(".gz") else path
    return _SUFFIXES.get(Path(plain).suffix.lower())


def _is_pattern(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _files(text: str) -> tuple[str, ...]:
    """The files of a local folder or pattern, sorted; none for one file or a remote address."""
    if "://" in text or Path(text).is_file():
        return ()
    if Path(text).is_dir():
        visible = (path for path in Path(text).rglob("*") if not _is_hidden(path.relative_to(text)))
        files = [str(path) for path in visible if path.is_file()]
        what = "is a folder without a file of interactions"
    elif _is_pattern(text):
        first = next(index for index, part in enumerate(Path(text).parts) if _is_pattern(part))
        base, rest = Path(*Path(text).parts[:first]), str(Path(*Path(text).parts[first:]))
        files = [str(path) for path in base.glob(rest) if path.is_file()]
        what = "matches no file"
    else:
        return ()
    if not files:
        raise DataError(f"{text} {what}: check the path.")
    return tuple(sorted(files))


def read_table(path: str | Path, format: Format | None = None, delimiter: str | None = None) -> pl.DataFrame:
    """A whole small table with inferred types; names lose RecBole's type suffixes."""
    origin = source(path, format, delimiter)
    try:
        table = scan(origin, infer=True).collect()
    except SCAN_ERRORS as error:
        raise read_error(error, origin) from error
    return table.rename({name: bare(name) for name in table.columns})


def scan(origin: Source, infer: bool = False) -> pl.LazyFrame:
    """The file as a lazy frame; text formats have String columns unless `infer`."""
    if not origin.remote:
        for path in origin.files or (origin.path,):
            _check_local(path)
    try:
        if origin.format == "parquet":
            return pl.scan_parquet(origin.scanned)
        if origin.format == "jsonl":
            return pl.scan_ndjson(origin.scanned, infer_schema_length=1000)
        if origin.format == "movielens":
            return _scan_long_delimiter(origin)
        if origin.format == "lines":
            return _scan_words(origin)
        return _scan_csv(origin, infer)
    except SCAN_ERRORS as error:
        raise read_error(error, origin) from error


def _check_local(path: str) -> None:
    if not Path(path).exists():
        raise DataError(f"There is no file {path}: check the path.")
    if Path(path).stat().st_size == 0:
        raise DataError(f"The file {path} is empty: give a file with interactions.")


def _scan_csv(origin: Source, infer: bool) -> pl.LazyFrame:
    frame = pl.scan_csv(
        origin.scanned,
        separator=origin.delimiter,
        has_header=origin.header,
        infer_schema=infer,
        infer_schema_length=10_000,
        quote_char='"' if origin.delimiter != "\t" else None,
    )
    return frame if origin.header else _name_by_position(frame)


def _scan_long_delimiter(origin: Source) -> pl.LazyFrame:
    lines = _scan_whole_lines(origin, "utf8-lossy")
    first = lines.head(1).collect().item(0, 0)
    width = str(first).count(origin.delimiter) + 1
    line = lines.collect_schema().names()[0]
    fields = pl.col(line).str.split_exact(origin.delimiter, width - 1)
    named = fields.struct.rename_fields([f"column_{position}" for position in range(width)])
    frame = lines.select(named.alias("fields")).unnest("fields")
    return _name_by_position(frame)


def _scan_whole_lines(origin: Source, encoding: Literal["utf8", "utf8-lossy"]) -> pl.LazyFrame:
    """One column, whose values are the lines."""
    return pl.scan_csv(
        origin.scanned,
        has_header=False,
        separator="\x01",
        quote_char=None,
        infer_schema=False,
        encoding=encoding,
    )


def scan_lists(origin: Source) -> pl.LazyFrame:
    """The words of each line that has two or more, as the lists `words`."""
    words = pl.first().str.strip_chars().str.replace_all(r"\s+", " ").str.split(" ").alias("words")
    return _scan_whole_lines(origin, "utf8").select(words).filter(pl.col("words").list.len() > 1)


def _scan_words(origin: Source) -> pl.LazyFrame:
    words = pl.col("words").list
    pairs = scan_lists(origin).select(words.first().alias("user"), words.slice(1).alias("item"))
    return pairs.explode("item")


def _name_by_position(frame: pl.LazyFrame) -> pl.LazyFrame:
    present = frame.collect_schema().names()
    return frame.rename(dict(zip(present, HEADERLESS, strict=False)))


def schema_of(frame: pl.LazyFrame, origin: Source) -> pl.Schema:
    """The columns of a scanned file and their types."""
    try:
        return frame.collect_schema()
    except SCAN_ERRORS as error:
        raise read_error(error, origin) from error


def bare(name: str) -> str:
    """A column name without RecBole's type suffix."""
    return name.split(":", 1)[0].strip()


def read_error(error: Exception, origin: Source) -> DataError:
    """The `DataError` for what a scan of `origin` raised."""
    if isinstance(error, DataError):
        return error
    reason = " ".join(str(error).split()).split(". ")[0][:200]
    if origin.remote:
        return DataError(
            f"{origin.path} could not be read from the storage ({reason}): check the address, the "
            "credentials and the region."
        )
    if isinstance(error, pl.exceptions.NoDataError):
        return DataError(f"The file {origin.path} is empty: give a file with interactions.")
    if isinstance(error, PermissionError):
        return DataError(f"There is no permission to read {origin.path}: change its permissions.")
    return DataError(
        f"{origin.path} cannot be read as {origin.format} ({reason}): the file may be cut off or "
        "damaged, or give its format with --format or --delimiter."
    )
