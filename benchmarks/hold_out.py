"""A validation hold-out that looks like a published test whose negatives were drawn from all items.

In: a data set and an exponent. Out: the same with another validation: one training positive a user, drawn
with probability proportional to popularity^exponent, among 99 items drawn from the whole catalogue, training
positives of the user included. lastfm's published lists are such: 72% of them hold a training positive, as
many as chance puts there (docs/accuracy.md). The decision worth knowing: a model that fits its training
positives closely ranks them first and loses on such lists, and a clean hold-out does not see it; the exponent
is the one at which popularity is as good as on test, and nothing else of test is used.
"""

from dataclasses import replace

import numpy as np

from ncf.data import Dataset, HeldOut
from ncf.runtime import seed_of

NEGATIVES = 99


def like_published(dataset: Dataset, exponent: float, seed: int = 0) -> Dataset:
    """Everything but test is training or the new validation."""
    dataset = dataset.with_validation_in_training()
    random = np.random.default_rng(seed_of(seed, "hold-out like the published"))
    users, items = dataset.train.user_rows, dataset.train.item_rows
    popularity = dataset.train.item_counts(len(dataset.items)).astype(float)
    keys = exponent * np.log(popularity[items]) + random.gumbel(size=len(items))
    order = np.lexsort((-keys, users))
    rows, first = np.unique(users[order], return_index=True)
    chosen = order[first]
    kept = np.ones(len(users), bool)
    kept[chosen] = False
    others = len(dataset.items) - 1
    drawn = np.stack([random.choice(others, NEGATIVES, replace=False) for _ in rows])
    positives = items[chosen][:, None]
    candidates = np.concatenate([positives, drawn + (drawn >= positives)], axis=1).astype(np.int32)
    validation = HeldOut(rows.astype(np.int32), candidates)
    return replace(dataset, train=dataset.train.take(kept), validation=validation, digest="")
