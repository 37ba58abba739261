"""A warm start: the first values of a model on newer data, from an earlier run.

In: the artifact of the earlier run, and the data as the new run sees them. Out: a model whose known users and
items have their vectors, found by their ids; a new user is folded in, and a new item is placed by the mirror
of that, a ridge regression of item vectors on the vectors of their users. An item that nobody has used is
placed by its columns, or at the mean of items. The decision worth knowing: held-out rows of the new data that
the earlier run was trained on join training, as they cannot judge what has learned them.

Legend: U users, I items, W width of a user vector, P values of an item in all tables.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ncf.baselines.base import users_by_item
from ncf.config import Experiment, ModelConfig
from ncf.data import Dataset
from ncf.data.interactions import Int32
from ncf.errors import ConfigError, DataError
from ncf.evaluation.cross_dataset import on_record
from ncf.models import Model, attach_histories, build_model, freeze
from ncf.renewal.final import run_folder, weights_digest
from ncf.renewal.item_columns import from_columns, item_features
from ncf.serving.artifact import Artifact, open_artifact
from ncf.serving.fold_in import fit_map, guess
from ncf.serving.numpy_model import Floats, NumpyModel, Rows

EPOCHS = 4
LEARNING_RATE = 0.02
"""Of a warm start, where no recipe says so. The rate is the least one, of the kinds `_TABLES_ALONE`.

