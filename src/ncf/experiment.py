"""A run from start to end: train a model on a prepared data set, evaluate it, write the artifact.

In: data and an `Experiment`. Out: a run's folder: `run.json` (settings, where the data are), `events.jsonl`,
`checkpoints/`, `artifact/`, and for a pre-trained NeuMF the runs of its halves in `gmf/` and `mlp/`. The
decision worth knowing: of several processes all call `train` alike, and only process 0 writes.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ncf.config import Experiment, TrainConfig
from ncf.data import Dataset, PrepareOptions, prepare_catalog
from ncf.data.decay import TRENDING, decayed, period, with_trending
from ncf.data.files import atomic_file, storage_errors, write_text
from ncf.errors import ConfigError
from ncf.models import Model, attach_histories, build_model
from ncf.models.recency import require_times
from ncf.renewal.final import Twin, half_twin, recipe_of, same_data, twin_of
from ncf.renewal.warm import WarmStart
from ncf.runtime import Workers, choose_device, choose_threads, generator, workers
from ncf.serving.artifact import Artifact, open_artifact, write_artifact
from ncf.serving.card import model_card
from ncf.tracking.tracker import JsonLines, PhaseClock, Silent, Tracker, Trackers
from ncf.training import EvaluationPlan, Trainer, evaluator, fit
from ncf.training.checkpoint import Checkpoints
from ncf.training.initialization import Initializer
from ncf.training.outcome import measure, quoted, verdict_on_trained
from ncf.training.parallel.communicator import Communicator, SingleProcess, assert_same
from ncf.training.parallel.sharded_weights import write_weights
from ncf.training.parallel.sharding import process_group, refuse_what_shards_cannot
from ncf.training.run_folder import claimed
from ncf.training.start_search import Start, choose_start


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its artifact, and its metrics (`metrics.json` of the artifact)."""

    folder: Path
    artifact: Path
    metrics: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out, apart from what it computes."""

    resume: bool = False
    """Continue from the newest checkpoint in the run's folder, if there is one."""
    overwrite: bool = False
    """Replace a run that is in the folder already."""
    report_best_on_test: bool = False
    """Evaluate every epoch on test as well and report the best, as papers do. It selects nothing."""
    serves: bool = True
    """False leaves what serving prepares (candidates, fold-in) to the first recommender of the artifact: most
    trials and halves never have one."""
    verdict: bool = True
    """Compare the model with popularity and a closed form on the test rows (`baselines/verdict.py`)."""
    tracker: Tracker = Silent()  # noqa: RUF009 - it has no state
    phases: Mapping[str, float] = field(default_factory=dict)
    """Seconds of what the caller did before, such as reading the data; they begin the run's own `phases`."""
    stop: Callable[[], bool] = lambda: False
    """Asked between steps; once it returns True, a checkpoint is written and `Interrupted` is raised."""
    communicator: Communicator = SingleProcess()  # noqa: RUF009 - nor has this
    """With several processes, each calls `train` with the same arguments; only process 0 writes."""


