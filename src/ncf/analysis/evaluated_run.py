"""A run that is about to be evaluated: its artifact, the data it was trained on, and the held-out rows.

In: a run, an artifact folder or a model.tar.gz, and optionally the prepared folder. Out: an `EvaluatedRun`.
The decision worth knowing: of data with another digest than the artifact's, rows that the model has on record
are left out, because they may have been training rows. The others are judged through the ids, as a model in
service is when new data come. Such data must be given, they are never taken by themselves.

Legend: U users, I items, T held-out rows.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ncf.config import EvaluationConfig
from ncf.data import Csr, Dataset, HeldOut
from ncf.data.dataset import with_held_out
from ncf.data.decay import decayed
from ncf.data.tables import Stage
from ncf.errors import ConfigError, DataError
from ncf.evaluation.cross_dataset import TranslatedScorer
from ncf.evaluation.held_out import answering_cold_users
from ncf.evaluation.ranking import Scorer
from ncf.evaluation.slices import Counts, sorted_by_user
from ncf.models import ModelScorer
from ncf.renewal.final import data_of
from ncf.serving.artifact import Artifact, open_artifact
from ncf.serving.card import final_sentence

Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EvaluatedRun:
    """An open artifact with its data and the rows to evaluate.

    `path` is the path as it was given. `split` is "test" or "validation"; `held_out` has its rows, sorted by
    user. `rules` are the recipe's rules of evaluation, with the changes that the caller asked for.
    """

    path: str
    artifact: Artifact
    dataset: Dataset
    split: Stage
    held_out: HeldOut
    rules: EvaluationConfig
    by_ids: TranslatedScorer | None = None
    """The model in rows of `dataset`, where it was trained on other data."""
    fresh: Marks | None = None
    """[T]: which held-out rows the model was not trained on, or of other data has not on record; `held_out`
    has these alone."""
    all_rows: HeldOut | None = None
    """All held-out rows [T], where `held_out` is a part of them."""

    @property
    def scorer(self) -> Scorer:
        """The model in rows of `dataset`; users whom its training lacks are answered by popularity."""
        if self.by_ids is not None:
            return self.by_ids
        return answering_cold_users(ModelScorer(self.artifact.model), self.dataset, self.item_counts)

    @property
    def cold_users(self) -> Marks:
        """[U]: the users whom the model's training lacks."""
        return self.dataset.cold_users if self.by_ids is None else self.by_ids.user_rows < 0

    @property
    def other_data(self) -> str | None:
        """A sentence about rows that are left out, and what the model does not know of other data."""
        if self.fresh is None:
            return None
        if self.by_ids is None:
            learned = f"{int((~self.fresh).sum()):,} of {len(self.fresh):,} {self.split} rows"
            return f"{self.path} was trained on {learned} before they were held out (left out)."
        users, items = self.cold_users, self.by_ids.item_rows < 0
        recorded, trained_on = int((~self.fresh).sum()), self.artifact.manifest["data"]["name"]
        return (
            f"{self.path} was trained on {trained_on} and is judged on other data, {self.dataset.name}, "
            f"through the ids: {int(users.sum()):,} of {len(users):,} users are unknown to it (answered by "
            f"popularity), {int(items.sum()):,} of {len(items):,} items are (ranked last), and {recorded:,} "
            f"of {len(self.fresh):,} {self.split} rows are on its record (left out)."
        )

    def on_rows(self, fresh: Marks) -> "EvaluatedRun":
        """The same run on those held-out rows of its data alone that are marked in `fresh` [T]."""
        rows = self.held_out if self.all_rows is None else self.all_rows
        kept = rows.take(fresh)
        if not len(kept):
            raise DataError(
                f"All {len(fresh):,} {self.split} rows of {self.dataset.name} are on record of the model: "
                "give data with later interactions."
            )
        dataset = with_held_out(self.dataset, self.split, kept)
        return replace(self, dataset=dataset, held_out=kept, all_rows=rows)

    def protocol(self, full: bool) -> str:
        """How its rows are ranked: "full" where that is wanted or there are no lists, else "sampled"."""
        return "full" if full or not self.held_out.has_lists else "sampled"

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.artifact.experiment.name

    @property
    def trained_on(self) -> Csr:
        """The items of each user that the model was trained on, with the weights that it had: [U, I].

        Raises `ConfigError` where that was other data, in whose rows they are not known here.
        """
        if self.by_ids is not None:
            raise ConfigError(
                f"{self.path} was trained on other data than {self.dataset.name}: --by, --cold and --split "
                "time need the data of training."
            )
        config, dataset = self.artifact.experiment.train, self.dataset
        if config.validation == "include":
            dataset = dataset.with_validation_in_training()
        return decayed(dataset, config.half_life).seen_in_training

    @property
    def item_counts(self) -> Counts:
        """Number of interactions of each item that the model was trained on: [I]."""
        return np.bincount(self.trained_on.columns, minlength=len(self.dataset.items)).astype(np.int64)


