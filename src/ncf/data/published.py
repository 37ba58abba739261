"""A published split: train pairs, test pairs and the candidate list of each test pair, to a `Dataset`.

In: the three files PREFIX.train.rating, .test.rating, .test.negative of He et al. 2017. Out:
`PublishedSplit`, still in ids, or the `Dataset` and its report. The decisions worth knowing: the lists are
kept in their order, defects included, because figures are comparable only under the same lists; `audit`
counts the defects. Items that only the test or the lists mention stay, as cold items. So do users that only
the test has, unless the caller drops them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ncf.data.candidates import with_candidates, with_published_lists
from ncf.data.columns import ColumnNames
from ncf.data.dataset import Dataset
from ncf.data.diagnosis import SCAN_ERRORS, read_error
from ncf.data.encode import refuse_trivial
from ncf.data.finalize import Provenance, build_dataset
from ncf.data.formats import source
from ncf.data.interactions import Csr, HeldOut, Int64, Interactions, latest, pair_keys
from ncf.data.options import PrepareOptions
from ncf.data.readers import Columns, read_columns
from ncf.data.report import PrepareReport
from ncf.data.scanning import scan_lines
from ncf.data.splits import describe_ineligible, generator_for, hold_out, validation_name
from ncf.data.tables import SplitTables
from ncf.data.vocabulary import Vocabulary
from ncf.errors import ConfigError, DataError


@dataclass(frozen=True)
class PublishedSplit:
    """Ids, all int64: `train_users`, `train_items`, `train_times` [N]; `test_users`, `test_items` [T];
    `negatives` [T, K], or None if they have to be drawn. `train_times` is None where the file has no usable
    times.
    """

    train_users: Int64
    train_items: Int64
    train_times: Int64 | None
    test_users: Int64
    test_items: Int64
    negatives: Int64 | None


def read_triple(prefix: str | Path) -> PublishedSplit:
    """Read PREFIX.train.rating, PREFIX.test.rating and PREFIX.test.negative, each plain or with .gz."""
    train = _read_rating(_existing(f"{prefix}.train.rating"))
    test = _read_rating(_existing(f"{prefix}.test.rating"))
    path = _existing(f"{prefix}.test.negative")
    test_users, test_items = _integers(test.user, path), _integers(test.item, path)
    return PublishedSplit(
        _integers(train.user, f"{prefix}.train.rating"),
        _integers(train.item, f"{prefix}.train.rating"),
        usable_times(train.time),
        test_users,
        test_items,
        _read_negatives(path, test_users, test_items),
    )


def usable_times(time: pl.Series | None) -> Int64 | None:
    """The times, or None where all are the same and so say nothing about the order."""
    if time is None or len(time) == 0 or time.min() == time.max():
        return None
    return time.to_numpy()


def _existing(path: str) -> str:
    if "://" in path:
        return path
    for candidate in (path, f"{path}.gz"):
        if Path(candidate).exists():
            return candidate
    raise DataError(
        f"There is no file {path} (nor {path}.gz): a published split needs PREFIX.train.rating, "
        "PREFIX.test.rating and PREFIX.test.negative."
    )


def _read_rating(path: str) -> Columns:
    return read_columns(source(path, delimiter="\t", header=False), ColumnNames("user", "item"))


def _integers(series: pl.Series, path: str) -> Int64:
    if not series.dtype.is_integer():
        raise DataError(
            f"{path} has an id that is not an integer: published splits are numbered with integers."
        )
    return series.to_numpy()


def _read_negatives(path: str, test_users: Int64, test_items: Int64) -> Int64:
    """[T, K] int64, a line each: `(user,item)` and the negatives, separated by tabs.

    A tab at the end of a line and blank lines at the end of the file are passed over.
    """
    origin = source(path, format="lines")
    fields = pl.first().str.strip_chars().str.split("\t").alias("fields")
    try:
        lines = scan_lines(origin).select(fields).collect()["fields"]
    except SCAN_ERRORS as error:
        raise read_error(error, origin) from error
    blank = lines.list.join("") == ""
    lines = lines.head(int((~blank).arg_true()[-1]) + 1 if not bool(blank.all()) else 0)
    if len(lines) != len(test_users):
        raise DataError(
            f"{path} has {len(lines):,} lines and the test file has {len(test_users):,}: the file may be "
            "cut off, or the two do not belong together."
        )
    _check_heads(lines.list.first(), test_users, test_items, path)
    numbers = lines.list.slice(1).list.eval(pl.element().cast(pl.Int64, strict=False))
    counts = numbers.list.drop_nulls().list.len()
    due = int(counts.mode().sort()[-1])
    wrong = (counts != due) | (numbers.list.len() != due)
    if bool(wrong.any()):
        line = int(wrong.arg_true()[0])
        raise DataError(
            f"Line {line + 1:,} of {path} has {counts[line]:,} negatives and {due:,} are due, as in the "
            "other lines: complete it, or remove what is no number."
        )
    return numbers.explode().to_numpy().reshape(len(lines), -1)


def _check_heads(head: pl.Series, test_users: Int64, test_items: Int64, path: str) -> None:
    pairs = head.str.extract_groups(r"^\((-?\d+),\s*(-?\d+)\)$").struct.unnest().cast(pl.Int64)
    users, items = pairs.to_series(0), pairs.to_series(1)
    same = (users == pl.Series(test_users)) & (items == pl.Series(test_items))
    wrong = ~same.fill_null(False)
    if bool(wrong.any()):
        line = int(wrong.arg_true()[0])
        raise DataError(
            f"Line {line + 1:,} of {path} starts with '{head[line]}' and the test file has "
            f"({test_users[line]},{test_items[line]}) there: the two files do not belong together."
        )


def without_unknown_users(split: PublishedSplit, drop: bool) -> tuple[PublishedSplit, int]:
    """The split without the test users that training does not have, if `drop`; and the number dropped."""
    if not drop:
        return split, 0
    unknown = ~np.isin(split.test_users, np.unique(split.train_users))
    names = np.unique(split.test_users[unknown])
    lists = None if split.negatives is None else split.negatives[~unknown]
    test_users, test_items = split.test_users[~unknown], split.test_items[~unknown]
    return replace(split, test_users=test_users, test_items=test_items, negatives=lists), len(names)


def prepare_published(
    split: PublishedSplit, options: PrepareOptions, provenance: Provenance
) -> tuple[Dataset, PrepareReport]:
    """Prepare a published split. Test positives that also stand in the training file are taken out of it."""
    refuse_what_does_not_apply(options)
    rows = len(split.train_users) + len(split.test_users)
    split, unknown = without_unknown_users(split, options.drop_unknown_users)
    tables = encode_published(split)
    tables = replace(tables, dropped={**tables.dropped, "unknown_test_users": unknown})
    refuse_trivial(len(tables.users), len(tables.items))
    tables = hold_out_validation(tables, options)
    if split.negatives is None:
        tables = with_candidates(tables, options)
    else:
        tables = with_candidates(tables, options, ("validation",))
        negatives = tables.items.rows(split.negatives.reshape(-1)).reshape(split.negatives.shape)
        tables = with_published_lists(tables, negatives)
    source = {**provenance.facts["source"], "rows": rows}
    facts = {**provenance.facts, "source": source, "time_unit": "as given"}
    return build_dataset(tables, options, replace(provenance, facts=facts))


def refuse_what_does_not_apply(options: PrepareOptions) -> None:
    """Refuse options that would change the rows or the test of a published split."""
    fixed = ("split", "min_user", "min_item", "min_rating", "weight", "event", "repeats")
    given = [f"--{name.replace('_', '-')}" for name in fixed if name in options.as_json()]
    if given:
        raise ConfigError(
            f"{', '.join(given)} cannot be used with a published split, whose interactions and test are "
            "fixed: leave it out, or prepare the file of interactions with --input."
        )


def encode_published(split: PublishedSplit) -> SplitTables:
    """Rows for a published split without validation. Items of the test or the lists alone stay, cold."""
    users = Vocabulary.build(np.concatenate([split.train_users, split.test_users]))
    mentioned = [split.train_items, split.test_items]
    if split.negatives is not None:
        mentioned.append(split.negatives.reshape(-1))
    items = Vocabulary.build(np.concatenate([np.unique(ids) for ids in mentioned]))
    user_rows, item_rows = users.rows(split.train_users), items.rows(split.train_items)
    train = Interactions(user_rows, item_rows, split.train_times)
    test = Interactions(users.rows(split.test_users), items.rows(split.test_items))
    return tables_of(users, items, train, test)


def tables_of(users: Vocabulary, items: Vocabulary, train: Interactions, test: Interactions) -> SplitTables:
    """Tables without validation: of a repeated pair of `train` the latest, and none that `test` has."""
    order = latest(train.user_rows, train.item_rows, len(items), train.timestamps)
    dropped = {"duplicates": len(train) - len(order)}
    train = train.take(order)
    leaked = np.isin(_keys(train, items), _keys(test, items))
    dropped["test_positives_in_train"] = int(leaked.sum())
    train = train.take(~leaked)
    no_validation = HeldOut.without_lists(train.take(np.zeros(0, np.int64)))
    known, how = _known(train, test, len(users), len(items)), dict[str, Any](test="as published")
    cold = np.setdiff1d(test.user_rows, train.user_rows)
    if len(cold):
        how["cold_users"] = len(cold)
    return SplitTables(users, items, train, no_validation, HeldOut.without_lists(test), known, how, dropped)


def _keys(interactions: Interactions, items: Vocabulary) -> Int64:
    return pair_keys(interactions.user_rows, interactions.item_rows, len(items))


def _known(train: Interactions, test: Interactions, users: int, items: int) -> Csr:
    """The positives of training and test, each pair once."""
    user_rows = np.concatenate([train.user_rows, test.user_rows])
    item_rows = np.concatenate([train.item_rows, test.item_rows])
    order = latest(user_rows, item_rows, items)
    return Interactions(user_rows[order], item_rows[order]).csr(users)


def validation_scheme(train: Interactions, options: PrepareOptions) -> str:
    """The scheme that `options` ask for; for "auto" the last where there are times, else random."""
    if options.validation != "auto":
        return options.validation
    return "random" if train.timestamps is None else "last"


def hold_out_validation(tables: SplitTables, options: PrepareOptions) -> SplitTables:
    """Move one training positive of each user that can spare it to the validation, as `options` ask."""
    users, items, train = len(tables.users), len(tables.items), tables.train
    scheme = validation_scheme(train, options)
    if scheme == "none":
        return replace(tables, how={**tables.how, "validation": "none", "notes": []})
    long_enough = train.user_counts(users) >= 2
    eligible = long_enough & (items - tables.known.counts >= options.negatives)
    generator = generator_for(options.seed, "validation split")
    exponent = options.validation_popularity_exponent
    held_out = np.zeros(len(train), bool)
    held_out[hold_out(train, users, scheme, eligible, generator, exponent)] = True
    notes = describe_ineligible(long_enough, eligible, 2, options)
    return replace(
        tables,
        train=train.take(~held_out),
        validation=HeldOut.without_lists(train.take(held_out)),
        how={**tables.how, "validation": validation_name(scheme, options), "notes": notes},
    )