def open_data(
    experiment: Experiment, folder: str | None, log: Callable[[str], None] = print
) -> tuple[Dataset, Path]:
    """The data set of a run and its folder: the given `folder` or the recipe's.

    A set of the catalog is prepared on first use, which goes to `log`. Raises `ConfigError` without any data.
    """
    path = folder or experiment.data.path
    name = experiment.data.catalog
    if path is None and name is None:
        raise ConfigError(
            "No data set is named: give --data FOLDER, or set data.path or data.catalog in the recipe."
        )
    target = Path(path or f"data/{name}")
    if path is None and name is not None and not (target / "dataset.json").is_file():
        log(f"Preparing {name} of the catalog in {target}.")
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
    options: RunOptions | None = None,
    final: str | Path | None = None,
    warm: str | Path | None = None,
) -> Run:
    """Train, evaluate on test, write the artifact.

    `output` is the run's folder; by default a new one in `runs/`, named after the experiment. A folder that
    holds a run already is refused, unless the `options` say to resume or to overwrite it. `data_path` is
    recorded as the folder of `dataset`. `gmf` and `mlp` are runs to fuse, instead of training the halves
    first. `final` is a judged run whose recipe `experiment` is: all interactions are trained on, test
    included, for as many epochs as its weights had, and its figures are quoted (`renewal.final`). `warm` is
    an earlier run whose vectors are the first values (`renewal.warm`), and `experiment` one of its shape.

    Raises `ConfigError` for settings that do not go together, `StorageError` for an unusable folder, and what
    `fit` raises.
    """
    options = options or RunOptions()
    communicator, twin = options.communicator, twin_of(final) if final else None
    earlier = _earlier(dataset, warm, twin)
    assert_same(communicator, _facts(dataset, experiment))
    if experiment.train.tables == "sharded":
        refuse_what_shards_cannot(experiment, communicator)
        if earlier is not None:
            raise ConfigError("A warm start needs whole tables: set train.tables = 'replicated'.")
    require_times(dataset.train, experiment.model)
    for name in ("half_life", "trending"):
        if getattr(experiment.train, name):
            period(dataset, getattr(experiment.train, name), f"train.{name}")
    if experiment.train.trending and TRENDING in dataset.item_columns.columns:
        raise ConfigError("The items have a column 'trending': give it another name for train.trending.")
    clock = PhaseClock(options.phases)
    trackers: list[Tracker] = [clock, options.tracker]
    folder = Path()
    with ExitStack() as stack:
        if communicator.rank == 0:
            folder = Path(output) if output else fresh_folder(experiment.name)
            data = {
                "path": str(Path(data_path).resolve()) if data_path else None,
                "name": dataset.name,
                "digest": dataset.digest,
                **({"final": twin.mark} if twin else {}),
                **({"warm": earlier.mark} if earlier else {}),
            }
            stack.enter_context(
                claimed(folder, experiment, data, resume=options.resume, overwrite=options.overwrite)
            )
            trackers.insert(1, JsonLines(folder / "events.jsonl"))
        folder = communicator.broadcast(folder)
        tracker = Trackers(trackers)
        tracker.opened(folder)
        with tracker.phase("pre-training") if experiment.pretraining else nullcontext():
            pretrained = _pretrain(dataset, experiment, folder, gmf, mlp, options, twin)
        if experiment.train.tables == "sharded":
            stack.enter_context(process_group(choose_device(experiment.train.device)))
        pool = stack.enter_context(workers(choose_threads(experiment.train.threads)))
        start = _start(dataset, experiment, folder, options, tracker, pool)
        tracker.start(experiment.name, start.experiment.model_dump(mode="json"))
        return _train_here(dataset, start, folder, pretrained, options, tracker, clock, pool, twin, earlier)


def _earlier(dataset: Dataset, warm: str | Path | None, twin: Twin | None) -> WarmStart | None:
    """The run that this one starts from; a final fit starts from where its twin did."""
    mark = twin.artifact.metrics.get("warm") if twin else None
    if mark is None:
        return WarmStart.of(warm, dataset) if warm else None
    earlier = WarmStart.of(mark["from"], dataset)
    if earlier.mark["weights"] != mark["weights"]:
        raise ConfigError(
            f"{mark['from']}, from which the judged run started, was replaced: train that anew."
        )
    return earlier


def _start(
    dataset: Dataset,
    experiment: Experiment,
    folder: Path,
    options: RunOptions,
    tracker: Tracker,
    pool: Workers,
) -> Start:
    """The recipe with numbers for what is "auto": those that a resumed run chose, or chosen now."""
    communicator, start = options.communicator, Start(experiment)
    if experiment.train.init != "auto":
        return start
    communicator.phase("choosing the start")
    if communicator.rank == 0:
        notes = folder / "chosen.json"
        asked = experiment.digest()
        if options.resume and (known := _chosen(notes)) and known["asked"] == asked:
            start = Start(Experiment.parse(known["experiment"], source=str(notes)))
        else:
            start = choose_start(decayed(dataset, experiment.train.half_life), experiment, pool, tracker)
            document = {"asked": asked, "experiment": start.experiment.model_dump(mode="json")}
            with atomic_file(notes) as temporary:
                write_text(temporary, json.dumps(document, indent=2))
    return Start(communicator.broadcast(start.experiment), start.logits)


