"""A run that is about to be evaluated: its artifact, the data it was trained on, and the held-out rows.

In: a run, an artifact folder or a model.tar.gz, and optionally the prepared folder. Out: an `EvaluatedRun`.
The decision worth knowing: data with another digest than the artifact's are refused, because their held-out
rows may have been training rows.

Legend: U users, I items, T held-out rows.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncf.config import EvaluationConfig
from ncf.data import Csr, Dataset, HeldOut
from ncf.data.tables import Stage
from ncf.errors import DataError
from ncf.evaluation.slices import Counts, sorted_by_user
from ncf.experiment import same_data
from ncf.serving.artifact import Artifact, locate_artifact, open_artifact


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

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.artifact.experiment.name

    @property
    def trained_on(self) -> Csr:
        """The items of each user that the model was trained on: [U, I]."""
        with_validation = self.artifact.experiment.train.validation == "include"
        return self.dataset.seen_before("test" if with_validation else "validation")

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
) -> EvaluatedRun:
    """Open a run for evaluation.

    `path` is a run, an artifact folder or a model.tar.gz. `data` is the prepared folder; by default the one
    that the run names. `split` is "test" or "validation". `ties` and `cutoffs` replace the recipe's. Raises
    `DataError` where the data are not those of training or hold no rows of the split.
    """
    artifact = open_artifact(path)
    dataset = data_of(path, artifact, data)
    rules = artifact.experiment.evaluation
    changes = {"ties": ties or rules.ties, "cutoffs": cutoffs or rules.cutoffs}
    rules = EvaluationConfig.checked(rules.model_dump() | changes, "evaluation")
    stage: Stage = "test" if split == "test" else "validation"
    held_out = dataset.test if stage == "test" else dataset.validation
    if not len(held_out):
        raise DataError(
            f"The data have no {split} interactions: prepare them with a split that holds some out."
        )
    return EvaluatedRun(str(path), artifact, dataset, stage, sorted_by_user(held_out), rules)


def data_of(path: str | Path, artifact: Artifact, data: str | Path | None) -> Dataset:
    """The data that an artifact was trained on, checked by their digest.

    `path` is where the artifact was opened, `data` the prepared folder; by default the one named in the run's
    `run.json`. Raises `DataError` where no folder is known or its digest is not the artifact's.
    """
    if data is None:
        document = locate_artifact(path).parent / "run.json"
        try:
            data = json.loads(document.read_text("utf-8"))["data"]["path"]
        except (OSError, ValueError, KeyError):
            data = None
    if data is None:
        raise DataError(f"The location of the data of {path} is not recorded: give --data FOLDER.")
    dataset = Dataset.open(data)
    same_data(artifact, dataset)
    return dataset
