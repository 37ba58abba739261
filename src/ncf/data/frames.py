"""A table in memory as a data set: Polars, pandas and Arrow frames, mappings, NumPy arrays, sparse matrices.

In: a table. Out: what `prepare_file` gives for a file. The decision worth knowing: a frame passes through the
same reader as a file, so ids, times and their mistakes are read and told alike. No file is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse

from ncf.data.columns import guessed
from ncf.data.dataset import Dataset
from ncf.data.formats import FrameSource
from ncf.data.item_table import read_item_table
from ncf.data.options import PrepareOptions, refuse_unknown
from ncf.data.prepare import prepare_columns, provenance_of
from ncf.data.readers import read_columns
from ncf.data.report import PrepareReport
from ncf.errors import DataError

_BY_POSITION = ("user", "item", "time", "weight")
"""The columns of a NumPy array without names."""


def prepare_frame(
    table: Any, options: PrepareOptions | None = None, name: str = "interactions"
) -> tuple[Dataset, PrepareReport]:
    """Prepare a table in memory.

    Args:
        table: a Polars, pandas or Arrow frame, or any object with an Arrow stream; a mapping from names to
            columns; a NumPy array [N, 2 to 4] of user, item, time and weight, or a structured one; a SciPy
            sparse matrix [users, items], whose ids are its row and column numbers and whose values are
            weights.
        options: as for files; names of columns are those of the table.
        name: of the data set.

    Raises `DataError` for another kind of table, and what `prepare_file` raises.
    """
    options = options or PrepareOptions()
    frame = as_frame(table)
    if not len(frame):
        raise DataError("The table has no rows: give a table with interactions.")
    origin = FrameSource("the table", "parquet", "", True, frame=frame.lazy())
    columns = read_columns(origin, options.columns, options.needs)
    provenance = provenance_of(origin, len(columns.user), columns, name, read_item_table(options))
    return prepare_columns(columns, options, provenance)


def python_options(frame: pl.DataFrame, given: Mapping[str, Any]) -> PrepareOptions:
    """The `given` options; where `frame` has no times, and no split is named, with a random one."""
    for name in given:
        refuse_unknown(name)
    options = PrepareOptions(**given)
    if "split" in given or options.time is not None or options.no_time:
        return options
    has_times = guessed(frame.columns, "time") is not None
    return options if has_times else replace(options, split="random")


def as_frame(table: Any) -> pl.DataFrame:
    """The table as a Polars frame, without copying where its memory can be shared."""
    if isinstance(table, pl.LazyFrame):
        table = table.collect()
    if scipy.sparse.issparse(table):
        return _of_matrix(table)
    if isinstance(table, np.ndarray):
        return _of_array(table)
    if isinstance(table, Mapping):
        return _checked(lambda: pl.DataFrame({str(name): _series(values) for name, values in table.items()}))
    if isinstance(table, pl.DataFrame):
        frame = table
    elif type(table).__module__.partition(".")[0] == "pandas" and hasattr(table, "columns"):
        # Column by column, since pandas needs pyarrow for its Arrow stream.
        frame = _checked(lambda: pl.DataFrame({str(name): _series(table[name]) for name in table.columns}))
    elif hasattr(table, "__arrow_c_stream__"):
        frame = _checked(lambda: pl.DataFrame(table))
    else:
        raise _not_a_table(table)
    texts = [name for name, kind in frame.schema.items() if kind in (pl.Categorical, pl.Enum)]
    return frame.with_columns(pl.col(texts).cast(pl.String))


def _series(values: Any) -> pl.Series:
    """A column of a pandas frame or of a mapping; integers with gaps stay integers."""
    if type(values).__module__.partition(".")[0] != "pandas":
        return pl.Series(values)
    if str(values.dtype).startswith("datetime64") and getattr(values.dtype, "tz", None) is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    if values.dtype == object or str(values.dtype) in ("str", "string", "category") or _is_masked(values):
        plain = values.astype(object)
        return pl.Series(plain.where(plain.notna(), None).tolist(), strict=False)
    return pl.Series(values.to_numpy())


def _is_masked(values: Any) -> bool:
    """Whether a pandas column has its gaps apart from its values (`Int64`), which NumPy cannot hold."""
    return not isinstance(values.dtype, np.dtype) and bool(values.isna().any())


def _of_matrix(matrix: Any) -> pl.DataFrame:
    entries = scipy.sparse.coo_array(matrix)
    entries.sum_duplicates()
    entries.eliminate_zeros()
    users, items = entries.coords
    return pl.DataFrame(
        {
            "user": users.astype(np.int64),
            "item": items.astype(np.int64),
            "weight": np.asarray(entries.data, np.float32),
        }
    )


def _of_array(array: np.ndarray[Any, Any]) -> pl.DataFrame:
    if array.dtype.names is not None:
        return pl.DataFrame({name: array[name] for name in array.dtype.names})
    if array.ndim != 2 or not 2 <= array.shape[1] <= len(_BY_POSITION):
        raise DataError(
            f"A NumPy array of interactions has 2 to 4 columns (user, item, time, weight), not the shape "
            f"{array.shape}: give a mapping from names to columns instead."
        )
    return pl.DataFrame({_BY_POSITION[i]: pl.Series(array[:, i].tolist()) for i in range(array.shape[1])})


def _not_a_table(table: Any) -> DataError:
    return DataError(
        f"{type(table).__name__} is not a table of interactions: give a Polars, pandas or Arrow frame, a "
        "mapping from names to columns, a NumPy array or a SciPy sparse matrix; ncf.prepare_file reads files."
    )


def _checked(make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    try:
        return make()
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise DataError(f"The table cannot be read ({error}): give columns of one length and type.") from None