def _facts(dataset: Dataset, experiment: Experiment) -> dict[str, str]:
    """What must be the same on all processes."""
    return {
        "data": dataset.digest,
        "recipe": experiment.digest(),
        "version of ncf": version("ncf"),
        "version of torch": torch.__version__,
    }


def _chosen(notes: Path) -> dict[str, Any] | None:
    """What an earlier part of the run chose; None if it did not come so far."""
    with storage_errors(notes):
        return json.loads(notes.read_text("utf-8")) if notes.is_file() else None


def _train_here(
    dataset: Dataset,
    start: Start,
    folder: Path,
    pretrained: tuple[Model, Model] | None,
    options: RunOptions,
    tracker: Tracker,
    clock: PhaseClock,
    pool: Workers,
    twin: Twin | None,
    earlier: WarmStart | None,
) -> Run:
    began = time.perf_counter()
    communicator, experiment = options.communicator, start.experiment
    communicator.phase("initializing the model")
    config = experiment.train
    seen = _seen(dataset if earlier is None else earlier.seen(dataset), config, twin is not None)
    checkpoints = Checkpoints(
        folder / "checkpoints", experiment.digest(), dataset.digest, config.keep_checkpoints
    )
    fresh = communicator.broadcast(not (options.resume and checkpoints.exist()))
    with tracker.phase("initialization"):
        # Sharded tables are not in the model: it is built with no rows.
        sizes = (len(dataset.users), len(dataset.items)) if config.tables == "replicated" else (0, 0)
        random = generator(config.seed, "init")
        model = build_model(experiment.model, *sizes, random).to(choose_device(config.device))
        initializer = Initializer(seen, experiment, tracker, pool, start.logits)
        sharded = None
        if config.tables == "sharded":
            sharded = initializer.shard(model, communicator, fresh)
        elif earlier is None:
            initializer.fill(model, pretrained, begins=fresh and communicator.rank == 0)
        elif fresh and communicator.rank == 0:
            tracker.log(earlier.fill(model, seen))
        communicator.broadcast_tensors(model.state_dict())
        trainer = Trainer(seen, model, config, pool, communicator, sharded)
    _log_setup(trainer, seen, tracker)
    plan = EvaluationPlan(evaluator(trainer), seen, experiment.evaluation, options.report_best_on_test)
    start_counts = pretrained is not None or earlier is not None or config.init != "random"
    epochs = twin.mark["epochs"] if twin else None
    fitted = fit(
        trainer,
        plan,
        tracker,
        checkpoints,
        options.resume,
        options.stop,
        start_counts,
        epochs,
        keep_best=earlier is not None and twin is None,
    )
    if twin is not None:
        mark = {**twin.mark, "interactions": len(seen.train)}
        metrics = quoted(twin.artifact.metrics, mark, fitted)
    else:
        communicator.phase("evaluating")
        with tracker.phase("test"):
            tested = plan.evaluate(seen.test, plan.rules)
            metrics = measure(plan, fitted, tested)
    if earlier is not None:
        metrics["warm"] = earlier.mark | earlier.counts
    metrics["seconds"] = round(time.perf_counter() - began, 2)
    if twin is None and options.verdict:
        communicator.phase("comparing with popularity and the closed form")
        with tracker.phase("verdict"):
            metrics["verdict"] = communicator.broadcast(verdict_on_trained(trainer, plan, tested))
    metrics["phases"] = clock.seconds  # goes on: what the artifact takes is in it when it is written
    artifact, weights = folder / "artifact", None
    communicator.phase("writing the artifact")
    if sharded is not None:
        weights = folder / ".weights.part"
        with tracker.phase("writing"):
            write_weights(sharded, weights)
    if communicator.rank == 0:
        described = replace(seen, digest=dataset.digest) if twin else dataset
        card = model_card(experiment, described, metrics, trainer.parameters)
        write_artifact(
            artifact,
            trainer.evaluated_model,
            experiment,
            seen,
            metrics,
            card,
            dataset.digest,
            weights,
            options.serves,
            tracker.phase,
        )
    figures = {"metrics": metrics["test"]["metrics"], "artifact": str(artifact), "phases": clock.seconds}
    tracker.finish(figures)
    communicator.barrier()  # no process succeeds before the artifact is written
    return Run(folder, artifact, metrics)


