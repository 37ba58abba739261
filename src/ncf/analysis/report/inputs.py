"""What a report is about: an artifact, and as much of its run and its data as is there.

In: a run's folder, an artifact folder or a model.tar.gz, and optionally prepared data. Out: a `ReportInputs`. The decision
worth knowing: a page about an artifact alone is worth having, so data that are not found are no error but a sentence in the page;
data that are given and are others than those of training are refused.

Legend: U users, I items, T held-out rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ncf.analysis.evaluated_run import data_of
from ncf.data import Dataset, HeldOut
from ncf.errors import ArtifactError, DataError
from ncf.evaluation.slices import sorted_by_user
from ncf.serving.artifact import Artifact, locate_artifact, open_artifact

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ReportInputs:
    """An opened artifact with its surroundings.

    `run` is the run's folder, None for an artifact alone. `dataset` is None where the data are not there, and `missing` then
    says so; `data` is the folder if one was given. `reason` is why they are not there, which may tell paths. `histories` are the learning curves by name: those of the halves of a pre-trained model, then its own.
    """

    given: str
    artifact: Artifact
    run: Path | None
    dataset: Dataset | None
    data: str | None
    reason: str
    histories: dict[str, list[dict[str, Any]]]

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.artifact.experiment.name

    @property
    def missing(self) -> str:
        """What the page says of data that are not there; empty where they are."""
        if self.dataset is not None:
            return ""
        name = self.artifact.manifest["data"]["name"]
        return f"The data of training were not there, so what needs them is left out: give --data with the prepared folder of {name}."

    @property
    def held_out(self) -> HeldOut:
        """The test rows by user: [T], none where there are no data."""
        return HeldOut.empty() if self.dataset is None else sorted_by_user(self.dataset.test)

    @property
    def user_counts(self) -> Counts:
        """How many interactions of each user the model was trained on: [U].

        Without data these are the interactions that the artifact knows of, those held out included.
        """
        if self.dataset is None:
            return np.asarray(self.artifact.seen.counts, np.int64)
        counts = self.dataset.train.user_counts(len(self.dataset.users))
        if self.artifact.experiment.train.validation == "include":
            counts += np.bincount(self.dataset.validation.user_rows, minlength=len(counts))
        return counts

    @property
    def counted(self) -> str:
        """What `user_counts` counts, in words."""
        return (
            "training interactions"
            if self.dataset is not None
            else "known interactions, those held out included"
        )

    @property
    def item_counts(self) -> Counts:
        """How many interactions of each item the model was trained on: [I]."""
        return self.artifact.item_columns["popularity"].to_numpy().astype(np.int64)


def open_report_inputs(path: str | Path, data: str | Path | None = None) -> ReportInputs:
    """Open what is there; raises `ArtifactError` for the artifact, and `DataError` for data that are given and do not fit."""
    folder = locate_artifact(path)
    artifact = open_artifact(folder)
    run = folder.parent if (folder.parent / "run.json").is_file() else None
    dataset, reason = None, ""
    try:
        dataset = data_of(folder, artifact, data)
    except DataError as error:
        if data is not None:
            raise
        reason = str(error)
    given = None if data is None else str(data)
    return ReportInputs(str(path), artifact, run, dataset, given, reason, _histories(artifact, run))


def _histories(artifact: Artifact, run: Path | None) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for half in ("gmf", "mlp"):
        if artifact.experiment.pretraining is None or run is None:
            continue
        try:
            metrics = open_artifact(run / half).metrics
        except ArtifactError:
            continue  # halves that were given with --gmf and --mlp lie elsewhere
        found[half] = list(metrics.get("history", []))
    found[artifact.experiment.name] = list(artifact.metrics.get("history", []))
    return found