A recipe's rate is small where it starts from a closed form, which has seen all rows. A warm start has to move
vectors towards rows that its start has not seen, in few steps (docs/accuracy.md).
"""
_OF_ITEMS = ("item_table", "item_bias", "history_table")
"""The ends of the names of what a model knows of each item: [I] or [I, width]."""
_TRUST = 20.0
"""An item counts n / (n + this) in the regression on columns, for n uses."""
_TABLES_ALONE = ("gmf", "mf")
"""Kinds without layers: a rate for tables is too high for layers."""
_FREE = {"gmf_init_std", "mlp_init_std", "dropout", "history_dropout"}
"""Settings of a model that a warm start may change."""


@dataclass(frozen=True)
class WarmStart:
    """An earlier run, in rows of newer data: `user_rows` [U] and `item_rows` [I], -1 where it has none.

    Users and items without a training interaction there count as unknown.
    """

    folder: Path
    artifact: Artifact
    user_rows: Int32
    item_rows: Int32
    counts: dict[str, Any] = field(default_factory=dict)
    """How many users and items were kept, placed (how) and dropped, once the model is filled."""

    @classmethod
    def of(cls, path: str | Path, dataset: Dataset) -> "WarmStart":
        """That of the run at `path` on `dataset`; raises `DataError` where they have no item in common."""
        artifact = open_artifact(path)
        trained = artifact.trained
        users = np.where(trained.counts > 0, np.arange(trained.users), -1)
        items = np.full(len(artifact.items), -1)
        items[trained.columns] = trained.columns
        rows = [
            np.where(found >= 0, old[found], -1).astype(np.int32)
            for found, old in (
                (artifact.users.rows(dataset.users.series()), users),
                (artifact.items.rows(dataset.items.series()), items),
            )
        ]
        if not (rows[1] >= 0).any():
            raise DataError(
                f"{path} knows none of the {len(dataset.items):,} items of {dataset.name}, such as "
                f"{dataset.items.series()[0]!r}, but {artifact.items.series()[0]!r}: give data with the "
                "same ids, or train without --from."
            )
        return cls(run_folder(path), artifact, rows[0], rows[1])

    @property
    def mark(self) -> dict[str, Any]:
        """What a run tells of its warm start."""
        return {"from": str(self.folder), "weights": weights_digest(self.artifact)}

    def seen(self, dataset: Dataset) -> Dataset:
        """`dataset`, with those held-out rows in training that the earlier run was trained on."""
        trained, stages = self.artifact.trained, (dataset.validation, dataset.test)
        marks = [on_record(self.user_rows, self.item_rows, trained, rows) for rows in stages]
        self.counts["held_out_rows_trained_on"] = int(sum(mark.sum() for mark in marks))
        return dataset.with_rows_in_training(*marks)

    def fill(self, model: Model, dataset: Dataset) -> str:
        """Give `model` its first values; `dataset` is as the run sees it. Returns a sentence about them."""
        artifact, network = self.artifact, NumpyModel(self.artifact.weights)
        new_users, new_items = np.flatnonzero(self.user_rows < 0), np.flatnonzero(self.item_rows < 0)
        weights = artifact.trainable
        of_users = sorted(name for name in weights if name.endswith("user_table"))
        own_UW = np.concatenate([weights[name] for name in of_users], axis=1)[self.user_rows]
        vectors_UW = network.user_vectors(self.user_rows)
        if len(new_users):
            fold_in, histories = artifact.fold_in(network), self._histories(dataset, new_users)
            own_UW[new_users], vectors_UW[new_users] = fold_in.own(histories), fold_in.vectors(histories)
        tables = {name: weights[name] for name in sorted(weights) if name.endswith(_OF_ITEMS)}
        flat_IP = np.concatenate([value.reshape(network.items, -1) for value in tables.values()], axis=1)
        values_IP, how = self._items(network, flat_IP, vectors_UW, dataset, new_items)
        filled = dict(zip(of_users, _split(own_UW, network.widths), strict=True))
        widths = [value.size // network.items for value in tables.values()]
        for (name, table), part in zip(tables.items(), _split(values_IP, widths), strict=True):
            filled[name] = part.reshape(-1, *table.shape[1:])
        self._copy(model, weights | filled)
        kept_users, kept_items = len(self.user_rows) - len(new_users), len(self.item_rows) - len(new_items)
        self.counts["users"] = {
            "kept": kept_users, "folded_in": len(new_users), "dropped": network.users - kept_users
        }  # fmt: skip
        self.counts["items"] = {"kept": kept_items, **how, "dropped": network.items - kept_items}
        rows = self.counts.get("held_out_rows_trained_on")
        joined = [f"{rows:,} held-out rows that it was trained on join training."] if rows else []
        placed = f"{how['by_columns']:,} by their columns and {how['at_the_mean']:,} at the mean."
        return (
            f"Warm start from {self.folder}: {kept_users:,} users and {kept_items:,} items keep their "
            f"vectors, {len(new_users):,} users are folded in; of new items {how['by_users']:,} are placed "
            + " ".join([f"by their users, {placed}", *joined])
        )

    def model(self, dataset: Dataset) -> Model:
        """The model with its first values, ready to score the users and items of `dataset`."""
        model = build_model(self.artifact.experiment.model, len(dataset.users), len(dataset.items))
        self.fill(model, dataset)
        attach_histories(model, dataset, self.artifact.experiment.train.seed)
        return freeze(model)

    def _histories(self, dataset: Dataset, users: Rows) -> list[Rows]:
        """The training items of `users` that the earlier run knows, in its rows, oldest first."""
        train = dataset.train
        times = np.zeros(len(train)) if train.timestamps is None else train.timestamps
        order = np.lexsort((train.item_rows, times, train.user_rows))
        offsets, items_N = dataset.seen_in_training.offsets, self.item_rows[train.item_rows[order]]
        histories = (items_N[offsets[user] : offsets[user + 1]] for user in users.tolist())
        return [history[history >= 0] for history in histories]

    def _items(
        self, network: NumpyModel, old_IP: Floats, vectors_UW: Floats, dataset: Dataset, new: Rows
    ) -> tuple[Floats, dict[str, int]]:
        """[I, P] of the items of `dataset`, and how many of the `new` ones were placed how.

        `old_IP` has the items of the earlier run, in its rows.
        """
        values_IP, trained = old_IP[self.item_rows], self.artifact.trained
        users_of = users_by_item(dataset.seen_in_training, len(dataset.items))
        used, unused = new[users_of.counts[new] > 0], new[users_of.counts[new] == 0]
        if len(used):
            tables = [network.user_vectors(slice(None))]
            seen, seed = users_by_item(trained, network.items), self.artifact.experiment.train.seed
            map_FP = fit_map(tables, old_IP.shape[1], seen, seed, lambda rows: old_IP[rows])
            values_IP[used] = guess([vectors_UW], map_FP, [users_of.row(item) for item in used.tolist()])
        how = {"by_users": len(used), "by_columns": 0, "at_the_mean": 0}
        if len(unused):
            known = np.flatnonzero(self.item_rows >= 0)
            features_IF = item_features(dataset.item_columns)
            if features_IF is None:
                values_IP[unused], how["at_the_mean"] = values_IP[known].mean(0), len(unused)
            else:
                counts_K = np.bincount(trained.columns, minlength=network.items)[self.item_rows[known]]
                weights_K = counts_K / (counts_K + _TRUST)
                values_IP[unused] = from_columns(features_IF, known, values_IP[known], weights_K, unused)
                how["by_columns"] = len(unused)
        return values_IP, how

    def _copy(self, model: Model, values: dict[str, Floats]) -> None:
        """Fill `model` with the `values` of its weights by name."""
        with torch.no_grad():
            for name, value in model.state_dict().items():
                found = values.get(name)
                if found is None or found.shape != tuple(value.shape):
                    raise ConfigError(f"{self.folder} has no values for {name} of this model: train it anew.")
                value.copy_(torch.from_numpy(np.array(found, np.float32)))


def _split(values: Floats, widths: list[int]) -> list[Floats]:
    """Columns of these widths, one after the other."""
    return np.split(values, np.cumsum(widths)[:-1], axis=1)


def warm_recipe(path: str | Path, recipe: Experiment | None, overrides: list[str]) -> Experiment:
    """The settings of a warm start from the run at `path`: those of `recipe`, or of the run with 4 epochs.

    Without a `recipe` a kind without layers has a learning rate of at least .02. `overrides` are of the run's
    own settings. Raises `ConfigError` for a `recipe` of another kind or width.
    """
    old = open_artifact(path).experiment
    if recipe is None:
        values = old.model_dump(mode="json")
        values["train"]["epochs"], values["data"], values["pretraining"] = EPOCHS, {}, None
        values["train"] |= {"init": "random", "init_l2": 0.0}
        if old.model.kind in _TABLES_ALONE:
            values["train"]["learning_rate"] = max(old.train.learning_rate, LEARNING_RATE)
        recipe = Experiment.parse(values, overrides, source=str(path))
    model = recipe.model
    if model.factors == "auto":
        model = model.model_copy(update={"factors": old.model.factors})
    if (wanted := _shape(model)) != (had := _shape(old.model)):
        name = next(name for name in wanted if wanted[name] != had.get(name))
        raise ConfigError(
            f"{path} has model.{name} = {had.get(name)} and the recipe {wanted[name]}: a warm start needs "
            "the same kind and widths, so leave the recipe out to take the run's."
        )
    train = recipe.train.model_copy(update={"init": "random", "init_l2": 0.0})
    return recipe.model_copy(update={"model": model, "train": train, "pretraining": None})


def _shape(model: ModelConfig) -> dict[str, Any]:
    """What decides the sizes of a model, and how its history counts."""
    values = model.model_dump(exclude=_FREE)
    used = {"kind"}
    if model.kind != "mlp":
        used.add("factors")
    if model.kind.endswith(("mlp", "neumf")):
        used |= {"embedding", "tower"}
    family = model.kind.partition("-")[0]
    prefix = {"history": "history", "sasrec": "attention"}.get(family)
    if prefix:
        used |= {name for name in values if name.startswith(prefix)}
    return {name: value for name, value in values.items() if name in used}
