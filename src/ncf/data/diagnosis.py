"""What is wrong with a file that cannot be read, in one sentence with the file, the row and the remedy.

In: the error of a scan and its `Source`. Out: a `DataError`. The decision worth knowing: the files are read
again, line by line, to find the first line that does not fit, so "cut off or damaged" is said only of a file
that is.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from ncf.data.encodings import as_utf8, not_utf8
from ncf.data.formats import Source, opened
from ncf.errors import DataError

SCAN_ERRORS = (pl.exceptions.PolarsError, OSError)
"""What scanning a file can raise; anything else is a defect of ours."""
_MAGIC = b"PAR1"


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
    try:
        origin.refuse_changed()
        for path in origin.paths:
            if sentence := _defect(origin, path):
                return DataError(sentence)
    except DataError as found:
        return found
    return DataError(
        f"{origin.path} cannot be read as {origin.format} ({reason}): give its format with --format or "
        "--delimiter, or write it again."
    )


def _defect(origin: Source, path: str) -> str | None:
    """The sentence about one local file, or None if nothing is found."""
    if origin.format == "parquet":
        return _parquet_defect(path)
    if sentence := _packing_defect(path):
        return sentence
    if origin.encoding is None and (sentence := not_utf8(path)):
        return sentence
    if origin.format not in ("jsonl", "csv"):
        return None
    with closing(_lines(origin, path)) as lines:
        return _json_defect(lines, path) if origin.format == "jsonl" else _csv_defect(lines, origin, path)


def _parquet_defect(path: str) -> str | None:
    with Path(path).open("rb") as file:
        begins = file.read(len(_MAGIC))
        file.seek(max(0, Path(path).stat().st_size - len(_MAGIC)))
        ends = file.read()
    if begins == _MAGIC == ends:
        return None
    if begins != _MAGIC:
        return f"{path} cannot be read as parquet (its first bytes are other ones): give its --format."
    return f"{path} cannot be read as parquet (its end is missing): the file may be cut off or damaged."


def _packing_defect(path: str) -> str | None:
    """A sentence if the file does not unpack to its end."""
    if not path.lower().endswith(".gz"):
        return None
    try:
        with opened(path) as file:
            while file.read(1 << 20):
                pass
    except EOFError:
        return f"{path} cannot be unpacked (its end is missing): the file may be cut off or damaged."
    except (gzip.BadGzipFile, zlib.error) as error:
        return f"{path} cannot be unpacked ({error}): the file may be cut off or damaged, or is not gzip."
    return None


def _lines(origin: Source, path: str) -> Generator[str, None, None]:
    translated = as_utf8(Source(path, origin.format, origin.delimiter, origin.header, (), origin.encoding))
    with opened(translated.path) as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        yield from text


def _json_defect(lines: Iterable[str], path: str) -> str | None:
    """The first line that is not a JSON object; only the last one may be cut off."""
    last = None
    for number, line in enumerate(lines, 1):
        if last is not None:
            return f"Line {last[0]:,} of {path} is not a JSON object ({last[1]}): give one object a line."
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            last = number, str(error)
        else:
            if not isinstance(value, dict):
                return f"Line {number:,} of {path} is not a JSON object: give one object a line."
    if last is None:
        return None
    return (
        f"{path} cannot be read as jsonl (line {last[0]:,}, its last, is not a whole JSON object): the file "
        "may be cut off or damaged."
    )


def _csv_defect(lines: Iterable[str], origin: Source, path: str) -> str | None:
    """The first line with more fields than the first, or with a quote that never closes."""
    quotes: Any = csv.QUOTE_MINIMAL if origin.delimiter not in "\t|" else csv.QUOTE_NONE
    rows = csv.reader(lines, delimiter=origin.delimiter, quoting=quotes, strict=True)
    width, begins = 0, 1
    csv.field_size_limit(1 << 30)
    try:
        for row in rows:
            width = width or len(row)
            if len(row) > width:
                return (
                    f"Line {begins:,} of {path} has {len(row)} fields and the first line has {width}: put "
                    f"values that hold '{origin.delimiter}' in quotes, or remove the rest of the line."
                ).replace("\t", "\\t")
            begins = rows.line_num + 1
    except csv.Error as error:
        return (
            f"Line {begins:,} of {path} is not CSV ({error}): close its quotes, or double those in a value."
        )
    return None
