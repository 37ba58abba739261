"""Tables of interactions from files: CSV, TSV, Parquet, JSON lines, RecBole, MovieLens and NCF, local or on
s3://.

In: a path and, if they cannot be guessed, the names of the columns. Out: `Columns`: ids not yet turned into
rows, times, ratings, weights. The decision worth knowing: text is scanned lazily as strings and each column
is cast in the same pass, so nothing is inferred from the first rows, `007` stays `007`, and a value that does
not fit is found again with its line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ncf.errors import DataError

Format = Literal["csv", "parquet", "jsonl", "movielens"]

GUESSES = {
    "user": (
        "user",
        "user_id",
        "userid",
        "uid",
        "visitorid",
        "visitor_id",
        "customer_id",
        "customerid",
        "reviewerid",
    ),
    "item": (
        "item",
        "item_id",
        "itemid",
        "iid",
        "movieid",
        "movie_id",
        "product_id",
        "productid",
        "asin",
        "artist_id",
    ),
    "time": ("timestamp", "time", "ts", "unixreviewtime", "event_time", "date", "datetime", "created_at"),
    "rating": ("rating", "ratings", "score", "stars", "overall"),
}
HEADERLESS = ["user", "item", "rating", "timestamp"]
TIME_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.fZ",
    "%Y-%m-%d %H:%M:%S%.f UTC",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S",
)
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
_TRUE_INTEGER = r"^-?[0-9]+$"


@dataclass(frozen=True)
class Source:
    """A file and how to read it. `header` False: the columns are user, item, rating, timestamp, in this
    order.
    """

    path: str
    format: Format
    delimiter: str
    header: bool

    @property
    def remote(self) -> bool:
        return "://" in self.path


@dataclass(frozen=True)
class ColumnNames:
    """The names in the file; None: guess it (user, item, time, rating) or leave it out (weight)."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    weight: str | None = None


@dataclass(frozen=True)
class Columns:
    """The columns of a file, each [N] and without gaps.

    `user`, `item`: Int64, or Categorical where they are text; `time`: Int64 or None; `rating`, `weight`:
    Float32 or None; `time_unit`: "as given" or "microseconds"; `names`: what each was called in the file.
    """

    user: pl.Series
    item: pl.Series
    time: pl.Series | None
    rating: pl.Series | None
    weight: pl.Series | None
    time_unit: str
    names: dict[str, str]


def source(path: str | Path, format: Format | None = None, delimiter: str | None = None,
           header: bool | None = None) -> Source:  # fmt: skip
    """How to read `path`, by its suffix (before `.gz`); what is given explicitly wins."""
    text = str(path)
    plain = text[: -len(".gz")] if text.endswith(".gz") else text
    guess = _SUFFIXES.get(Path(plain).suffix.lower())
    if guess is None and format is None and delimiter is None:
        raise DataError(
            f"The format of {text} is not known by its name: it must end in one of {', '.join(_SUFFIXES)} "
            "(also with .gz), or give --format or --delimiter."
        )
    kind, separator, has_header = guess or ("csv", ",", True)
    if format is not None and format != kind:
        kind, separator, has_header = format, {"movielens": "::"}.get(format, ","), format != "movielens"
    if delimiter is not None:
        kind, separator = ("movielens" if len(delimiter) > 1 else "csv"), delimiter
    return Source(text, kind, separator, has_header if header is None else header)


def read_columns(origin: Source, names: ColumnNames, need_time: bool = False) -> Columns:
    """Read the columns that training needs; every defect of the file is a `DataError` sentence."""
    frame = scan(origin)
    schema = _schema(frame, origin)
    found = _resolve(schema, names, origin, need_time)
    with_ids = _Plan(origin, frame, schema, found)
    return with_ids.collect()


def read_table(path: str | Path, format: Format | None = None, delimiter: str | None = None) -> pl.DataFrame:
    """A whole small table, as it is, with RecBole's type suffixes taken off the names."""
    origin = source(path, format, delimiter)
    try:
        table = scan(origin, infer=True).collect()
    except Exception as error:
        raise _read_error(error, origin) from error
    return table.rename({name: _bare(name) for name in table.columns})


