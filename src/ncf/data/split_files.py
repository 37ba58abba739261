"""A published split in two files, training and test, with any number of test items a user and no lists.

In: two files, each a table of pairs or lines of "user item item ...". Out: the `Dataset` and its report. The
decisions worth knowing: a file whose name ends in .txt, or in no known suffix, holds lines; one that looks
like a table all the same is refused. The test is ranked among the whole catalogue, so no lists are drawn, and
validation takes a share of each user's items, as the test does.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ncf.data.dataset import Dataset
from ncf.data.diagnosis import SCAN_ERRORS, read_error
from ncf.data.encode import refuse_trivial
from ncf.data.finalize import Provenance, build_dataset
from ncf.data.formats import Source, is_known, source
from ncf.data.interactions import HeldOut, Interactions, latest
from ncf.data.item_table import read_item_table
from ncf.data.options import PrepareOptions
from ncf.data.published import refuse_what_does_not_apply, tables_of, usable_times, validation_scheme
from ncf.data.readers import Columns, read_columns
from ncf.data.report import PrepareReport
from ncf.data.scanning import scan_lists
from ncf.data.splits import generator_for, hold_out_share
from ncf.data.tables import SplitTables
from ncf.data.vocabulary import alike, encode
from ncf.errors import ConfigError, DataError


def prepare_split_files(
    train: str | Path, test: str | Path, options: PrepareOptions | None = None, name: str | None = None
) -> tuple[Dataset, PrepareReport]:
    """Prepare a published split of two files, for evaluation by the full ranking.

    `train`, `test`: paths or s3:// URIs; `name`: the data set's, by default the start of the training
    file's. Raises `ConfigError` for options that do not apply and `DataError` for files that cannot be used.
    """
    options = options or PrepareOptions()
    refuse_what_does_not_apply(options)
    if options.negatives != PrepareOptions.negatives:
        raise ConfigError(
            "--negatives cannot be used with --test, which is ranked among the whole catalogue: leave it out."
        )
    origins = [_origin(path, options) for path in (train, test)]
    trained, tested = (read_columns(origin, options.columns) for origin in origins)
    label = origins[0].label
    facts: dict[str, Any] = {
        "source": {
            "kind": "published split",
            "from": f"{label} and {origins[1].label}",
            "rows": len(trained.user) + len(tested.user),
        },
        "time_unit": trained.time_unit,
        "protocol": "full ranking",
    }
    provenance = Provenance(name or label.split(".")[0], facts, read_item_table(options))
    tables = _encoded(trained, tested, options)
    refuse_trivial(len(tables.users), len(tables.items))
    return build_dataset(_with_validation(tables, options), options, provenance)


def _origin(path: str | Path, options: PrepareOptions) -> Source:
    """How to read one of the files: as the options or its suffix say, else as lines."""
    if is_known(path) or options.format or options.delimiter or options.header is not None:
        return source(path, options.format, options.delimiter, options.header, options.encoding)
    origin = source(path, "lines", encoding=options.encoding)
    _refuse_table(origin)
    return origin


def _refuse_table(origin: Source) -> None:
    """Raise `DataError` for a file that was taken for lines but looks like a table."""
    words = pl.col("words").list
    line = words.join(" ")
    facts = scan_lists(origin).select(
        pl.len().alias("lines"),
        words.first().n_unique().alias("users"),
        words.len().min().alias("least"),
        words.len().max().alias("most"),
        line.first().str.contains(r"\b\d+\b").alias("first_has_numbers"),
        line.slice(1).str.contains(r"^[\d ]+$").all().alias("rest_is_numbers"),
    )
    try:
        seen = facts.collect().row(0, named=True)
    except SCAN_ERRORS as error:
        raise read_error(error, origin) from error
    how = "--format lines for lines of 'user item item …', or --format csv with --delimiter and --no-header"
    if seen["lines"] > 1 and not seen["first_has_numbers"] and seen["rest_is_numbers"]:
        raise DataError(f"The first line of {origin.path} looks like names of columns: give {how}.")
    if seen["users"] < seen["lines"] and seen["least"] == seen["most"] > 2:
        raise DataError(
            f"{origin.path} looks like a table: each line has {seen['most']} fields, and users have several "
            f"lines. Give {how}."
        )


def _encoded(train: Columns, test: Columns, options: PrepareOptions) -> SplitTables:
    """Both files in rows of common vocabularies. Items and users of the test alone stay, cold."""
    dropped = 0
    users_of, items_of = alike(train.user, test.user), alike(train.item, test.item)
    if options.drop_unknown_users:
        kept = users_of[1].is_in(users_of[0].unique().implode())
        dropped = users_of[1].filter(~kept).n_unique()
        users_of, items_of = [users_of[0], users_of[1].filter(kept)], [items_of[0], items_of[1].filter(kept)]
    users, user_rows = encode(pl.concat(users_of), train.names["user"])
    items, item_rows = encode(pl.concat(items_of), train.names["item"])
    size = len(train.user)
    trained = Interactions(user_rows[:size], item_rows[:size], usable_times(train.time))
    tested = Interactions(user_rows[size:], item_rows[size:])
    distinct = latest(tested.user_rows, tested.item_rows, len(items))
    tables = tables_of(users, items, trained, tested.take(distinct))
    counts = {"test_duplicates": len(tested) - len(distinct), "unknown_test_users": dropped}
    return replace(tables, dropped=tables.dropped | counts)


def _with_validation(tables: SplitTables, options: PrepareOptions) -> SplitTables:
    """Move a share of each user's training positives to the validation, as `options` ask."""
    how = {**tables.how, "validation": "none", "notes": [], "validation_lists": "none", "test_lists": "none"}
    scheme, share = validation_scheme(tables.train, options), options.validation_fraction
    if scheme == "none":
        return replace(tables, how=how)
    train, counts = tables.train, tables.train.user_counts(len(tables.users))
    generator = generator_for(options.seed, "validation split")
    exponent = options.validation_popularity_exponent
    held_out = np.zeros(len(train), bool)
    held_out[hold_out_share(train, len(tables.users), scheme, share, generator, exponent)] = True
    validation = train.take(held_out)
    whole = int(((counts > 0) & (validation.user_counts(len(tables.users)) == 0)).sum())
    if not len(validation):
        raise DataError(
            f"No user has items enough to hold {share:.0%} of them out: give more data, or use --validation "
            "none."
        )
    names = {"last": "the latest", "random": "random"}
    how["validation"] = f"{names[scheme]} {share:.0%} of each user's items, rounded half up"
    if whole:
        how["notes"] = [f"{whole:,} users have too few items for that and stay in training whole"]
    return replace(tables, train=train.take(~held_out), validation=HeldOut.without_lists(validation), how=how)
