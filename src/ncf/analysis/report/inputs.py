"""What a report is about: an artifact, and whatever of its run and its data is available.

In: a run's folder, an artifact folder or a model.tar.gz, and optionally prepared data. Out: `ReportInputs`.
The decision worth knowing: a page about an artifact alone is still useful, so missing data are a sentence on
the page and not an error. Data that are given and differ from those of training are refused.

Legend: U users, I items, T held-out rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ncf.analysis.evaluated_run import as_trained
from ncf.data import Dataset, HeldOut
from ncf.errors import ArtifactError, DataError
from ncf.evaluation.slices import sorted_by_user
from ncf.renewal.final import data_of
from ncf.serving.artifact import Artifact, locate_artifact, open_artifact
from ncf.serving.card import final_sentence

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ReportInputs:
    """An open artifact with its run and its data.

    `given` is the path as it was given. `run` is the run's folder, None for an artifact alone. `dataset` is
    None where the data are missing; `reason` then says why, with paths. `data` is the prepared folder if one
    was given. `histories` are the learning curves by model: the halves of a pre-trained model first, then its
    own.
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
        """Name of the experiment."""
        return self.artifact.experiment.name

    @property
    def missing(self) -> str:
        """What the page says about missing data; empty where there are data."""
        if self.dataset is not None:
            return ""
        name = self.artifact.manifest["data"]["name"]
        return f"Some sections are left out, as the training data were not found: give --data with {name}."

    @property
    def held_out(self) -> HeldOut:
        """The test rows [T], sorted by user; none where there are no data."""
        return HeldOut.empty() if self.dataset is None else sorted_by_user(self.dataset.test)

    @property
    def user_counts(self) -> Counts:
        """Number of interactions of each user that the model was trained on: [U].

        Without data these are the interactions that the artifact knows, including those held out.
        """
        if self.dataset is None:
            return np.asarray(self.artifact.seen.counts, np.int64)
        counts = self.dataset.train.user_counts(len(self.dataset.users))
        if self.artifact.experiment.train.validation == "include":
            counts += np.bincount(self.dataset.validation.user_rows, minlength=len(counts))
        return counts

    @property
    def counted(self) -> str:
        """What `user_counts` counts."""
        return (
            "training interactions"
            if self.dataset is not None
            else "known interactions, including those held out"
        )

    @property
    def item_counts(self) -> Counts:
        """Number of interactions of each item that the model was trained on: [I]."""
        return self.artifact.item_columns["popularity"].to_numpy().astype(np.int64)


def open_report_inputs(path: str | Path, data: str | Path | None = None) -> ReportInputs:
    """Open the artifact at `path` and whatever of its run and data is available.

    `data` is the prepared folder; by default the one that the run names. Raises `ArtifactError` for the
    artifact, and `DataError` for data that are given and do not match.
    """
    folder = locate_artifact(path)
    artifact = open_artifact(folder)
    run = folder.parent if (folder.parent / "run.json").is_file() else None
    dataset, reason = None, ""
    try:
        own, _ = data_of(folder, artifact, data)
        if final := final_sentence(artifact.metrics):
            reason = f"{final} Judge it on later interactions with 'ncf evaluate --data NEW'."
        else:
            dataset = as_trained(artifact, own)
    except DataError as error:
        if data is not None:
            raise
        reason = str(error)
    given = None if data is None else str(data)
    return ReportInputs(str(path), artifact, run, dataset, given, reason, _histories(artifact, run))


def _histories(artifact: Artifact, run: Path | None) -> dict[str, list[dict[str, Any]]]:
    histories: dict[str, list[dict[str, Any]]] = {}
    for half in ("gmf", "mlp"):
        if artifact.experiment.pretraining is None or run is None:
            continue
        try:
            metrics = open_artifact(run / half).metrics
        except ArtifactError:
            continue  # halves that were given with --gmf and --mlp are in other folders
        histories[half] = list(metrics.get("history", []))
    histories[artifact.experiment.name] = list(artifact.metrics.get("history", []))
    return histories