def _pretrain(
    dataset: Dataset,
    experiment: Experiment,
    folder: Path,
    gmf: str | Path | None,
    mlp: str | Path | None,
    options: RunOptions,
    twin: Twin | None,
) -> tuple[Model, Model] | None:
    """The trained GMF and MLP of a recipe with pre-training, given or trained now; else None.

    Those of a final fit are final fits of the halves of its `twin`.
    """
    recipe = experiment.pretraining
    if recipe is None:
        if gmf or mlp:
            raise ConfigError("--gmf and --mlp need a recipe with a [pretraining] table: see recipes/.")
        return None
    halves = {"gmf": (recipe.gmf, gmf), "mlp": (recipe.mlp, mlp)}
    twins = {name: half_twin(twin, name) if twin and not halves[name][1] else None for name in halves}
    first, second = (
        _half(dataset, half, folder / name, given, options, twins[name], twin is not None)
        for name, (half, given) in halves.items()
    )
    return first, second


def _half(
    dataset: Dataset,
    half: Experiment,
    target: Path,
    given: str | Path | None,
    options: RunOptions,
    twin: Twin | None,
    final: bool,
) -> Model:
    """The model of the `given` run, of one finished in `target` before, or of one trained there now."""
    communicator = options.communicator
    finished = communicator.broadcast(options.resume and (target / "artifact" / "manifest.json").is_file())
    if given is None and not finished:
        plain = replace(options, report_best_on_test=False, serves=False, verdict=False, phases={})
        if twin is not None:
            half = recipe_of(twin)
        train(dataset, half, target, options=plain, final=twin.folder if twin else None)
    artifact = None
    if communicator.rank == 0:
        artifact = open_artifact(given or target)
        same_data(artifact, dataset)
        if final != bool(artifact.metrics.get("final")):
            needed = "one that was trained with --final" if final else "a run that was judged"
            what = "holds the test out" if final else "is a final fit, which was trained on the test as well"
            raise ConfigError(f"{artifact.folder.parent} {what}: give {needed}.")
    config = communicator.broadcast(artifact.experiment.model if artifact else half.model)
    model = build_model(config, len(dataset.users), len(dataset.items))
    if artifact is not None:
        _load_trained(model, artifact, _seen(dataset, artifact.experiment.train, final))
    communicator.broadcast_tensors(model.state_dict())
    return model


def _load_trained(model: Model, artifact: Artifact, seen: Dataset) -> None:
    """Fill `model` with the weights of an artifact that was trained on `seen`, for more training."""
    values = artifact.trainable
    model.load_state_dict({name: torch.from_numpy(np.array(values[name])) for name in model.state_dict()})
    attach_histories(model, seen, artifact.experiment.train.seed)


def _seen(dataset: Dataset, config: TrainConfig, everything: bool) -> Dataset:
    """The data as a run with these settings sees them: perhaps with validation in training, or with
    `everything`, with weights where old interactions count less, and with what is trending."""
    if everything:
        dataset = dataset.with_everything_in_training()
    elif config.validation == "include":
        dataset = dataset.with_validation_in_training()
    return with_trending(decayed(dataset, config.half_life), config.trending)


def _log_setup(trainer: Trainer, dataset: Dataset, tracker: Tracker) -> None:
    precision = str(trainer.objective.precision).removeprefix("torch.")
    lazy = sorted(trainer.runner.lazy)
    lazily = f"; updated lazily: {', '.join(lazy)}" if lazy else ""
    tracker.log(
        f"{trainer.parameters:,} parameters, {trainer.sampler.positives:,} positives an epoch in "
        f"{trainer.sampler.steps:,} steps, {trainer.workers.threads} threads, tower in {precision}{lazily}."
    )
    if full := trainer.sampler.full_users:
        tracker.log(
            f"{full:,} users have used every item: no negative exists for them, so training leaves out their "
            f"{len(dataset.train) - trainer.sampler.positives:,} positives."
        )
    if trainer.config.patience and not len(dataset.validation):
        tracker.log(
            "train.patience has nothing to watch, because no validation positives are held out: training "
            "runs to its last epoch."
        )


def fresh_folder(name: str) -> Path:
    """A folder in `runs/` for a run of this name that does not exist yet."""
    number, folder = 1, Path("runs") / name
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder
