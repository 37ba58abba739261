"""Lists of ids, such as the users of a batch: read as tables of interactions are.

In: a file of one id a line, or a table with a column of ids, in any known format; or the rows of CSV that
were read elsewhere. Out: the ids in order. The decision worth knowing: a first line is a heading if one of
its cells is a usual name of that column, or the name that it had in the data, in any case of letters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ncf.data.columns import find, guessed, is_heading
from ncf.data.diagnosis import SCAN_ERRORS, read_error
from ncf.data.encodings import as_utf8
from ncf.data.formats import Source, bare, is_known, opened, source
from ncf.data.readers import frame_with_text
from ncf.data.scanning import scan, schema_of
from ncf.data.values import as_integers, as_text, described
from ncf.errors import DataError

Id = int | str


def read_ids(
    path: str | Path, purpose: str = "user", name: str | None = None, encoding: str | None = None
) -> list[Id]:
    """The ids of a file: integers if all are, else texts.

    `purpose`: "user" or "item"; `name`: of that column in the data. Raises `DataError` for a file that cannot
    be read, has several columns and no heading, or has no ids.
    """
    text = str(path)
    origin = source(text, None if is_known(text) else "csv", header=_has_names(text), encoding=encoding)
    ids = _json_ids(origin, purpose, name) if origin.format == "jsonl" else _table_ids(origin, purpose, name)
    origin.refuse_changed()
    texts = pl.Series([id.strip() for id in ids], dtype=pl.String)
    texts = texts.filter(texts != "")
    if not len(texts):
        raise DataError(f"The file {path} is empty: give one {purpose} id a line.")
    integers = as_integers(texts)
    return list(texts if integers is None else integers)


def ids_of_rows(rows: Sequence[Sequence[str]], purpose: str = "user", name: str | None = None) -> list[str]:
    """The ids in rows of cells, whose first may be a heading; raises `ValueError` with what is wrong."""
    filled = [(number, row) for number, row in enumerate(rows, 1) if any(cell.strip() for cell in row)]
    if not filled:
        return []
    heading = next(
        (n for n, cell in enumerate(filled[0][1]) if is_heading(cell.strip(), purpose, name)), None
    )
    column = heading or 0
    ids = []
    for number, row in filled if heading is None else filled[1:]:
        if heading is None and len(row) > 1:
            raise ValueError(f"line {number} has {len(row)} cells and there is no heading {purpose}_id")
        if len(row) <= column:
            raise ValueError(f"line {number} has no column {filled[0][1][column].strip()}")
        if not row[column].strip():
            raise ValueError(f"line {number} has no {purpose}_id")
        ids.append(row[column].strip())
    return ids


def _has_names(path: str) -> bool:
    """Parquet names its columns; the first line of text may be a heading or an id."""
    return Path(path.removesuffix(".gz")).suffix in (".parquet", ".pq")


def _table_ids(origin: Source, purpose: str, name: str | None) -> list[str]:
    frame = scan(origin)
    schema = schema_of(frame, origin)
    if origin.format != "parquet":
        table = _collected(frame, origin)
        try:
            return ids_of_rows([[cell or "" for cell in row] for row in table.rows()], purpose, name)
        except ValueError as error:
            raise DataError(
                f"The file {origin.path} cannot be read ({error}): give one id a line, or a table with a "
                f"column {purpose}_id."
            ) from None
    column = (find(schema, name) if name else None) or guessed(schema, purpose)
    column = column or (next(iter(schema)) if len(schema) == 1 else None)
    if column is None or described(schema[column]):
        raise DataError(
            f"The file {origin.path} has no column {purpose}_id with ids: name one so; its columns are "
            f"{', '.join(schema)}."
        )
    table = _collected(frame_with_text(frame, schema, [column], origin).select(column), origin)
    values = table.select(as_text(pl.col(column), table.schema[column])).to_series()
    return values.drop_nulls().to_list()


def _collected(frame: pl.LazyFrame, origin: Source) -> pl.DataFrame:
    try:
        return frame.collect()
    except SCAN_ERRORS as error:
        raise read_error(error, origin) from error


def _json_ids(origin: Source, purpose: str, name: str | None) -> list[str]:
    """An array, or lines, of ids or of objects with one."""
    ids: list[str] = []
    for path in as_utf8(origin).paths:
        try:
            with opened(path) as file:
                text = file.read().decode("utf-8-sig")
            if text.lstrip().startswith("["):
                values = list(enumerate(json.loads(text), 1))
            else:
                values = [
                    (n, json.loads(line)) for n, line in enumerate(text.splitlines(), 1) if line.strip()
                ]
            ids += [_json_id(number, value, purpose, name) for number, value in values]
        except (OSError, ValueError) as error:
            raise DataError(
                f'The file {path} cannot be read ({error}): give JSON lines such as {{"{purpose}_id": 42}}.'
            ) from None
    return ids


def _json_id(number: int, value: Any, purpose: str, name: str | None) -> str:
    if isinstance(value, dict):
        value = next((value[key] for key in value if is_heading(bare(key), purpose, name)), None)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"line {number} has no {purpose}_id that is a number or a text")
    return str(value)