def open_run(
    path: str | Path,
    data: str | Path | None = None,
    *,
    split: str = "test",
    ties: str | None = None,
    cutoffs: tuple[int, ...] | None = None,
    other_data: bool = False,
) -> EvaluatedRun:
    """Open a run for evaluation.

    `path` is a run, an artifact folder or a model.tar.gz. `data` is the prepared folder; by default the one
    that the run names. `split` is "test" or "validation". `ties` and `cutoffs` replace the recipe's. With
    `other_data`, given `data` may be other than those of training: the model is then judged through the ids,
    on rows that are not on its record. Raises `DataError` for other data without that, or without rows of the
    split.
    """
    artifact = open_artifact(path)
    dataset, _ = data_of(path, artifact, data, other_data and data is not None)
    if artifact.metrics.get("final") and artifact.manifest["data"]["digest"] == dataset.digest:
        raise DataError(
            f"{path} cannot be judged on its own data. {final_sentence(artifact.metrics)} Evaluate the twin, "
            "or give later interactions with --data NEW."
        )
    rules = artifact.experiment.evaluation
    changes = {"ties": ties or rules.ties, "cutoffs": cutoffs or rules.cutoffs}
    rules = EvaluationConfig.checked(rules.model_dump() | changes, "evaluation")
    stage: Stage = "test" if split == "test" else "validation"
    held_out = dataset.test if stage == "test" else dataset.validation
    if not len(held_out):
        raise DataError(
            f"The data have no {split} interactions: prepare them with a split that holds some out."
        )
    run = EvaluatedRun(str(path), artifact, dataset, stage, sorted_by_user(held_out), rules)
    if artifact.manifest["data"]["digest"] == dataset.digest:
        run = replace(run, dataset=as_trained(artifact, dataset))
        learned = _learned(artifact, run.held_out)
        return replace(run, fresh=~learned).on_rows(~learned) if learned.any() else run
    popularity = artifact.item_columns["popularity"].to_numpy()
    by_ids = TranslatedScorer(
        ModelScorer(artifact.model),
        artifact.users,
        artifact.items,
        popularity,
        dataset,
        artifact.untrained_users,
    )
    fresh = ~by_ids.on_record(artifact.seen, run.held_out)
    return replace(run, by_ids=by_ids, fresh=fresh).on_rows(fresh)


def as_trained(artifact: Artifact, dataset: Dataset) -> Dataset:
    """`dataset`, with those held-out rows in training that a model of these data was trained on.

    They cannot judge it: validation rows that a recipe includes, and what a warm start had learned before.
    """
    marks = [_learned(artifact, rows) for rows in (dataset.validation, dataset.test)]
    if not any(mark.any() for mark in marks):
        return dataset
    return replace(dataset.with_rows_in_training(*marks), digest=dataset.digest)


def _learned(artifact: Artifact, rows: HeldOut) -> Marks:
    """[T]: which held-out rows of its own data a model was trained on, as far as it says."""
    if not artifact.says_trained:
        return np.zeros(len(rows), np.bool_)
    return np.asarray(artifact.trained.contains(rows.user_rows, rows.positives))
