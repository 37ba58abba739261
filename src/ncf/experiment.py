"""The whole way in one place: train a model on a prepared data set, judge it, write the artifact.

A run is a folder: `run.json` (settings, where the data are), `events.jsonl`, `checkpoints/`, `artifact/`, and for a
pre-trained NeuMF the runs of its halves in `gmf/` and `mlp/`.
"""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ncf.config import Experiment, TrainConfig
from ncf.data import Dataset, PrepareOptions, prepare_catalog
from ncf.data.files import storage_errors, write_text
from ncf.errors import ConfigError, DataError, StorageError
from ncf.models import GMF, Model, build_model, history_half, history_of
from ncf.models.frozen import thaw
from ncf.models.recency import require_times
from ncf.runtime import Workers, choose_device, choose_threads, generator, workers
from ncf.serving.artifact import Artifact, open_artifact, write_artifact
from ncf.serving.card import model_card
from ncf.tracking.tracker import JsonLines, Silent, Tracker, Trackers
from ncf.training import EvaluationPlan, FitResult, Trainer, evaluator, fit
from ncf.training.checkpoint import Checkpoints
from ncf.training.initialization import Initializer
from ncf.training.parallel.communicator import Communicator, SingleProcess, assert_same
from ncf.training.parallel.sharded_weights import write_weights
from ncf.training.parallel.sharding import process_group, refuse_what_shards_cannot


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its artifact, and what was measured (`metrics.json` of the artifact)."""

    folder: Path
    artifact: Path
    metrics: dict[str, Any]


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out, apart from what it computes."""

    resume: bool = False
    overwrite: bool = False
    report_best_on_test: bool = False
    serves: bool = True
    """False leaves out of the artifact what serving prepares (candidates, fold-in), which takes longer than training on
    small data; such an artifact can be judged and fused."""
    tracker: Tracker = Silent()  # noqa: RUF009 - it has no state
    stop: Callable[[], bool] = lambda: False
    communicator: Communicator = SingleProcess()  # noqa: RUF009 - nor has it
    """Of several processes each calls `train` with the same arguments; process 0 alone writes to `output`."""


def open_data(
    experiment: Experiment, folder: str | None, log: Callable[[str], None] = print
) -> tuple[Dataset, Path]:
    """The data set of a run: the folder that is given, or the recipe's; a known set is prepared on first use."""
    path = folder or experiment.data.path
    name = experiment.data.catalog
    if path is None and name is None:
        raise ConfigError("Which data? Give --data FOLDER, or set data.path or data.catalog in the recipe.")
    target = Path(path or f"data/{name}")
    if path is None and name is not None and not (target / "dataset.json").is_file():
        log(f"Preparing the known data set {name} in {target}.")
        dataset, report = prepare_catalog(name, PrepareOptions())
        dataset.save(target)
        for line in report.lines():
            log(line)
    return Dataset.open(target), target


def train(
    dataset: Dataset,
    experiment: Experiment,
    output: str | Path | None = None,
    *,
    data_path: str | Path | None = None,
    gmf: str | Path | None = None,
    mlp: str | Path | None = None,
    manner: RunOptions | None = None,
) -> Run:
    """Train, judge on test, write the artifact. `gmf` and `mlp` are runs to fuse instead of training them first.

    `output` is the run's folder; without it a new one is made in `runs/`, named after the experiment. A folder that
    holds a run already is refused, unless the manner is to resume or to overwrite it.
    """
    manner = manner or RunOptions()
    communicator = manner.communicator
    assert_same(communicator, _facts(dataset, experiment))
    if experiment.train.tables == "sharded":
        refuse_what_shards_cannot(experiment, communicator)
    require_times(dataset.train, experiment.model.history_half_life)
    tracker = manner.tracker
    folder = Path()
    if communicator.rank == 0:
        folder = _claim(Path(output) if output else fresh_folder(experiment.name), manner)
        tracker = Trackers([JsonLines(folder / "events.jsonl"), tracker])
        data = {
            "path": str(Path(data_path).resolve()) if data_path else None,
            "name": dataset.name,
            "digest": dataset.digest,
        }
        with storage_errors(folder):
            document = {"experiment": experiment.model_dump(mode="json"), "data": data}
            write_text(folder / "run.json", json.dumps(document, indent=2))
    folder = communicator.broadcast(folder)
    tracker.opened(folder)
    pretrained = _pretrain(dataset, experiment, folder, gmf, mlp, manner)
    tracker.start(experiment.name, experiment.model_dump(mode="json"))
    with ExitStack() as stack:
        if experiment.train.tables == "sharded":
            stack.enter_context(process_group(choose_device(experiment.train.device)))
        pool = stack.enter_context(workers(choose_threads(experiment.train.threads)))
        return _train_here(dataset, experiment, folder, pretrained, manner, tracker, pool)


