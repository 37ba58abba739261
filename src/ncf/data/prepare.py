"""From a file, a published split or a known name to a `Dataset`.

In: a path and `PrepareOptions`. Out: the `Dataset` and a `PrepareReport` of what was read, dropped and why.
The order: read, ids to rows, latest of each pair, least rating, k-core, split, candidate lists. The decision
worth knowing: a user gives up its held-out positives only if it keeps at least one for training and enough
unseen items exist for a full list; any other user stays in training whole, and is counted, so that every list
has the same length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ncf.data.candidates import audit, draw, generator_for, published, room
from ncf.data.dataset import Dataset, id_column
from ncf.data.interactions import Bool, Csr, HeldOut, Int32, Int64, Interactions, latest, pair_keys
from ncf.data.item_table import item_columns
from ncf.data.options import PrepareOptions
from ncf.data.readers import Columns, read_columns, read_table, source
from ncf.data.report import PrepareReport
from ncf.data.splits import hold_out, k_core, temporal_cut
from ncf.data.triple import PublishedSplit, read_triple, without_unknown_users
from ncf.data.vocabulary import Vocabulary, encode
from ncf.errors import DataError


@dataclass(frozen=True)
class _Table:
    """Encoded interactions, [N] and sorted by user and item, with the two vocabularies."""

    users: Vocabulary
    items: Vocabulary
    interactions: Interactions


@dataclass(frozen=True)
class _Parts:
    """What a split makes of a table: training and the held-out pairs (as interactions)."""

    train: Interactions
    validation: Interactions
    test: Interactions
    how: dict[str, Any]


def prepare_file(
    path: str | Path, options: PrepareOptions | None = None, name: str | None = None
) -> tuple[Dataset, PrepareReport]:
    """Prepare one file of interactions: see `readers` for formats and `PrepareOptions` for choices."""
    options = options or PrepareOptions()
    origin = source(path, options.format, options.delimiter, options.header)
    columns = read_columns(origin, options.columns, need_time=options.split in ("last", "time"))
    facts = {
        "source": {"kind": "file", "from": origin.path.rsplit("/", 1)[-1], "rows": len(columns.user),
                   "columns": columns.names},
        "time_unit": columns.time_unit,
    }  # fmt: skip
    return prepare_columns(columns, options, name or Path(origin.path).name.split(".")[0], facts)


def prepare_columns(
    columns: Columns,
    options: PrepareOptions,
    name: str,
    facts: dict[str, Any],
    item_table: pl.DataFrame | None = None,
) -> tuple[Dataset, PrepareReport]:
    """Prepare columns that were already read; `facts` go into the description, `item_table` has titles."""
    table, dropped = _encode(columns, options)
    del columns
    table, core = _filtered(table, options)
    dropped |= core
    _refuse_trivial(table)
    parts, table, cut = _split(table, options)
    dropped |= cut
    known = table.interactions.csr(len(table.users))
    validation = _drawn(parts.validation, known, len(table.items), options, "validation")
    test = _drawn(parts.test, known, len(table.items), options, "test")
    how = {**parts.how, "validation_lists": "drawn", "test_lists": "drawn"}
    return _finish(
        name, table, parts.train, validation, test, known, options, facts, dropped, how, item_table
    )


def prepare_ncf_triple(
    prefix: str | Path, options: PrepareOptions | None = None, name: str | None = None
) -> tuple[Dataset, PrepareReport]:
    """Prepare PREFIX.train.rating, PREFIX.test.rating and PREFIX.test.negative with their published lists."""
    split = read_triple(prefix)
    label = Path(str(prefix)).name
    facts = {
        "source": {
            "kind": "published split",
            "from": f"{label}.train.rating, .test.rating and .test.negative",
        }
    }
    return prepare_published(split, options or PrepareOptions(), name or label, facts)


def prepare_published(
    split: PublishedSplit, options: PrepareOptions, name: str, facts: dict[str, Any]
) -> tuple[Dataset, PrepareReport]:
    """Prepare a published split. Test positives that stand in the training file are taken out of it."""
    rows = len(split.train_users) + len(split.test_users)
    split, unknown = without_unknown_users(split, options.drop_unknown_users)
    table, test, dropped = _encode_published(split)
    dropped["unknown_test_users"] = unknown
    _refuse_trivial(table)
    known = _known(table, test)
    validation, train, scheme, notes = _validation_of_published(table, known, options)
    if split.negatives is None:
        lists = draw(
            test.user_rows, test.item_rows, known, len(table.items), options.negatives,
            generator_for(options.seed, "test"),
        )  # fmt: skip
    else:
        negatives = table.items.rows(split.negatives.reshape(-1)).reshape(split.negatives.shape)
        lists = published(test.user_rows, test.item_rows, negatives)
    how = {
        "test": "as published",
        "validation": scheme,
        "notes": notes,
        "validation_lists": "drawn",
        "test_lists": "drawn" if split.negatives is None else "as published",
    }
    facts = {**facts, "source": {**facts["source"], "rows": rows}, "time_unit": "as given"}
    return _finish(name, table, train, validation, lists, known, options, facts, dropped, how)


def _encode(columns: Columns, options: PrepareOptions) -> tuple[_Table, dict[str, int]]:
    """Ids to rows, the latest of each pair, and the least rating."""
    users, user_rows = encode(columns.user, columns.names["user"])
    items, item_rows = encode(columns.item, columns.names["item"])
    times = None if columns.time is None else columns.time.to_numpy()
    weights = None if columns.weight is None else columns.weight.to_numpy()
    order = latest(user_rows, item_rows, len(items), times)
    dropped = {"duplicates": len(user_rows) - len(order)}
    if options.min_rating is not None:
        if columns.rating is None:
            raise DataError("--min-rating needs a rating column, and there is none: name it with --rating.")
        good = columns.rating.to_numpy()[order] >= options.min_rating
        dropped["below_min_rating"] = int((~good).sum())
        order = order[good]
    interactions = Interactions(user_rows, item_rows, times, weights).take(order)
    return _compact(_Table(users, items, interactions)), dropped


def _compact(table: _Table) -> _Table:
    """Leave users and items that no interaction has out of the vocabularies. The order stays."""
    interactions = table.interactions
    used_users = interactions.user_counts(len(table.users)) > 0
    used_items = interactions.item_counts(len(table.items)) > 0
    if bool(used_users.all()) and bool(used_items.all()):
        return table
    user_rows = _renumber(used_users)[interactions.user_rows]
    item_rows = _renumber(used_items)[interactions.item_rows]
    return _Table(
        Vocabulary(table.users.ids[used_users]),
        Vocabulary(table.items.ids[used_items]),
        replace(interactions, user_rows=user_rows, item_rows=item_rows),
    )


def _renumber(used: Bool) -> Int32:
    return (np.cumsum(used) - 1).astype(np.int32)


def _filtered(table: _Table, options: PrepareOptions) -> tuple[_Table, dict[str, int]]:
    if options.min_user <= 1 and options.min_item <= 1:
        return table, {}
    users, items = len(table.users), len(table.items)
    keep = k_core(table.interactions, users, items, options.min_user, options.min_item)
    filtered = _compact(_Table(table.users, table.items, table.interactions.take(keep)))
    return filtered, {
        "k_core_interactions": int((~keep).sum()),
        "k_core_users": users - len(filtered.users),
        "k_core_items": items - len(filtered.items),
    }


def _refuse_trivial(table: _Table) -> None:
    if len(table.users) == 0:
        raise DataError(
            "No interaction is left after the filters: lower --min-rating, --min-user or --min-item."
        )
    for what, size in (("user", len(table.users)), ("item", len(table.items))):
        if size < 2:
            raise DataError(
                f"There is only one {what}, so nothing can be ranked: give data with at least two "
                "users and two items."
            )


def _split(table: _Table, options: PrepareOptions) -> tuple[_Parts, _Table, dict[str, int]]:
    if options.split == "time":
        return _split_at_a_moment(table, options)
    return _leave_one_out(table, options), table, {}


def _leave_one_out(table: _Table, options: PrepareOptions) -> _Parts:
    """One test positive a user and, unless "none", one validation positive."""
    interactions, users, items = table.interactions, len(table.users), len(table.items)
    scheme = options.split if options.validation == "auto" else options.validation
    least = 2 if scheme == "none" else 3
    counts = interactions.user_counts(users)
    long_enough = counts >= least
    eligible = long_enough & (items - counts >= options.negatives)
    _refuse_no_test(long_enough, eligible, counts, items, least)
    test_at = hold_out(
        interactions, users, _one(options.split), eligible, generator_for(options.seed, "test split")
    )
    rest = interactions.take(_all_but(test_at, len(interactions)))
    validation_at = np.zeros(0, np.int64)
    if scheme != "none":
        validation_at = hold_out(
            rest, users, _one(scheme), eligible, generator_for(options.seed, "validation split"),
            options.validation_popularity_exponent,
        )  # fmt: skip
    how = {
        "test": f"leave one out, {_SCHEMES[options.split]}",
        "validation": _validation_name(scheme, options),
        "notes": _who_stays(long_enough, eligible, least, options),
    }
    train = rest.take(_all_but(validation_at, len(rest)))
    return _Parts(train, rest.take(validation_at), interactions.take(test_at), how)


_SCHEMES = {"last": "the latest of each user", "random": "one at random of each user", "none": "none"}


def _one(scheme: str) -> Any:
    return scheme


def _validation_name(scheme: str, options: PrepareOptions) -> str:
    if scheme == "random" and options.validation_popularity_exponent:
        return (
            f"{_SCHEMES[scheme]}, by popularity to the power of -{options.validation_popularity_exponent:g}"
        )
    return _SCHEMES[scheme]


def _all_but(positions: Int64, size: int) -> Bool:
    keep = np.ones(size, bool)
    keep[positions] = False
    return keep


def _who_stays(long_enough: Bool, eligible: Bool, least: int, options: PrepareOptions) -> list[str]:
    notes = []
    short = int((~long_enough).sum())
    full = int((long_enough & ~eligible).sum())
    if short:
        notes.append(f"{short:,} users have fewer than {least} interactions and stay in training only")
    if full:
        notes.append(
            f"{full:,} users leave fewer than {options.negatives} items unseen and stay in training only"
        )
    return notes


def _refuse_no_test(long_enough: Bool, eligible: Bool, counts: Int64, items: int, least: int) -> None:
    if bool(eligible.any()):
        return
    if not bool(long_enough.any()):
        raise DataError(
            f"No user has {least} interactions or more, so none can be held out: give more data"
            + (", or use --validation none." if least == 3 else ".")
        )
    most = int((items - counts[long_enough]).max())
    if most < 1:
        raise DataError(
            "Every user has interacted with every item, so nothing can be ranked: give more items."
        )
    raise DataError(
        f"There are only {items:,} items, so lists with this many negatives do not exist: "
        f"use --negatives {most} or fewer."
    )


def _split_at_a_moment(table: _Table, options: PrepareOptions) -> tuple[_Parts, _Table, dict[str, int]]:
    """The last part of all time is the test; what training does not know is dropped, with its users and
    items.
    """
    interactions = table.interactions
    share = 0.0 if options.validation == "none" else options.validation_fraction
    cut = temporal_cut(interactions, len(table.users), len(table.items), options.test_fraction, share)
    kept = cut.train | cut.validation | cut.test
    compacted = _compact(_Table(table.users, table.items, interactions.take(kept)))
    if len(compacted.users) < 2 or len(compacted.items) < 2:
        raise DataError(
            "Before the cut in time there are no two users and two items: use --split last or random."
        )
    enough = room(compacted.interactions.csr(len(compacted.users)), len(compacted.items)) >= options.negatives
    enough_here = enough[compacted.interactions.user_rows]
    test, validation = cut.test[kept] & enough_here, cut.validation[kept] & enough_here
    if not bool(test.any()):
        raise DataError(
            "No interaction after the cut in time belongs to a known user and item with enough unseen "
            "items: use a larger test fraction, fewer --negatives, or --split last."
        )
    train = ~(test | validation)
    how = {
        "test": f"the last {options.test_fraction:.0%} of time",
        "validation": f"the {share:.0%} before" if share else "none",
        "notes": _crowded(enough, options),
    }
    rows = compacted.interactions
    parts = _Parts(rows.take(train), rows.take(validation), rows.take(test), how)
    return parts, compacted, {"unknown_after_cut": int((~kept).sum())}


def _crowded(enough: Bool, options: PrepareOptions) -> list[str]:
    full = int((~enough).sum())
    if not full:
        return []
    return [f"{full:,} users leave fewer than {options.negatives} items unseen and stay in training only"]


def _drawn(pairs: Interactions, known: Csr, items: int, options: PrepareOptions, purpose: str) -> HeldOut:
    generator = generator_for(options.seed, f"{purpose} candidates")
    return draw(pairs.user_rows, pairs.item_rows, known, items, options.negatives, generator)


def _encode_published(split: PublishedSplit) -> tuple[_Table, Interactions, dict[str, int]]:
    """Rows for a published split. Items of the test or the lists alone stay, as cold items."""
    users = Vocabulary.build(split.train_users)
    mentioned = [split.train_items, split.test_items]
    if split.negatives is not None:
        mentioned.append(split.negatives.reshape(-1))
    items = Vocabulary.build(np.concatenate([np.unique(ids) for ids in mentioned]))
    user_rows, item_rows = users.rows(split.train_users), items.rows(split.train_items)
    order = latest(user_rows, item_rows, len(items), split.train_times)
    interactions = Interactions(user_rows, item_rows, split.train_times).take(order)
    test = Interactions(users.rows(split.test_users), items.rows(split.test_items))
    leaked = np.isin(_keys(interactions, items), _keys(test, items))
    dropped = {
        "duplicates": len(split.train_users) - len(order),
        "test_positives_in_train": int(leaked.sum()),
    }
    return _Table(users, items, interactions.take(~leaked)), test, dropped


def _keys(interactions: Interactions, items: Vocabulary) -> Int64:
    return pair_keys(interactions.user_rows, interactions.item_rows, len(items))


def _known(table: _Table, test: Interactions) -> Csr:
    user_rows = np.concatenate([table.interactions.user_rows, test.user_rows])
    item_rows = np.concatenate([table.interactions.item_rows, test.item_rows])
    order = latest(user_rows, item_rows, len(table.items))
    return Interactions(user_rows[order], item_rows[order]).csr(len(table.users))


def _validation_of_published(
    table: _Table, known: Csr, options: PrepareOptions
) -> tuple[HeldOut, Interactions, str, list[str]]:
    """Validation lists, what is left for training, the name of the scheme, and notes on users that give
    nothing up.
    """
    interactions, users, items = table.interactions, len(table.users), len(table.items)
    scheme: str = options.validation
    if scheme == "auto":
        scheme = "random" if interactions.timestamps is None else "last"
    if scheme == "none":
        return HeldOut.empty(options.negatives), interactions, "none", []
    long_enough = interactions.user_counts(users) >= 2
    eligible = long_enough & (room(known, items) >= options.negatives)
    generator = generator_for(options.seed, "validation split")
    exponent = options.validation_popularity_exponent
    at = hold_out(interactions, users, _one(scheme), eligible, generator, exponent)
    lists = _drawn(interactions.take(at), known, items, options, "validation")
    train = interactions.take(_all_but(at, len(interactions)))
    return lists, train, _validation_name(scheme, options), _who_stays(long_enough, eligible, 2, options)


def _finish(
    name: str,
    table: _Table,
    train: Interactions,
    validation: HeldOut,
    test: HeldOut,
    known: Csr,
    options: PrepareOptions,
    facts: dict[str, Any],
    dropped: dict[str, int],
    how: dict[str, Any],
    item_table: pl.DataFrame | None = None,
) -> tuple[Dataset, PrepareReport]:
    """Count, audit, describe."""
    popularity = train.item_counts(len(table.items))
    train_csr = train.csr(len(table.users))
    description = {
        **facts,
        "split": how,
        "seed": options.seed,
        "options": options.as_json(),
        "dropped": dropped,
        "counts": {
            "users": len(table.users),
            "items": len(table.items),
            "interactions": len(known.columns),
            "density": len(known.columns) / (len(table.users) * len(table.items)),
            "train": len(train),
            "validation": len(validation),
            "test": len(test),
            "cold_items": int((popularity == 0).sum()),
        },
        "audit": {
            "validation": audit(validation, known, train_csr),
            "test": audit(test, known, train_csr),
        },
    }
    if options.items_file is not None:
        item_table = read_table(options.items_file)
    columns = item_columns(id_column(table.items), popularity, item_table, options.items_id)
    dataset = Dataset(name, table.users, table.items, columns, train, validation, test, known, description)
    return dataset, PrepareReport(description)
