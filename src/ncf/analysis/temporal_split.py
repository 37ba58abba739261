"""A split by time next to leave-one-out: the same recipe, trained on the past alone and evaluated on what
came after.

In: a run whose data have times but were split leave-one-out. Out: how much of the future training saw, and
the recipe's results under both splits. The decision worth knowing: the data are prepared again from their
known source and the recipe is trained again, in `time-split/` of the run. Both are kept there and reused; an
interrupted training is resumed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ncf.analysis.evaluate import evaluate_both
from ncf.analysis.evaluated_run import EvaluatedRun, open_run
from ncf.data import Dataset, PrepareOptions, prepare_catalog
from ncf.errors import ConfigError, DataError
from ncf.evaluation import EvaluationResult
from ncf.experiment import RunOptions, train
from ncf.serving.artifact import locate_artifact, open_artifact
from ncf.tracking.tracker import Tracker

FOLDER = "time-split"


@dataclass(frozen=True)
class TemporalEvaluation:
    """`results` by split ("leave one out", "time") and protocol, and the two `runs` by split.

    `folder` is the run that was trained on the past. `share_to_come` is the share of training interactions
    that came after the median user's last training interaction.
    """

    results: dict[str, dict[str, EvaluationResult]]
    runs: dict[str, EvaluatedRun]
    folder: Path
    share_to_come: float

    @property
    def leak(self) -> str:
        """A sentence on how much of the future leave-one-out trains on."""
        return (
            "Leave-one-out trains on what others did after a user's test interaction: at the median user's "
            f"latest training interaction, {self.share_to_come:.0%} of all training interactions were still "
            "to come. The split by time trains on the past only."
        )

    @property
    def rows(self) -> str:
        """A sentence on the rows that each split evaluates."""
        parts, several = [], False
        for name, run in self.runs.items():
            users = len(np.unique(run.held_out.user_rows))
            several |= len(run.held_out) > users
            train = len(run.dataset.train)
            parts.append(f"{name}: {len(run.held_out):,} rows of {users:,} users after {train:,} of training")
        remark = " Rows of one user are not independent, so intervals resample users with all their rows."
        return "; ".join(parts) + "." + (remark if several else "")


def is_split_by_time(dataset: Dataset) -> bool:
    """Whether `dataset` was prepared with `--split time`."""
    return bool(dataset.description.get("options", {}).get("split") == "time")


def folders_of(path: str, data: str | None) -> tuple[str | None, str | None]:
    """(data that the run was trained on, data split by time), given a run's `path` and `--data`, which may be
    either.
    """
    if data is None:
        return None, None
    dataset, trained_on = Dataset.open(data), open_artifact(path).manifest["data"]["digest"]
    return (data, None) if dataset.digest == trained_on or not is_split_by_time(dataset) else (None, data)


def evaluate_by_time(
    run: EvaluatedRun,
    data: str | Path | None,
    tracker: Tracker,
    log: Callable[[str], None],
    stop: Callable[[], bool] = lambda: False,
) -> TemporalEvaluation:
    """Train the recipe of `run` on a split by time, and evaluate it under both splits.

    `data` is a prepared folder that is split by time; by default the known source is prepared again.
    `tracker` records the training, `log` is called with each sentence for the user, and training is
    interrupted once `stop` returns true. Raises `DataError` where there are no times or the source is not
    known, and `ConfigError` for a model.tar.gz.
    """
    refuse_to_train_again(run)
    dataset, data_path = _data(run, data, locate_artifact(run.path).parent / FOLDER / "data", log)
    target = train_again(run, dataset, data_path, FOLDER, tracker, log, stop)
    later = open_run(target, data_path, ties=run.rules.ties, cutoffs=run.rules.cutoffs)
    runs = {"leave one out": run, "time": later}
    results = {name: evaluate_both(evaluated) for name, evaluated in runs.items()}
    return TemporalEvaluation(results, runs, target, share_still_to_come(run.dataset))


def refuse_to_train_again(run: EvaluatedRun) -> None:
    """Raise `ConfigError` for a run beside which its recipe cannot be trained again."""
    if Path(run.path).is_file():
        raise ConfigError(
            f"This keeps a second training in the run's folder: give that folder instead of {run.path}."
        )
    if warm := run.artifact.metrics.get("warm"):
        raise ConfigError(
            f"{run.path} is a warm start, and its few epochs alone train no model: give the run that it "
            f"started from, {warm['from']}."
        )


def train_again(
    run: EvaluatedRun,
    dataset: Dataset,
    data_path: Path | None,
    folder: str,
    tracker: Tracker,
    log: Callable[[str], None],
    stop: Callable[[], bool],
) -> Path:
    """Train the recipe of `run` on `dataset` in `folder`/run of its own folder, which is returned.

    What is there already is kept if it is of these data, and an interrupted training is resumed.
    """
    refuse_to_train_again(run)
    target = locate_artifact(run.path).parent / folder / "run"
    settings, finished = run.artifact.experiment, _trained_on(target)
    if finished != dataset.digest:
        log(f"Training {settings.name} on {len(dataset.train):,} of its interactions, in {target}.")
        begun = (target / "run.json").is_file()
        options = RunOptions(
            resume=begun and finished is None,
            overwrite=finished is not None,
            verdict=False,
            tracker=tracker,
            stop=stop,
        )
        train(dataset, settings, target, data_path=data_path, options=options)
    return target


def share_still_to_come(dataset: Dataset) -> float:
    """The median over test users of the share of training interactions later than the user's own latest.

    A user's test interaction under `--split last` comes later still.
    """
    times, users = dataset.train.timestamps, dataset.train.user_rows
    assert times is not None
    latest = np.full(len(dataset.users), np.iinfo(np.int64).min)
    np.maximum.at(latest, users, times)
    known = latest[np.unique(dataset.test.user_rows)]
    return float(1 - np.median(np.searchsorted(np.sort(times), known, side="right")) / len(times))


def _data(
    run: EvaluatedRun, data: str | Path | None, target: Path, log: Callable[[str], None]
) -> tuple[Dataset, Path]:
    """Data split by time: those given, those left by an earlier call, or the known source prepared now."""
    if data is not None:
        return Dataset.open(data), Path(data)
    if (target / "dataset.json").is_file():
        return Dataset.open(target), target
    dataset, report = prepare_catalog(_source(run.dataset), _options(run.dataset))
    for line in report.lines():
        log(line)
    dataset.save(target)
    return dataset, target


def _source(dataset: Dataset) -> str:
    """The catalogue's name of the data."""
    if dataset.train.timestamps is None:
        raise DataError(
            f"The data {dataset.name} have no times, so they cannot be split by time: prepare a table with "
            "times with 'ncf prepare --input FILE --time COLUMN --split time'."
        )
    if dataset.description.get("source", {}).get("kind") != "catalogue":
        raise DataError(
            f"The table of {dataset.name} is not in the catalogue: split it with 'ncf prepare … --split time "
            "--output FOLDER', and give that folder with --data FOLDER."
        )
    return dataset.name


def _options(dataset: Dataset) -> PrepareOptions:
    """The options that the data were prepared with, except for the split."""
    given: dict[str, Any] = dict(dataset.description.get("options", {}))
    return replace(PrepareOptions(**given), split="time", validation_popularity_exponent=0.0)


def _trained_on(run: Path) -> str | None:
    """The digest of the data of a finished run; None where there is no finished run."""
    if not (run / "artifact" / "manifest.json").is_file():
        return None
    return str(open_artifact(run).manifest["data"]["digest"])
