"""From a published split to a `Dataset`, with its lists as they are.

In: `PublishedSplit`. Out: the `Dataset` and its report. The decision worth knowing: items that only the test
or the lists mention stay in the vocabulary, as cold items, because the lists cannot be changed; a user of the
test that training does not have is refused, or dropped when asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ncf.data.assemble import drawn, finish
from ncf.data.candidates import generator_for, published, room
from ncf.data.dataset import Dataset
from ncf.data.holdout import all_but, validation_name, who_stays
from ncf.data.interactions import Csr, HeldOut, Int64, Interactions, latest, pair_keys
from ncf.data.options import PrepareOptions
from ncf.data.report import PrepareReport
from ncf.data.splits import as_scheme, hold_out
from ncf.data.table import Table, refuse_trivial
from ncf.data.triple import PublishedSplit, without_unknown_users
from ncf.data.vocabulary import Vocabulary
from ncf.errors import ConfigError


def prepare_published(
    split: PublishedSplit, options: PrepareOptions, name: str, facts: dict[str, Any]
) -> tuple[Dataset, PrepareReport]:
    """Prepare a published split. Test positives that stand in the training file are taken out of it."""
    _refuse_what_does_not_apply(options)
    rows = len(split.train_users) + len(split.test_users)
    split, unknown = without_unknown_users(split, options.drop_unknown_users)
    table, test, dropped = encode_published(split)
    dropped["unknown_test_users"] = unknown
    refuse_trivial(len(table.users), len(table.items))
    known = _known(table, test)
    validation, train, scheme, notes = _validation_of_published(table, known, options)
    if split.negatives is None:
        lists = drawn(test, known, len(table.items), options, "test")
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
    return finish(name, table, train, validation, lists, known, options, facts, dropped, how)


def _refuse_what_does_not_apply(options: PrepareOptions) -> None:
    """A published split fixes its own rows and test; an option that would change them is not silently
    ignored.
    """
    fixed = ("split", "min_user", "min_item", "min_rating", "weight")
    given = [f"--{name.replace('_', '-')}" for name in fixed if name in options.as_json()]
    if given:
        raise ConfigError(
            f"{', '.join(given)} cannot be used with a published split, whose interactions and test are fixed: "
            "leave it out, or prepare the file of interactions with --input."
        )


def encode_published(split: PublishedSplit) -> tuple[Table, Interactions, dict[str, int]]:
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
    return Table(users, items, interactions.take(~leaked)), test, dropped


def _keys(interactions: Interactions, items: Vocabulary) -> Int64:
    return pair_keys(interactions.user_rows, interactions.item_rows, len(items))


def _known(table: Table, test: Interactions) -> Csr:
    user_rows = np.concatenate([table.interactions.user_rows, test.user_rows])
    item_rows = np.concatenate([table.interactions.item_rows, test.item_rows])
    order = latest(user_rows, item_rows, len(table.items))
    return Interactions(user_rows[order], item_rows[order]).csr(len(table.users))


def _validation_of_published(
    table: Table, known: Csr, options: PrepareOptions
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
    at = hold_out(interactions, users, as_scheme(scheme), eligible, generator, exponent)
    lists = drawn(interactions.take(at), known, items, options, "validation")
    train = interactions.take(all_but(at, len(interactions)))
    return lists, train, validation_name(scheme, options), who_stays(long_enough, eligible, 2, options)
