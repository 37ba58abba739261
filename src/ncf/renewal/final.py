"""The final fit of a judged run: the same recipe for as many epochs, on all interactions.

In: a finished run that was judged on its test. Out: the recipe and the data that its final fit is trained
with. The decision worth knowing: nothing is chosen anew, and the figures stay those of the judged twin.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncf.config import Experiment
from ncf.data import Dataset
from ncf.errors import ConfigError, DataError
from ncf.serving.artifact import Artifact, locate_artifact, open_artifact
from ncf.training.run_folder import data_folder


@dataclass(frozen=True)
class Twin:
    """A judged run, whose recipe and number of epochs a final fit repeats on all interactions."""

    folder: Path
    artifact: Artifact

    @property
    def mark(self) -> dict[str, Any]:
        """What the final fit tells of it: its folder, the sha256 of its weights, and its epochs."""
        epochs = self.artifact.metrics["selected_epoch"]
        return {"twin": str(self.folder), "weights": weights_digest(self.artifact), "epochs": epochs}


def twin_of(path: str | Path) -> Twin:
    """The judged run at `path`, for a final fit; raises `ConfigError` where it is not one.

    Raises `ArtifactError` for a run that has not finished.
    """
    artifact = open_artifact(path)
    if final := artifact.metrics.get("final"):
        raise ConfigError(f"{path} is a final fit already: give --final its judged twin, {final['twin']}.")
    if not (artifact.metrics.get("test") or {}).get("metrics"):
        raise ConfigError(
            f"{path} was not judged, since its data hold nothing out: it was trained on all of them already."
        )
    if "selected_epoch" not in artifact.metrics:
        raise ConfigError(
            f"{path} does not say how many epochs its weights had, as runs of this version do: train it anew."
        )
    return Twin(run_folder(path), artifact)


def weights_digest(artifact: Artifact) -> str:
    """The sha256 of the weights, which names a model."""
    digest: str = artifact.manifest["files"]["model.safetensors"]["sha256"]
    return digest


def run_folder(path: str | Path) -> Path:
    """The folder of a run, whether `path` is that or the artifact in it."""
    folder = Path(path).resolve()
    return (
        folder.parent if locate_artifact(path).resolve() == folder and folder.name == "artifact" else folder
    )


def data_of(
    path: str | Path, artifact: Artifact, data: str | Path | None, other_data: bool = False
) -> tuple[Dataset, Path]:
    """The data of the `artifact` that was opened at `path`, and their folder: `data`, or the one it names.

    Raises `DataError` where no folder is known, it is gone or, unless `other_data`, its digest is not that of
    the artifact's.
    """
    recorded = None if data else data_folder(locate_artifact(path).parent)
    if recorded is not None and not Path(recorded).exists():
        raise DataError(
            f"The data of {path} are not in {recorded} any more: give --data with the folder it was trained "
            "on."
        )
    folder = data or recorded
    if folder is None:
        raise DataError(f"The location of the data of {path} is not recorded: give --data FOLDER.")
    dataset = Dataset.open(folder)
    if not other_data:
        same_data(artifact, dataset)
    return dataset, Path(folder)


def recipe_of(twin: Twin) -> Experiment:
    """The recipe of a judged run for a final fit, which has no validation to stop by."""
    judged = twin.artifact.experiment
    return judged.model_copy(update={"train": judged.train.model_copy(update={"patience": 0})})


def half_twin(twin: Twin, name: str) -> Twin:
    """The judged half of a judged run."""
    folder = twin.folder / name
    if not (folder / "artifact" / "manifest.json").is_file():
        raise ConfigError(
            f"The halves of {twin.folder} are not in its folder: make a final fit of each with 'ncf train "
            "--final', and give them with --gmf and --mlp."
        )
    return Twin(folder, open_artifact(folder))


def same_data(artifact: Artifact, dataset: Dataset) -> None:
    """Raise `DataError` if the artifact was trained on other data than `dataset`."""
    trained_on = artifact.manifest["data"]
    if trained_on["digest"] != dataset.digest:
        raise DataError(
            f"{artifact.folder} was trained on {trained_on['name']} ({trained_on['digest'][:12]}), but these "
            f"data are {dataset.name} ({dataset.digest[:12]}): give --data with the folder it was trained on."
        )