def scan(origin: Source, infer: bool = False) -> pl.LazyFrame:
    """The file as a lazy frame; text formats have String columns unless `infer`."""
    if not origin.remote:
        _check_local(origin.path)
    try:
        if origin.format == "parquet":
            return pl.scan_parquet(origin.path)
        if origin.format == "jsonl":
            return pl.scan_ndjson(origin.path, infer_schema_length=1000)
        if origin.format == "movielens":
            return _scan_long_delimiter(origin)
        return _scan_csv(origin, infer)
    except Exception as error:
        raise _read_error(error, origin) from error


def _check_local(path: str) -> None:
    if not Path(path).exists():
        raise DataError(f"There is no file {path}: check the path.")
    if Path(path).is_dir():
        raise DataError(f"{path} is a folder, not a file of interactions: give the file itself.")
    if Path(path).stat().st_size == 0:
        raise DataError(f"The file {path} is empty: give a file with interactions.")


def _scan_csv(origin: Source, infer: bool) -> pl.LazyFrame:
    frame = pl.scan_csv(
        origin.path,
        separator=origin.delimiter,
        has_header=origin.header,
        infer_schema=infer,
        infer_schema_length=10_000,
        quote_char='"' if origin.delimiter != "\t" else None,
    )
    return frame if origin.header else _name_by_position(frame)


def _scan_long_delimiter(origin: Source) -> pl.LazyFrame:
    lines = pl.scan_csv(
        origin.path,
        has_header=False,
        separator="\x01",
        quote_char=None,
        infer_schema=False,
        encoding="utf8-lossy",
    )
    first = lines.head(1).collect().item(0, 0)
    width = str(first).count(origin.delimiter) + 1
    line = lines.collect_schema().names()[0]
    fields = pl.col(line).str.split_exact(origin.delimiter, width - 1)
    named = fields.struct.rename_fields([f"column_{position}" for position in range(width)])
    frame = lines.select(named.alias("fields")).unnest("fields")
    return _name_by_position(frame)


def _name_by_position(frame: pl.LazyFrame) -> pl.LazyFrame:
    present = frame.collect_schema().names()
    return frame.rename(dict(zip(present, HEADERLESS, strict=False)))


def _schema(frame: pl.LazyFrame, origin: Source) -> pl.Schema:
    try:
        return frame.collect_schema()
    except Exception as error:
        raise _read_error(error, origin) from error


def _bare(name: str) -> str:
    return name.split(":", 1)[0].strip()


def _resolve(schema: pl.Schema, names: ColumnNames, origin: Source, need_time: bool) -> dict[str, str]:
    """Purpose (user, item, time, rating, weight) -> the column of the file."""
    found = {}
    for purpose in ("user", "item", "time", "rating", "weight"):
        wanted: str | None = getattr(names, purpose)
        column = _match(schema, (wanted,)) if wanted else _match(schema, GUESSES.get(purpose, ()))
        required = wanted is not None or purpose in ("user", "item") or (purpose == "time" and need_time)
        if column is None and required:
            raise DataError(_no_column(purpose, wanted, schema, origin))
        if column is not None:
            found[purpose] = column
    if found["user"] == found["item"]:
        raise DataError(
            f"The user and the item cannot both be the column '{found['user']}': name two columns."
        )
    return found


def _match(schema: pl.Schema, wanted: tuple[str, ...]) -> str | None:
    exact = {name: name for name in schema}
    bare = {_bare(name): name for name in reversed(list(schema))}
    lower = {_bare(name).lower(): name for name in reversed(list(schema))}
    for name in wanted:
        for table, key in ((exact, name), (bare, name), (lower, name.lower())):
            if key in table:
                return table[key]
    return None


def _no_column(purpose: str, wanted: str | None, schema: pl.Schema, origin: Source) -> str:
    what = f"There is no column '{wanted}'" if wanted else f"No column looks like the {purpose}"
    return (
        f"{what} in {origin.path}: name it with --{purpose}; the columns are {', '.join(map(_bare, schema))}."
    )


