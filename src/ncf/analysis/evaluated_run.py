"""What is judged: an artifact, the data that it was trained on, and the rows of them that were held out.

In: a run, an artifact folder or a model.tar.gz, and optionally the prepared folder. Out: a `EvaluatedRun`. The decision worth
knowing: data whose digest is not the artifact's are refused, since their held-out rows may have been training rows.

Legend: U users, T held-out rows.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncf.config import EvaluationConfig
from ncf.data import Csr, Dataset, HeldOut
from ncf.errors import DataError
from ncf.evaluation.slices import Counts, sorted_by_user
from ncf.experiment import same_data
from ncf.serving.artifact import Artifact, locate_artifact, open_artifact


@dataclass(frozen=True)
class EvaluatedRun:
    """An opened artifact, its data, and the rows to judge, sorted by user; `split` is "test" or "validation"."""

    path: str
    artifact: Artifact
    dataset: Dataset
    split: str
    held_out: HeldOut
    rules: EvaluationConfig

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.artifact.experiment.name

    @property
    def trained_on(self) -> Csr:
        """The items of each user that the model was trained on."""
        with_validation = self.artifact.experiment.train.validation == "include"
        return self.dataset.seen_before("test" if with_validation else "validation")

    @property
    def item_counts(self) -> Counts:
        """How many interactions of each item the model was trained on: [I]."""
        return np.bincount(self.trained_on.columns, minlength=len(self.dataset.items)).astype(np.int64)


def open_subject(
    path: str | Path,
    data: str | Path | None = None,
    *,
    split: str = "test",
    ties: str | None = None,
    cutoffs: tuple[int, ...] | None = None,
) -> EvaluatedRun:
    """Open a run on its own data, or on the prepared folder that is given.

    `ties` and `cutoffs` replace the recipe's. Raises `DataError` for other data, or where nothing was held out.
    """
    artifact = open_artifact(path)
    dataset = data_of(path, artifact, data)
    rules = artifact.experiment.evaluation
    changes = {"ties": ties or rules.ties, "cutoffs": cutoffs or rules.cutoffs}
    rules = EvaluationConfig.checked(rules.model_dump() | changes, "evaluation")
    held_out = dataset.test if split == "test" else dataset.validation
    if not len(held_out):
        raise DataError(
            f"The data hold no {split} interactions to judge on: prepare them with a split that does."
        )
    return EvaluatedRun(str(path), artifact, dataset, split, sorted_by_user(held_out), rules)


def data_of(path: str | Path, artifact: Artifact, data: str | Path | None) -> Dataset:
    """The given folder, or the one that the run was trained on; its digest must be the artifact's."""
    if data is None:
        document = locate_artifact(path).parent / "run.json"
        try:
            data = json.loads(document.read_text("utf-8"))["data"]["path"]
        except (OSError, ValueError, KeyError):
            data = None
    if data is None:
        raise DataError(f"It is not known where the data of {path} are: give --data FOLDER.")
    dataset = Dataset.open(data)
    same_data(artifact, dataset)
    return dataset
