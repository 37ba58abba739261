"""A source as one lazy frame, whose text formats have String columns only.

In: a `Source`. Out: a lazy frame of all its files. The decisions worth knowing: nothing is inferred from the
first rows of any format; of JSON lines the keys of the whole file are columns. Files are brought together
column by column, so later parts may have more columns, another order or other types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl

from ncf.data.diagnosis import SCAN_ERRORS, read_error
from ncf.data.encodings import as_utf8
from ncf.data.formats import (
    HEADERLESS,
    NO_PARTITION,
    FrameSource,
    Source,
    head,
    is_empty,
    opened,
    remote_pattern,
    stamp_of,
)
from ncf.data.values import as_unified, unified
from ncf.errors import DataError

_PLACE = "path of the file"
_KEY = r'"((?:[^"\\]|\\.)*)"\s*:\s*([\[{]?)'
Nested = frozenset[tuple[str, bool]]
"""Keys, and whether their values are lists; else they are objects."""
_WIDE = r"[0-9]{39}"
"""JSON numbers of so many digits are read by Python: Polars refuses them."""


def scan(origin: Source) -> pl.LazyFrame:
    """The source as a lazy frame; raises `DataError` if it cannot be opened."""
    if isinstance(origin, FrameSource):
        return origin.frame
    if not origin.remote:
        for path in origin.paths:
            _check_local(path)
    try:
        if origin.remote:
            return _scan_remote(origin)
        origin, places = as_utf8(origin), origin
        groups = groupby(zip(origin.paths, places.paths, strict=True), lambda pair: _shape(origin, pair[0]))
        return _joined([_scan_files(origin, places, list(pairs)) for _, pairs in groups])
    except SCAN_ERRORS as error:
        raise read_error(error, origin) from error


def schema_of(frame: pl.LazyFrame, origin: Source) -> pl.Schema:
    """The columns of a scanned file and their types."""
    try:
        return frame.collect_schema()
    except SCAN_ERRORS as error:
        raise read_error(error, origin) from error


def one_file(origin: Source, path: str) -> Source:
    """The source of one of several files."""
    return replace(origin, path=path, files=(), stamp=())


def refuse_lacking(origin: Source, columns: Sequence[str]) -> None:
    """Raise `DataError` that names the first of several files without one of `columns`."""
    for path in origin.files:
        names = [*scan(one_file(origin, path)).collect_schema(), *origin.partitions(path)]
        for column in columns:
            if column not in names:
                raise DataError(
                    f"{path} has no column '{column}', which other files of {origin.path} have: add it or "
                    f"leave the file out; its columns are {', '.join(names)}."
                )


def nested_keys(origin: Source) -> dict[str, pl.DataType]:
    """The keys of JSON lines some of whose values are objects or lists, with such a type."""
    if origin.format != "jsonl" or origin.remote:
        return {}
    found: set[tuple[str, bool]] = set()
    for path in as_utf8(origin).paths:
        found |= _json_facts(path, stamp_of(path))[1]
    return {key: pl.List(pl.Null) if is_list else pl.Struct([]) for key, is_list in sorted(found)}


def scan_lists(origin: Source) -> pl.LazyFrame:
    """The words of each line that has two or more, as the lists `words`."""
    words = pl.first().str.strip_chars().str.replace_all(r"\s+", " ").str.split(" ").alias("words")
    return scan_lines(origin).select(words).filter(pl.col("words").list.len() > 1)


def scan_lines(origin: Source) -> pl.LazyFrame:
    """One column, whose values are the lines."""
    if origin.remote:
        return pl.scan_lines(origin.path)
    for path in origin.paths:
        _check_local(path)
    return pl.scan_lines(list(as_utf8(origin).paths), glob=False)


def _check_local(path: str) -> None:
    if not Path(path).exists():
        raise DataError(f"There is no file {path}: check the path.")
    if is_empty(path):
        raise DataError(f"The file {path} is empty: give a file with interactions.")


def _shape(origin: Source, path: str) -> Any:
    """Consecutive files of the same shape are scanned together."""
    if origin.format == "lines":
        return None
    if origin.format == "jsonl":
        return head(path).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") or "array", *_json_keys(path)
    alone = _scan_alike(origin, [path])
    return tuple(alone.collect_schema().items())


def _scan_files(origin: Source, places: Source, pairs: list[tuple[str, str]]) -> pl.LazyFrame:
    """Files of one shape, with the columns that their folders name.

    `places`: the source before its files were translated to UTF-8, whose folders are meant.
    """
    frame = _scan_alike(origin, [path for path, _ in pairs])
    values = {path: places.partitions(place) for path, place in pairs}
    own = frame.collect_schema().names()
    added = [
        key for key in dict.fromkeys(key for found in values.values() for key in found) if key not in own
    ]
    if not added:
        return frame
    frame = _scan_alike(origin, [path for path, _ in pairs], _PLACE)
    paths = list(values)
    return frame.with_columns(
        pl.col(_PLACE)
        .replace_strict(paths, [values[path].get(key) for path in paths], return_dtype=pl.String)
        .alias(key)
        for key in added
    ).drop(_PLACE)


def _scan_alike(origin: Source, paths: list[str], place: str | None = None) -> pl.LazyFrame:
    if origin.format == "parquet":
        return pl.scan_parquet(paths, glob=False, hive_partitioning=False, include_file_paths=place)
    if origin.format == "jsonl":
        return _scan_json(paths, place)
    if origin.format == "lines":
        return _scan_words(origin)
    if origin.format == "movielens":
        lines = pl.scan_lines(paths, name="line", glob=False, include_file_paths=place)
        return _split_lines(lines, origin)
    return _scan_csv(origin, paths, place)


def _scan_csv(origin: Source, paths: str | list[str], place: str | None, **how: Any) -> pl.LazyFrame:
    frame = pl.scan_csv(
        paths,
        separator=origin.delimiter,
        has_header=origin.header,
        infer_schema=False,
        quote_char='"' if origin.delimiter not in "\t|" else None,
        glob=origin.remote,
        include_file_paths=place,
        **how,
    )
    return frame if origin.header else _name_by_position(frame)


def _split_lines(lines: pl.LazyFrame, origin: Source) -> pl.LazyFrame:
    """The fields of lines whose delimiter is longer than a character."""
    line = pl.col("line").str.strip_prefix("\ufeff").str.strip_suffix("\r")
    first = lines.select(line).filter(pl.col("line") != "").head(1).collect()
    names = str(first.item(0, 0)).split(origin.delimiter) if len(first) else [""]
    if not origin.header:
        names = [f"column_{position + 1}" for position in range(len(names))]
    fields = line.str.split_exact(origin.delimiter, len(names) - 1).struct.rename_fields(names)
    frame = lines.with_columns(fields.alias("line")).unnest("line")
    frame = frame.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in names)
    return frame.slice(1) if origin.header else _name_by_position(frame)


def _scan_words(origin: Source) -> pl.LazyFrame:
    words = pl.col("words").list
    pairs = scan_lists(origin).select(words.first().alias("user"), words.slice(1).alias("item"))
    return pairs.explode("item")


def _name_by_position(frame: pl.LazyFrame) -> pl.LazyFrame:
    present = [name for name in frame.collect_schema().names() if name != _PLACE]
    return frame.rename(dict(zip(present, HEADERLESS, strict=False)))


def _scan_json(paths: list[str], place: str | None) -> pl.LazyFrame:
    keys = _json_keys(paths[0])
    for path in paths[1:]:
        keys += tuple(key for key in _json_keys(path) if key not in keys)
    if all(_read_by_python(path) for path in paths):
        tables = [_python_json(path, stamp_of(path))[0] for path in paths]
        if place is not None:
            tables = [
                table.with_columns(pl.lit(path).alias(place))
                for table, path in zip(tables, paths, strict=True)
            ]
        return pl.concat(tables, how="diagonal").lazy()
    escaped = [path.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]") for path in paths]
    schema = dict.fromkeys(keys, pl.String)
    return pl.scan_ndjson(escaped, schema=schema, include_file_paths=place)


def _json_keys(path: str) -> tuple[str, ...]:
    return _json_facts(path, stamp_of(path))[0]


def _read_by_python(path: str) -> bool:
    """Whether a file is an array, or has numbers that are too wide for Polars."""
    return _json_facts(path, stamp_of(path))[2]


def _stamped(path: str) -> tuple[int, int]:
    facts = Path(path).stat()
    return facts.st_size, facts.st_mtime_ns


@lru_cache(maxsize=4096)
def _json_facts(path: str, stamp: tuple[int, int]) -> tuple[tuple[str, ...], Nested, bool]:
    """The keys of a JSON file, those with objects or lists, and whether Python reads it; a pass over it.

    Keys of inner objects are among them, and have no values.
    """
    if head(path).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        table, inner = _python_json(path, stamp)
        return tuple(table.columns), inner, True
    line = pl.first()
    keys = (
        pl.scan_lines(path, glob=False)
        .select(line.str.extract_all(_KEY).alias("key"))
        .explode("key")
        .group_by("key", maintain_order=True)
        .agg()
        .select(pl.col("key").str.extract_groups(_KEY).struct.rename_fields(["key", "opens"]))
        .unnest("key")
        .collect(engine="streaming")
        .drop_nulls("key")
    )
    wide = pl.scan_lines(path, glob=False).select(line.str.contains(_WIDE).any()).collect(engine="streaming")
    opening = keys.filter(pl.col("opens") != "").select("key", pl.col("opens") == "[")
    nested = frozenset(opening.rows())
    return tuple(keys["key"].unique(maintain_order=True)), nested, bool(wide.item())


@lru_cache(maxsize=8)
def _python_json(path: str, _stamp: tuple[int, int]) -> tuple[pl.DataFrame, Nested]:
    """The objects of a JSON array or of JSON lines, each value as text; and the keys with inner ones."""
    text = _text(path)
    if text.lstrip().startswith("["):
        objects = json.loads(text, parse_int=str)
    else:
        objects = [json.loads(line, parse_int=str) for line in text.splitlines() if line.strip()]
    if not all(isinstance(value, dict) for value in objects):
        raise DataError(f"{path} is not a list of JSON objects: give one object for each interaction.")
    rows = [{key: _json_text(value) for key, value in row.items()} for row in objects]
    names = dict.fromkeys(key for row in rows for key in row)
    inner = frozenset(
        (key, isinstance(value, list))
        for row in objects
        for key, value in row.items()
        if isinstance(value, dict | list)
    )
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String)), inner


def _text(path: str) -> str:
    with opened(path) as file:
        return file.read().decode("utf-8-sig")


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value) if not isinstance(value, float) else repr(value)


def _joined(parts: list[pl.LazyFrame]) -> pl.LazyFrame:
    """Frames one after the other: columns that a part lacks are null there, and types are unified."""
    if len(parts) == 1:
        return parts[0]
    schemas = [part.collect_schema() for part in parts]
    names = dict.fromkeys(name for schema in schemas for name in schema)
    target = {
        name: unified([s[name] for s in schemas if name in s and s[name] != pl.Null] or [pl.Null()])
        for name in names
    }
    cast = [
        part.select(
            as_unified(pl.col(name), dtype, target[name]).alias(name) for name, dtype in schema.items()
        )
        for part, schema in zip(parts, schemas, strict=True)
    ]
    return pl.concat(cast, how="diagonal")


def _scan_remote(origin: Source) -> pl.LazyFrame:
    """Polars lists and reads what lies in a storage; its first file says which columns there are."""
    where = remote_pattern(origin.path)
    if where.endswith("/"):
        where += "**/*"
    if where == origin.path and "*" not in where:
        return _scan_storage(origin, where, None)
    frame = _scan_storage(origin, where, _PLACE)
    first = str(frame.select(_PLACE).head(1).collect().item())
    own = frame.collect_schema()
    keys = [key for key in origin.partitions(first) if key not in own]
    return frame.with_columns(_partition(key).alias(key) for key in keys).drop(_PLACE)


def _partition(key: str) -> pl.Expr:
    """The value that the folders of a remote file give to `key`, as `Source.partitions` reads it."""
    value = pl.col(_PLACE).str.extract(f"/{re.escape(key)}=([^/]*)/", 1)
    return value.replace(NO_PARTITION, None).map_elements(unquote, return_dtype=pl.String)


def _scan_storage(origin: Source, where: str, place: str | None) -> pl.LazyFrame:
    how: dict[str, Any] = {"missing_columns": "insert", "extra_columns": "ignore"} if place else {}
    if origin.format == "parquet":
        return pl.scan_parquet(where, hive_partitioning=False, include_file_paths=place, **how)
    if origin.format == "jsonl":
        keys = pl.scan_lines(where).select(pl.first().str.extract_all(_KEY).explode().unique()).collect()
        named = keys.to_series().str.extract(_KEY, 1).drop_nulls().unique(maintain_order=True)
        schema = dict.fromkeys(named, pl.String)
        return pl.scan_ndjson(where, schema=schema, include_file_paths=place)
    if origin.format == "movielens":
        return _split_lines(pl.scan_lines(where, name="line", include_file_paths=place), origin)
    if origin.format == "lines":
        return _scan_words(origin)
    return _scan_csv(origin, where, place, **how)