class _Plan:
    """One pass over the file that casts the columns, and the search for the line if a value did not fit."""

    def __init__(self, origin: Source, frame: pl.LazyFrame, schema: pl.Schema, found: dict[str, str]) -> None:
        self.origin, self.frame, self.schema, self.found = origin, frame, schema, found
        self.time_format = self._guess_time_format()

    def collect(self) -> Columns:
        collected = self._run(self._expressions(text_ids=set()))
        text_ids = {purpose for purpose in ("user", "item") if self._must_be_text(collected, purpose)}
        if text_ids:
            del collected
            collected = self._run(self._expressions(text_ids))
        if not len(collected):
            raise DataError(f"The file {self.origin.path} has no rows: give a file with interactions.")
        for purpose in self.found:
            self._refuse_gaps(collected[purpose], purpose)
        return self._columns(collected)

    def _run(self, expressions: list[pl.Expr]) -> pl.DataFrame:
        try:
            return self.frame.select(expressions).collect(engine="streaming")
        except Exception as error:
            raise _read_error(error, self.origin) from error

    def _expressions(self, text_ids: set[str]) -> list[pl.Expr]:
        expressions = []
        for purpose in ("user", "item"):
            column, dtype = pl.col(self.found[purpose]), self.schema[self.found[purpose]]
            if purpose in text_ids:
                expressions.append(column.cast(pl.String).cast(pl.Categorical).alias(purpose))
            else:
                expressions.append(_integer(column, dtype).alias(purpose))
                expressions.append(_is_text(column, dtype).alias(f"{purpose}_is_text"))
        if "time" in self.found:
            expressions.append(self._time().alias("time"))
        numbers = [purpose for purpose in ("rating", "weight") if purpose in self.found]
        return expressions + [
            pl.col(self.found[purpose]).cast(pl.Float32, strict=False).alias(purpose) for purpose in numbers
        ]

    def _must_be_text(self, collected: pl.DataFrame, purpose: str) -> bool:
        return bool(collected[f"{purpose}_is_text"].any())

    def _guess_time_format(self) -> str:
        """How the time column is written: "integer", "float", "datetime", or a strptime format."""
        column = self.found.get("time")
        if column is None:
            return "none"
        dtype = self.schema[column]
        if dtype.is_integer():
            return "integer"
        if dtype.is_temporal():
            return "datetime"
        if dtype.is_float():
            return self._float_or_integer(column)
        try:
            head = self.frame.select(pl.col(column).cast(pl.String)).head(1000).collect()[column].drop_nulls()
        except Exception as error:
            raise _read_error(error, self.origin) from error
        if bool(head.str.contains(_TRUE_INTEGER).all()):
            return "integer"
        if not head.cast(pl.Float64, strict=False).null_count():
            return self._float_or_integer(column)
        for candidate in TIME_FORMATS:
            if not head.str.to_datetime(candidate, strict=False).null_count():
                return candidate
        return "integer"

    def _float_or_integer(self, column: str) -> str:
        """Whole numbers written as floats keep their unit; fractions of a second become microseconds."""
        number = pl.col(column).cast(pl.Float64, strict=False)
        try:
            fractions = self.frame.select((number != number.round()).any()).collect(engine="streaming").item()
        except Exception as error:
            raise _read_error(error, self.origin) from error
        return "float" if fractions else "whole"

    def _time(self) -> pl.Expr:
        column = pl.col(self.found["time"])
        if self.time_format == "integer":
            return column.cast(pl.Int64, strict=False)
        if self.time_format == "datetime":
            return column.cast(pl.Datetime("us")).cast(pl.Int64)
        if self.time_format in ("whole", "float"):
            number = column.cast(pl.Float64, strict=False).fill_nan(None)
            scaled = number if self.time_format == "whole" else number * 1e6
            return scaled.round().cast(pl.Int64, strict=False)
        parsed = column.str.to_datetime(self.time_format, time_unit="us", strict=False)
        return parsed.dt.replace_time_zone(None).cast(pl.Int64)

    def _refuse_gaps(self, values: pl.Series, purpose: str) -> None:
        """Missing values, text where a number is due, NaN and negative times."""
        bad = values.null_count() > 0
        if values.dtype.is_float():
            bad = bad or not bool(values.is_finite().all())
        if purpose == "time" and not bad:
            bad = int(values.min()) < 0  # type: ignore[arg-type]
        if bad:
            raise DataError(self._sentence(values, purpose))

    def _sentence(self, values: pl.Series, purpose: str) -> str:
        wrong = values.is_null()
        if values.dtype.is_float():
            wrong = wrong | ~values.is_finite().fill_null(True)
        if purpose == "time":
            wrong = wrong | (values < 0).fill_null(False)
        row = int(wrong.arg_true()[0])
        count = int(wrong.sum())
        try:
            raw = self.frame.select(pl.col(self.found[purpose])).slice(row, 1).collect().item()
        except pl.exceptions.PolarsError:
            raw = None
        where = f"row {row + 1:,} of {self.origin.path}"
        if self.origin.format in ("csv", "movielens"):
            where = f"line {row + 1 + self.origin.header:,} of {self.origin.path}"
        return _gap_sentence(purpose, _bare(self.found[purpose]), raw, where, count)

    def _columns(self, collected: pl.DataFrame) -> Columns:
        def optional(name: str) -> pl.Series | None:
            return collected[name] if name in collected.columns else None

        return Columns(
            user=collected["user"],
            item=collected["item"],
            time=optional("time"),
            rating=optional("rating"),
            weight=optional("weight"),
            time_unit="as given" if self.time_format in ("integer", "whole", "none") else "microseconds",
            names={purpose: _bare(column) for purpose, column in self.found.items()},
        )