def _facts(dataset: Dataset, experiment: Experiment) -> dict[str, str]:
    """What several processes must have in common."""
    return {
        "data": dataset.digest,
        "recipe": experiment.digest(),
        "version of ncf": version("ncf"),
        "version of torch": torch.__version__,
    }


def _train_here(
    dataset: Dataset,
    experiment: Experiment,
    folder: Path,
    pretrained: tuple[Model, Model] | None,
    manner: RunOptions,
    tracker: Tracker,
    pool: Workers,
) -> Run:
    began = time.perf_counter()
    communicator = manner.communicator
    communicator.phase("making the model's first values")
    config = experiment.train
    seen = _seen(dataset, config)
    whole = (len(dataset.users), len(dataset.items)) if config.tables == "replicated" else (0, 0)
    random = generator(config.seed, "init")
    model = build_model(experiment.model, *whole, random).to(choose_device(config.device))
    checkpoints = Checkpoints(
        folder / "checkpoints", experiment.digest(), dataset.digest, config.keep_checkpoints
    )
    fresh = communicator.broadcast(not (manner.resume and checkpoints.exist()))
    first_values = Initializer(seen, experiment, tracker, pool)
    sharded = None
    if config.tables == "sharded":
        sharded = first_values.shard(model, communicator, fresh)
    else:
        first_values.fill(model, pretrained, begins=fresh and communicator.rank == 0)
    communicator.broadcast_tensors(model.state_dict())
    trainer = Trainer(seen, model, config, pool, communicator, sharded)
    _say_what(trainer, seen, tracker)
    plan = EvaluationPlan(evaluator(trainer), seen, experiment.evaluation, manner.report_best_on_test)
    fitted = fit(trainer, plan, tracker, checkpoints, manner.resume, manner.stop)
    communicator.phase("evaluating")
    metrics = _measure(plan, fitted)
    metrics["seconds"] = round(time.perf_counter() - began, 2)
    artifact, weights = folder / "artifact", None
    communicator.phase("writing the artifact")
    if sharded is not None:
        weights = folder / ".weights.part"
        write_weights(sharded, weights)
    if communicator.rank == 0:
        card = model_card(experiment, dataset, metrics, trainer.parameters)
        write_artifact(
            artifact,
            trainer.evaluated_model,
            experiment,
            seen,
            metrics,
            card,
            dataset.digest,
            weights,
            manner.serves,
        )
    tracker.finish({"metrics": metrics["test"]["metrics"], "artifact": str(artifact)})
    communicator.barrier()  # nobody's end is success before the artifact is there
    return Run(folder, artifact, metrics)


def _pretrain(
    dataset: Dataset,
    experiment: Experiment,
    folder: Path,
    gmf: str | Path | None,
    mlp: str | Path | None,
    manner: RunOptions,
) -> tuple[Model, Model] | None:
    """Both halves, from runs that are given or trained now."""
    recipe = experiment.pretraining
    if recipe is None:
        if gmf or mlp:
            raise ConfigError("--gmf and --mlp need a recipe with a [pretraining] table: see recipes/.")
        return None
    given = {"gmf": gmf, "mlp": mlp}
    halves = {"gmf": recipe.gmf, "mlp": recipe.mlp}
    found = [_half(dataset, halves[name], folder / name, given[name], manner) for name in halves]
    return found[0], found[1]


