"""A split by time beside leave-one-out: the same recipe, trained on the past alone and judged on what came after.

In: a run whose data have times but were split leave-one-out. Out: how much training knows of the time after a user's test
interaction, and the recipe's judgements under both splits. The decision worth knowing: the data are prepared once more
from their known source and the recipe is trained once more, into `time-split/` of the run; both are kept there and used
again, and a training that was interrupted goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ncf.analysis.evaluate import evaluate_both
from ncf.analysis.evaluated_run import EvaluatedRun, open_subject
from ncf.data import Dataset, PrepareOptions, prepare_catalog
from ncf.errors import ConfigError, DataError
from ncf.evaluation import EvaluationResult
from ncf.experiment import RunOptions, train
from ncf.serving.artifact import locate_artifact, open_artifact
from ncf.tracking.tracker import Tracker

FOLDER = "time-split"


@dataclass(frozen=True)
class TemporalEvaluation:
    """`judged` by split ("leave one out", "time") and protocol; `run` is the run that was trained on the past.

    `later`: the share of training interactions that came after the median user's last training interaction.
    """

    judged: dict[str, dict[str, EvaluationResult]]
    subjects: dict[str, EvaluatedRun]
    run: Path
    later: float

    @property
    def leak(self) -> str:
        """The leak of leave-one-out, in words."""
        return (
            "Leave-one-out trains on what others did after a user's test interaction: at the median user's latest training "
            f"interaction {self.later:.0%} of all training interactions were still to come. The split by time has no such future."
        )

    @property
    def rows(self) -> str:
        """What each split judges."""
        parts = []
        for name, subject in self.subjects.items():
            held_out, train = subject.held_out, len(subject.dataset.train)
            users = len(np.unique(held_out.user_rows))
            parts.append(f"{name}: {len(held_out):,} rows of {users:,} users after {train:,} of training")
        several = any(
            len(one.held_out) > len(np.unique(one.held_out.user_rows)) for one in self.subjects.values()
        )
        remark = (
            " Rows of one user are no independent ones: intervals are over users, each drawn with all rows."
            if several
            else ""
        )
        return "; ".join(parts) + "." + remark


def is_split_by_time(dataset: Dataset) -> bool:
    """Whether the data were prepared with `--split time`."""
    return bool(dataset.description.get("options", {}).get("split") == "time")


def folders_of(path: str, data: str | None) -> tuple[str | None, str | None]:
    """(data that the run was trained on, data split by time) of what `--data` gave, which may be either."""
    if data is None:
        return None, None
    dataset, trained_on = Dataset.open(data), open_artifact(path).manifest["data"]["digest"]
    return (data, None) if dataset.digest == trained_on or not is_split_by_time(dataset) else (None, data)


def evaluate_by_time(
    subject: EvaluatedRun,
    data: str | Path | None,
    tracker: Tracker,
    log: Callable[[str], None],
    stop: Callable[[], bool] = lambda: False,
) -> TemporalEvaluation:
    """Train the recipe of `subject` on a split by time, and judge both.

    `data` is a prepared folder that is split by time, instead of preparing the known source again. Raises `DataError` where
    there are no times or the source is not known, `ConfigError` for a model.tar.gz.
    """
    if Path(subject.path).is_file():
        raise ConfigError(
            f"A split by time trains once more and keeps that beside the run: give the run's folder, and not {subject.path}."
        )
    folder = locate_artifact(subject.path).parent / FOLDER
    cut, place = _data(subject, data, folder / "data", log)
    run = folder / "run"
    settings, finished = subject.artifact.experiment, _trained_on(run)
    if finished != cut.digest:
        log(f"Training {settings.name} on the past alone, in {run}.")
        begun = (run / "run.json").is_file()
        manner = RunOptions(
            resume=begun and finished is None, overwrite=finished is not None, tracker=tracker, stop=stop
        )
        train(cut, settings, run, data_path=place, manner=manner)
    later = open_subject(run, place, ties=subject.rules.ties, cutoffs=subject.rules.cutoffs)
    subjects = {"leave one out": subject, "time": later}
    judged = {name: evaluate_both(one) for name, one in subjects.items()}
    return TemporalEvaluation(judged, subjects, run, share_still_to_come(subject.dataset))


def share_still_to_come(dataset: Dataset) -> float:
    """The median over users of the share of training interactions that are later than the user's own latest.

    A user's test interaction under `--split last` is later than that; its own time is not kept with the data.
    """
    times, users = dataset.train.timestamps, dataset.train.user_rows
    assert times is not None
    latest = np.full(len(dataset.users), np.iinfo(np.int64).min)
    np.maximum.at(latest, users, times)
    known = latest[np.unique(dataset.test.user_rows)]
    return float(1 - np.median(np.searchsorted(np.sort(times), known, side="right")) / len(times))


def _data(
    subject: EvaluatedRun, data: str | Path | None, target: Path, log: Callable[[str], None]
) -> tuple[Dataset, Path]:
    """Data split by time: those that are given, those that an earlier call left, or the known source cut now."""
    if data is not None:
        return Dataset.open(data), Path(data)
    if (target / "dataset.json").is_file():
        return Dataset.open(target), target
    dataset, report = prepare_catalog(_source(subject.dataset), _options(subject.dataset))
    for line in report.lines():
        log(line)
    dataset.save(target)
    return dataset, target


def _source(dataset: Dataset) -> str:
    """The name of the known set that the data are of."""
    again = "'ncf prepare … --split time --output FOLDER' makes such data, and --data FOLDER gives them here"
    if dataset.train.timestamps is None:
        raise DataError(
            f"The data {dataset.name} have no times, so they cannot be split by time: prepare a table that has them with "
            "'ncf prepare --input FILE --time COLUMN --split time'."
        )
    if dataset.description.get("source", {}).get("kind") != "catalogue":
        raise DataError(f"It is not known where the table of {dataset.name} is: {again}.")
    return dataset.name


def _options(dataset: Dataset) -> PrepareOptions:
    """As the data were prepared, but for the split."""
    given: dict[str, Any] = dict(dataset.description.get("options", {}))
    return replace(PrepareOptions(**given), split="time", validation_popularity_exponent=0.0)


def _trained_on(run: Path) -> str | None:
    """The digest of the data of a finished run."""
    if not (run / "artifact" / "manifest.json").is_file():
        return None
    return str(open_artifact(run).manifest["data"]["digest"])