def _integer(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """The column as Int64; null where that is not possible."""
    if dtype.is_float():
        return pl.when(column.round() == column).then(column).cast(pl.Int64, strict=False)
    return column.cast(pl.Int64, strict=False)


def _is_text(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Whether a value is an id that an integer cannot carry: text, or a number with leading zeros or a plus
    sign.
    """
    if dtype == pl.String:
        not_canonical = (column.str.starts_with("0") & (column.str.len_bytes() > 1)) | column.str.starts_with(
            "+"
        )
        not_canonical = not_canonical | column.str.starts_with("-0")
        no_number = column.is_not_null() & column.cast(pl.Int64, strict=False).is_null()
        return (not_canonical | no_number).fill_null(False)
    if dtype.is_integer() and dtype != pl.UInt64:
        return pl.lit(False)
    if dtype.is_float():
        return pl.lit(False)
    return column.is_not_null()


def _gap_sentence(purpose: str, column: str, raw: Any, where: str, count: int) -> str:
    rows = f"{count:,} row{'s' if count > 1 else ''} in all"
    if raw is None:
        return (
            f"The {purpose} (column '{column}') is missing in {where} ({rows}): the file may be cut off; "
            "complete or remove those rows."
        )
    if isinstance(raw, float) and raw != raw:
        return f"The {purpose} (column '{column}') is NaN in {where} ({rows}): remove those rows."
    if purpose == "time" and _is_number(raw):
        return (
            f"The time (column '{column}') is {raw} in {where} ({rows}): times must be numbers from 0 on; "
            "correct or remove those rows."
        )
    due = "a number or an ISO date" if purpose == "time" else "a number"
    if purpose in ("user", "item"):
        due = "an id"
    return (
        f"The {purpose} (column '{column}') is '{raw}' in {where} ({rows}), where {due} is due: "
        "correct those rows."
    )


def _is_number(raw: Any) -> bool:
    try:
        float(raw)
    except (TypeError, ValueError):
        return not isinstance(raw, str)
    return True


def _read_error(error: Exception, origin: Source) -> DataError:
    """The sentence for whatever the reader met."""
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