def _half(
    dataset: Dataset, half: Experiment, target: Path, given: str | Path | None, manner: RunOptions
) -> Model:
    """The model of a run that is given, or that an earlier try has finished in `target`, or that is trained there now."""
    communicator = manner.communicator
    finished = communicator.broadcast(manner.resume and (target / "artifact" / "manifest.json").is_file())
    if given is None and not finished:
        train(dataset, half, target, manner=replace(manner, report_best_on_test=False))
    artifact = None
    if communicator.rank == 0:
        artifact = open_artifact(given or target)
        same_data(artifact, dataset)
    config = communicator.broadcast(artifact.experiment.model if artifact else half.model)
    model = build_model(config, len(dataset.users), len(dataset.items))
    if artifact is not None:
        _take(model, artifact, dataset)
    communicator.broadcast_tensors(model.state_dict())
    return model


def _take(model: Model, artifact: Artifact, dataset: Dataset) -> None:
    """The weights of a run that goes on being trained."""
    half = history_half(model)
    if half is None:
        model.load_state_dict(artifact.model.state_dict())
        return
    if not isinstance(artifact.model, GMF):
        raise ConfigError("--gmf takes a run of kind gmf or history-gmf, and no NeuMF.")
    half.attach(history_of(_seen(dataset, artifact.experiment.train), half.half_life))
    look_up = artifact.look_up
    assert look_up is not None
    thaw(half, artifact.model, torch.from_numpy(look_up.table_ID.copy()))


def _seen(dataset: Dataset, config: TrainConfig) -> Dataset:
    """The data as a run with these settings sees them."""
    return dataset.with_validation_in_training() if config.validation == "include" else dataset


def _say_what(trainer: Trainer, dataset: Dataset, tracker: Tracker) -> None:
    precision = str(trainer.objective.precision).removeprefix("torch.")
    lazy = sorted(trainer.runner.lazy)
    lazily = f"; updated lazily: {', '.join(lazy)}" if lazy else ""
    tracker.log(
        f"{trainer.parameters:,} parameters, {len(dataset.train):,} positives an epoch in "
        f"{trainer.sampler.steps:,} steps, {trainer.workers.threads} threads, tower in {precision}{lazily}."
    )


def _measure(plan: EvaluationPlan, fitted: FitResult) -> dict[str, Any]:
    """`metrics.json` of the artifact, but for the seconds."""
    metrics: dict[str, Any] = {
        "test": plan.evaluate(plan.dataset.test, plan.rules).to_json(),
        "selected": _selected(fitted),
    }
    if len(plan.dataset.validation):
        metrics["validation"] = plan.evaluate(plan.dataset.validation, plan.rules).to_json()
    best = max(
        (row for row in fitted.history if "test_hr@10" in row),
        key=lambda row: row["test_hr@10"],
        default=None,
    )
    if best is not None:
        metrics["best_on_test"] = {
            "warning": "chosen on the test set, as papers print it: it flatters and is no estimate",
            **{name: best[name] for name in ("epoch", "test_hr@10", "test_ndcg@10")},
        }
    metrics["history"] = fitted.history
    return metrics


def _selected(fitted: FitResult) -> str:
    if fitted.best is not None:
        return f"epoch {fitted.best}, the best on validation"
    return (
        f"epoch {fitted.history[-1]['epoch']}, the last"
        if fitted.history
        else "the fused halves, not trained on"
    )


def same_data(artifact: Artifact, dataset: Dataset) -> None:
    """Raise `DataError` where the artifact was trained on other data."""
    trained_on = artifact.manifest["data"]
    if trained_on["digest"] != dataset.digest:
        raise DataError(
            f"{artifact.folder} was trained on {trained_on['name']} ({trained_on['digest'][:12]}) and these data are "
            f"{dataset.name} ({dataset.digest[:12]}): give --data with the folder it was trained on."
        )


def fresh_folder(name: str) -> Path:
    """A run's folder in `runs/` that is not there yet."""
    number, folder = 1, Path("runs") / name
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


def _claim(folder: Path, manner: RunOptions) -> Path:
    """Make the run's folder; one that holds a run, or anything else, is not touched unasked."""
    with storage_errors(folder):
        if folder.is_dir() and any(folder.iterdir()) and not manner.resume:
            _clear(folder, manner)
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _clear(folder: Path, manner: RunOptions) -> None:
    if not (folder / "run.json").is_file():
        raise StorageError(f"{folder} holds other files and is no run: choose an empty or a new --output.")
    if not manner.overwrite:
        raise StorageError(
            f"{folder} holds a run already: --resume goes on with it, --overwrite replaces it, or choose another --output."
        )
    shutil.rmtree(folder)
