"""The table of items: titles and other columns for display, joined to the items by their ids.

In: a file of any known format. Out: one row for each item. The decisions worth knowing: ids are read as those
of the interactions are, so `00042` finds `00042`. Every other value is read as text too; a column becomes
numbers only if no digit is lost. The id column is the first usual name under which any item is found, and a
table in which no item is found is an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from ncf.data.columns import GUESSES, find
from ncf.data.diagnosis import SCAN_ERRORS, read_error
from ncf.data.formats import PIPED, Format, Source, bare, source
from ncf.data.interactions import Int64
from ncf.data.options import PrepareOptions
from ncf.data.readers import frame_with_text
from ncf.data.scanning import nested_keys, scan, schema_of
from ncf.data.values import as_integer, as_integers, as_text, described, is_text, without_decimals
from ncf.data.vocabulary import Vocabulary
from ncf.errors import DataError

_NAMES = {
    "title": ("title", "movie_title", "name", "item_name"),
    "year": ("year", "release_year"),
    "genres": ("genres", "genre", "class", "category", "categories"),
}
_TEXTS = ("title", "genres")
OWN_COLUMNS = ("id", "popularity")
"""Columns of a prepared table of items that say nothing of the items' content."""
_HEADERLESS = ("item_id", "title", "genres")
"""What the columns of a table of items without a header are, by position."""
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_FLAGS_FROM = 5
_TITLE_AND_YEAR = r"^(.*) \((\d{4})\)$"


@dataclass(frozen=True)
class ItemTable:
    """A table of items as it was read. `label`: what the report calls it; `left_out`: columns not shown."""

    frame: pl.DataFrame
    label: str = "the table of items"
    left_out: tuple[str, ...] = field(default=())


def read_item_table(options: PrepareOptions) -> ItemTable | None:
    """The table of `options.items_file`, None without one: to be read before any long work."""
    return None if options.items_file is None else read_items(options.items_file, encoding=options.encoding)


def read_items(path: str | Path, format: Format | None = None, encoding: str | None = None) -> ItemTable:
    """Read a table of items; names lose RecBole's type suffixes. A defect of the file is a `DataError`."""
    origin = source(path, format, encoding=encoding)
    frame = scan(origin)
    schema = schema_of(frame, origin)
    names = {name: bare(name) for name in schema}
    if len(set(names.values())) == len(names):
        frame = frame.rename(names)
    schema = schema_of(frame, origin)
    ids = [name for name, dtype in schema.items() if dtype == pl.Binary and _looks_like_id(name)]
    frame = frame_with_text(frame, schema, ids, origin)
    try:
        table = frame.collect(engine="streaming")
    except SCAN_ERRORS as error:
        raise read_error(error, origin) from error
    origin.refuse_changed()
    nested = set(nested_keys(origin)) & set(table.columns)
    table = table.with_columns(pl.Series(name, map(_words, table[name]), pl.String) for name in nested)
    if not origin.header:
        table = _named_by_position(table, origin)
    if origin.format == "jsonl":  # keys of inner objects have no values
        table = table.select(name for name in table.columns if table[name].count())
    shown = [name for name in table.columns if not _cannot_be_shown(table.schema[name])]
    left_out = tuple(name for name in table.columns if name not in shown)
    return ItemTable(table.select(shown), origin.label, left_out)


def _words(text: str | None) -> str | None:
    """The values of a JSON list as words; other text as it is."""
    if text is None or not text.startswith("["):
        return text
    try:
        values = json.loads(text)
    except ValueError:
        return text
    return text if any(isinstance(value, dict | list) for value in values) else " ".join(map(str, values))


def film_table(lines: Sequence[str]) -> pl.DataFrame:
    """The films of MovieLens' `u.item`: id|title (year)|date||address|19 flags."""
    fields = (
        pl.Series("line", lines)
        .str.split("|")
        .list.to_struct(fields=[f"column_{position}" for position in range(1, _FLAGS_FROM + len(GENRES) + 1)])
    )
    return _films(fields.struct.unnest())


