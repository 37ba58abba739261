"""Everything that training and evaluation need, saved as one folder and mapped back into memory.

In: the pieces that `prepare` made. Out: a folder, or the same opened again. The decision worth knowing:
train, validation and test are apart from the start, and `known` holds all three, so a negative can be
verified without regard to the split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from ncf.data.files import npy_sha256
from ncf.data.folder import SCHEMA_VERSION, Array, Verify, damaged, map_array, read_document, write_folder
from ncf.data.interactions import Bool, Csr, HeldOut, Int64, Interactions, pair_keys
from ncf.data.vocabulary import Vocabulary


@dataclass(frozen=True, repr=False)
class Dataset:
    """A prepared set of interactions. U users and I items are the sizes of the two vocabularies.

    `item_columns`: one row per item row, with `id`, `popularity` and any columns for display (title, year,
    genres, …). `train`: without the positives of validation and test, sorted by user and then item. `known`:
    every positive of train, validation and test; negatives are verified against it. `description`: plain JSON
    values, see docs/data.md.
    """

    name: str
    users: Vocabulary
    items: Vocabulary
    item_columns: pl.DataFrame
    train: Interactions
    validation: HeldOut
    test: HeldOut
    known: Csr
    description: dict[str, Any]
    digest: str = ""

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", _digest(self))

    @property
    def popularity(self) -> Int64:
        """How many training interactions each item has: [I]."""
        return self.item_columns["popularity"].to_numpy(writable=True)

    @property
    def cold_users(self) -> Bool:
        """The users without a training interaction: [U] bool."""
        return np.asarray(self.train.user_counts(len(self.users)) == 0)

    @property
    def seen_in_training(self) -> Csr:
        """The training positives of each user (and validation, after `with_validation_in_training`)."""
        return self.train.csr(len(self.users))

    def seen_before(self, stage: Literal["validation", "test"]) -> Csr:
        """What each user has used before the evaluation of `stage`: training, and for the test also
        validation.
        """
        if stage == "validation":
            return self.seen_in_training
        return _merge(self.train, self.validation, len(self.items)).csr(len(self.users))

    def with_validation_in_training(self) -> Dataset:
        """The same data for a final run: validation positives are in training, and validation is empty."""
        return self.with_rows_in_training(validation=np.ones(len(self.validation), np.bool_))

    def with_everything_in_training(self) -> Dataset:
        """The same data for a final fit: all positives are in training, and nothing is held out."""
        return self.with_rows_in_training(
            *(np.ones(len(rows), np.bool_) for rows in (self.validation, self.test))
        )

    def with_rows_in_training(self, validation: Bool, test: Bool | None = None) -> Dataset:
        """The same data with those held-out positives in training that are marked ([T] each)."""
        train, counts = self.train, {}
        kept = {"validation": self.validation, "test": self.test}
        for stage, marks in (("validation", validation), ("test", test)):
            if marks is not None and marks.any():
                train = _merge(train, kept[stage].take(marks), len(self.items))
                kept[stage] = kept[stage].take(~marks)
                counts[f"{stage}_in_training"] = True if marks.all() else int(marks.sum())
        popularity = pl.Series("popularity", train.item_counts(len(self.items)))
        return replace(
            self,
            train=train,
            validation=kept["validation"],
            test=kept["test"],
            item_columns=self.item_columns.with_columns(popularity),
            description={**self.description, **counts},
            digest="",
        )

    @classmethod
    def from_interactions(
        cls,
        table: Any,
        *,
        user: str | None = None,
        item: str | None = None,
        time: str | None = None,
        weight: str | None = None,
        name: str = "interactions",
        **options: Any,
    ) -> Dataset:
        """A data set from a table in memory, split and ready to train on; no file is written.

        Args:
            table: a Polars, pandas or Arrow frame, a mapping from names to columns, a NumPy array [N, 2 to 4]
                of user, item, time and weight, or a SciPy sparse matrix [users, items].
            user: the column of users; by default one with a usual name, such as `user_id`.
            item: that of items.
            time: that of times, which decide what is held out. Without times a random item a user is.
            weight: a column to keep as the weight of each interaction.
            name: of the data set.
            options: those of `PrepareOptions`, such as `min_user=5`, `split="time"` or `seed=1`.

        Raises `DataError` for a table that cannot be used and `ConfigError` for an unknown option.
        `ncf.prepare_frame` gives the report as well.
        """
        # Preparation ends in a data set, so an import at the top would be a circle.
        frames = import_module("ncf.data.frames")
        frame = frames.as_frame(table)
        options |= {"user": user, "item": item, "time": time, "weight": weight}
        dataset: Dataset = frames.prepare_frame(frame, frames.python_options(frame, options), name)[0]
        return dataset

    def __repr__(self) -> str:
        lists = f"lists of 1 + {self.test.candidates.shape[1] - 1}" if self.test.has_lists else "no lists"
        times = "" if self.train.timestamps is None else " with times"
        sizes = (
            f"{len(self.users):,} users, {len(self.items):,} items, {len(self.train):,} training interactions"
        )
        held_out = f"{len(self.validation):,} validation and {len(self.test):,} test rows ({lists})"
        return f"<Dataset {self.name}: {sizes}{times}, {held_out}>"

    def save(self, folder: str | Path) -> None:
        """Write `folder`, atomically. It may be new, empty or a prepared folder, which is replaced."""
        tables = {"users.parquet": self.users.series().to_frame(), "items.parquet": self.item_columns}
        document = {"name": self.name, "digest": self.digest, "description": self.description}
        write_folder(Path(folder), _arrays(self), tables, document)

    @classmethod
    def open(cls, folder: str | Path, verify: Verify = True) -> Dataset:
        """Map a prepared folder. `verify`: True checks sizes and small files, "full" everything."""
        folder = Path(folder)
        document = read_document(folder, verify)
        try:
            return _load(folder, document)
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise damaged(folder, f"it cannot be read ({error})") from error


def with_held_out(dataset: Dataset, stage: Literal["validation", "test"], rows: HeldOut) -> Dataset:
    """The same data with other held-out `rows` of `stage`; the digest stays."""
    return replace(dataset, test=rows) if stage == "test" else replace(dataset, validation=rows)


def _merge(train: Interactions, held_out: HeldOut, items: int) -> Interactions:
    """Both sets of positives, sorted. Rows without a time or weight of their own get their user's latest time
    and mean weight.
    """
    if not len(held_out):
        return train
    user_rows = np.concatenate([train.user_rows, held_out.user_rows])
    item_rows = np.concatenate([train.item_rows, held_out.positives])
    order = np.argsort(pair_keys(user_rows, item_rows, items), kind="stable")
    timestamps = weights = None
    if train.timestamps is not None:
        own = held_out.timestamps
        added = _per_user(train, held_out, "last") if own is None else own
        timestamps = np.concatenate([train.timestamps, added]).astype(np.int64)[order]
    if train.weights is not None:
        added = _per_user(train, held_out, "mean") if held_out.weights is None else held_out.weights
        weights = np.concatenate([train.weights, added]).astype(np.float32)[order]
    return Interactions(user_rows[order], item_rows[order], timestamps, weights)


def _per_user(train: Interactions, validation: HeldOut, what: Literal["last", "mean"]) -> Array:
    users = int(max(train.user_rows.max(initial=0), validation.user_rows.max(initial=0))) + 1
    if what == "last" and train.timestamps is not None:
        latest = np.zeros(users, np.int64)
        np.maximum.at(latest, train.user_rows, train.timestamps)
        return latest[validation.user_rows]
    weights = train.weights if train.weights is not None else np.ones(len(train), np.float32)
    total = np.bincount(train.user_rows, weights=weights, minlength=users)
    counts = train.user_counts(users)
    return (total / np.maximum(counts, 1))[validation.user_rows]


_PARTS = ("train", "validation", "test")
HELD_OUT_COLUMNS = {f"{stage}_{column}.npy" for stage in _PARTS[1:] for column in ("timestamps", "weights")}
"""Of held-out rows, for later trainings on them; the digest of the data does without, as no evaluation reads
them."""


def _arrays(dataset: Dataset) -> dict[str, Array]:
    parts = dict(zip(_PARTS, (dataset.train, dataset.validation, dataset.test), strict=True))
    optional = {
        f"{part}_{column}.npy": getattr(rows, column)
        for part, rows in parts.items()
        for column in ("timestamps", "weights")
    }
    return {
        "train_users.npy": dataset.train.user_rows,
        "train_items.npy": dataset.train.item_rows,
        "known_offsets.npy": dataset.known.offsets,
        "known_items.npy": dataset.known.columns,
        "validation_users.npy": dataset.validation.user_rows,
        "validation_candidates.npy": dataset.validation.candidates,
        "test_users.npy": dataset.test.user_rows,
        "test_candidates.npy": dataset.test.candidates,
        **{name: array for name, array in optional.items() if array is not None},
    }


def _digest(dataset: Dataset) -> str:
    hashes = {name: npy_sha256(array) for name, array in _arrays(dataset).items()}
    return digest_of(hashes, dataset.users, dataset.items, dataset.item_columns)


def digest_of(
    hashes: Mapping[str, str], users: Vocabulary, items: Vocabulary, item_columns: pl.DataFrame
) -> str:
    """sha256 over names and bytes of the arrays, the ids and the item table; not over the description.

    `hashes`: file name of each array -> the sha256 of that file.
    """
    digest = hashlib.sha256(f"ncf dataset {SCHEMA_VERSION}\n".encode())
    for name, sha256 in sorted(hashes.items()):
        if name not in HELD_OUT_COLUMNS:
            digest.update(f"{name} {sha256}\n".encode())
    for vocabulary in (users, items):
        ids = vocabulary.ids
        digest.update(ids.tobytes() if vocabulary.kind == "integer" else "\0".join(ids.tolist()).encode())
    digest.update(item_columns.write_csv().encode())
    return digest.hexdigest()


def _load(folder: Path, document: dict[str, Any]) -> Dataset:
    def array(name: str) -> Array:
        return map_array(folder / name)

    def column(name: str) -> Array | None:
        return array(name) if name in document["files"] else None

    def columns(part: str) -> tuple[Array | None, Array | None]:
        return column(f"{part}_timestamps.npy"), column(f"{part}_weights.npy")

    def held_out(stage: str) -> HeldOut:
        return HeldOut(array(f"{stage}_users.npy"), array(f"{stage}_candidates.npy"), *columns(stage))

    item_columns = pl.read_parquet(folder / "items.parquet")
    return Dataset(
        name=document["name"],
        users=Vocabulary.of_series(pl.read_parquet(folder / "users.parquet")["id"]),
        items=Vocabulary.of_series(item_columns["id"]),
        item_columns=item_columns,
        train=Interactions(array("train_users.npy"), array("train_items.npy"), *columns("train")),
        validation=held_out("validation"),
        test=held_out("test"),
        known=Csr(array("known_offsets.npy"), array("known_items.npy")),
        description=document["description"],
        digest=document["digest"],
    )