def _films(table: pl.DataFrame) -> pl.DataFrame:
    flags = table.columns[_FLAGS_FROM : _FLAGS_FROM + len(GENRES)]
    words = [
        pl.when(pl.col(flag) == "1").then(pl.lit(genre)) for flag, genre in zip(flags, GENRES, strict=False)
    ]
    genres = pl.concat_str(words, separator=" ", ignore_nulls=True) if words else pl.lit("")
    item, title = (pl.col(name) for name in table.columns[:2])
    return _with_year(table.select(item.alias("item_id"), title.alias("title"), genres.alias("genres")))


def _with_year(table: pl.DataFrame) -> pl.DataFrame:
    """MovieLens writes the year after the title, in brackets."""
    title = pl.col("title")
    year = title.str.extract(_TITLE_AND_YEAR, 2)
    bare_title = pl.coalesce(title.str.extract(_TITLE_AND_YEAR, 1), title)
    return table.with_columns(bare_title, year.alias("year"))


def _named_by_position(table: pl.DataFrame, origin: Source) -> pl.DataFrame:
    if Path(origin.path.removesuffix(".gz")).name in PIPED:
        return _films(table)
    given = dict(zip(table.columns, _HEADERLESS, strict=False))
    table = table.rename(given)
    if origin.format != "movielens" or "title" not in table.columns:
        return table
    if "genres" in table.columns:
        table = table.with_columns(pl.col("genres").str.replace_all("|", " ", literal=True))
    return _with_year(table)


def _looks_like_id(name: str) -> bool:
    return name.lower() in ("id", *GUESSES["item"])


def _cannot_be_shown(dtype: pl.DataType) -> bool:
    return dtype in (pl.Binary, pl.Null) or (described(dtype) is not None and not dtype.is_nested())


def item_columns(
    ids: pl.Series,
    popularity: Int64,
    table: ItemTable | None = None,
    id_name: str | None = None,
    source_name: str | None = None,
) -> tuple[pl.DataFrame, str | None]:
    """The columns of the items, [I] rows in the order of `ids`: `id`, `popularity` and those of `table`.

    `table`: a row for some items; its id column is `id_name`, or `source_name`, or one of the usual names.
    The usual names of a title, a year and genres become `title`, `year` and `genres`. Items that it lacks
    have nulls. Also returns a sentence with how many items were found; raises `DataError` if none was.
    """
    base = pl.DataFrame({"id": ids, "popularity": popularity})
    if table is None:
        return base, None
    items = Vocabulary.of_series(ids)
    if id_name is None:
        table = _with_first_line(table, items, source_name)
    key, rows = _best_key(items, table, id_name, source_name)
    matched = table.frame.drop(key).with_columns(pl.Series("_row", rows)).filter(pl.col("_row") >= 0)
    matched = matched.unique("_row", keep="first", maintain_order=True)
    wide = base.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("_row"))
    joined = wide.join(_renamed(matched), on="_row", how="left", maintain_order="left").drop("_row")
    what, found = ("titles", joined["title"].count()) if "title" in joined.columns else ("rows", len(matched))
    note = f"{what} for {found:,} of {len(ids):,} items from {table.label} (column {key})"
    return joined, note + (f"; not shown: {', '.join(table.left_out)}" if table.left_out else "")


def _candidates(frame: pl.DataFrame, source_name: str | None) -> list[str]:
    """The columns with a usual name of item ids, in the order in which they are tried."""
    names = (source_name, *GUESSES["item"], "id")
    found = [find(frame.columns, name) for name in names if name]
    return list(dict.fromkeys(column for column in found if column is not None))


def _with_first_line(table: ItemTable, items: Vocabulary, source_name: str | None) -> ItemTable:
    """The table with its first line as a row, if that line begins with an item's id instead of a name."""
    frame = table.frame
    texts = set(frame.dtypes) == {pl.String()}
    if not texts or _candidates(frame, source_name) or items.row(frame.columns[0]) < 0:
        return table
    first = pl.DataFrame({name: [name] for name in frame.columns})
    whole = pl.concat([first, frame])
    return replace(table, frame=whole.rename(dict(zip(whole.columns, _HEADERLESS, strict=False))))


def _best_key(
    items: Vocabulary, table: ItemTable, id_name: str | None, source_name: str | None
) -> tuple[str, Any]:
    """The id column and the row of each of its values; the first candidate under which an item is found."""
    frame = table.frame
    tried = {}
    named = find(frame.columns, id_name) if id_name else None
    for column in [named] if named else [] if id_name else _candidates(frame, source_name):
        tried[column] = items.rows(_ids(frame[column], table.label))
        if bool((tried[column] >= 0).any()):
            return column, tried[column]
    if not tried:
        what = f"no column '{id_name}'" if id_name else "no column that looks like the item id"
        other = (
            next((mark for mark in ";\t|" if mark in frame.columns[0]), None) if frame.width == 1 else None
        )
        if other:
            shown = "a tab" if other == "\t" else f"'{other}'"
            raise DataError(f"The fields of {table.label} are separated by {shown}: write it with commas.")
        raise DataError(
            f"There is {what} in {table.label}: name it with --items-id; the columns are "
            f"{', '.join(frame.columns)}."
        )
    column = next(iter(tried))
    there, here = (next(iter(ids), "nothing") for ids in (frame[column].drop_nulls(), items.series()))
    raise DataError(
        f"None of the {len(items):,} items is in {table.label}: its column '{column}' has ids such as "
        f"{there!r}, and the interactions such as {here!r}. Name the column of ids with --items-id."
    )


def _ids(column: pl.Series, label: str) -> pl.Series:
    """The values of an id column as those of interactions are read: integers, or text."""
    dtype, values = column.dtype, pl.col(column.name)
    if held := described(dtype):
        raise DataError(
            f"The column '{column.name}' of {label} holds {held}, and an id is an integer or a text: name "
            "another column with --items-id."
        )
    if not bool(column.to_frame().select(is_text(values, dtype).any()).item()):
        return column.to_frame().select(as_integer(values, dtype)).to_series()
    text = column.to_frame().select(as_text(values, dtype)).to_series()
    return text if as_integers(text.drop_nulls()) is None else without_decimals(text)


def _renamed(table: pl.DataFrame) -> pl.DataFrame:
    names = {}
    for target, candidates in _NAMES.items():
        name = next((found for name in candidates if (found := find(table.columns, name))), None)
        if name is not None and name != target and target not in table.columns:
            names[name] = target
    table = table.rename(names)
    table = table.drop([name for name in OWN_COLUMNS if name in table.columns])
    table = table.with_columns(_shown(table[name], name) for name in table.columns if name != "_row")
    first = [name for name in _NAMES if name in table.columns]
    return table.select([*first, *[name for name in table.columns if name not in first]])


def _shown(column: pl.Series, name: str) -> pl.Series:
    """A column for display: numbers, booleans and text; lists as words in one string, structs as JSON."""
    dtype = column.dtype
    if isinstance(dtype, pl.Array):
        column = column.arr.to_list()
    if isinstance(column.dtype, pl.List):
        inner = column.dtype.inner
        if inner is not None and inner.is_nested():
            texts = [None if v is None else json.dumps(v.to_list(), default=str) for v in column]
            return pl.Series(name, texts, pl.String)
        return column.cast(pl.List(pl.String)).list.join(" ")
    if isinstance(dtype, pl.Struct):
        return column.struct.json_encode()
    if dtype == pl.String:
        return column if name in _TEXTS else _lossless(column)
    if dtype.is_float():
        return column.set(~column.is_finite().fill_null(True), None)
    fits = dtype == pl.Boolean or (dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128))
    return column if fits and name not in _TEXTS else column.cast(pl.String)


def _lossless(column: pl.Series) -> pl.Series:
    """Text as integers, or as floats, where every value is written as that number would be."""
    for dtype in (pl.Int64, pl.Float64):
        numbers = column.cast(dtype, strict=False)
        if (
            column.count()
            and numbers.null_count() == column.null_count()
            and (
                numbers.is_finite().fill_null(True).all()
                and numbers.cast(pl.String).equals(column.rename(numbers.name))
            )
        ):
            return numbers
    return column
