"""The search for an entry's settings: the same sampler, seed, number of trials and criterion for all entries.

In: data, an entry, a budget. Out: `SearchResult`, the settings with the highest validation NDCG@10 (sampled
protocol). The decision worth knowing: no trial is pruned, and the number of epochs is a setting like any
other, so the final run repeats exactly what was chosen. The first trial is the recipe or the defaults.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ncf.config import EvaluationConfig, Experiment
from ncf.data import Dataset
from ncf.errors import Interrupted, NcfError
from ncf.evaluation import evaluate_sampled
from ncf.leaderboard.entries import Entry, space_of
from ncf.leaderboard.folder import EntryFolder, read, write
from ncf.runtime import Workers
from ncf.tuning import Space
from ncf.tuning.study import StudyPlan, StudyResult, Values, explore, search
from ncf.tuning.trials import ProgressListener, Report, Trial

RULES = EvaluationConfig(cutoffs=(10,), bootstrap=0)
CRITERION = "ndcg@10"
ENDED = ("complete", "failed")


@dataclass(frozen=True)
class Budget:
    """What each entry may spend: a number of trials, none of which starts after `seconds` of trials."""

    trials: int = 10
    seconds: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class SearchResult:
    """The best trial of a search and its validation NDCG@10 (`value`), with the counts and seconds of all
    trials.

    `run` is the folder of that trial; `experiment` is the best recipe, None for a baseline.
    """

    settings: dict[str, Any]
    value: float
    trials: int
    failed: int
    seconds: float
    out_of_time: bool
    run: Path
    experiment: Experiment | None


@dataclass(frozen=True)
class Halves:
    """The tuned models that a pre-trained one is fused from: recipes and runs of their best trials."""

    experiments: Mapping[str, Experiment]
    runs: Mapping[str, Path]


def recipe_of(entry: Entry, halves: Mapping[str, Experiment] | None = None) -> Experiment:
    """The recipe of a model, with the rules of a leaderboard; a fused one takes the sizes of its `halves`."""
    values: dict[str, Any] = {**(entry.recipe or {}), "evaluation": RULES.model_dump(mode="json")}
    if halves:
        recipes = {half: experiment.model_dump(mode="json") for half, experiment in halves.items()}
        values["pretraining"] = {**values.get("pretraining", {}), **recipes}
        model = values.get("model", {})
        if model.get("kind") != "gmf":  # a GMF that is distilled from its halves has a size of its own
            gmf, mlp = recipes["gmf"]["model"], recipes["mlp"]["model"]
            of_gmf = {name: value for name, value in gmf.items() if name != "kind"}
            of_mlp = {name: mlp[name] for name in ("embedding", "tower", "dropout", "mlp_init_std")}
            values["model"] = {**model, **of_gmf, **of_mlp}
    return Experiment.parse(values, source=entry.name)


def search_entry(
    dataset: Dataset,
    entry: Entry,
    files: EntryFolder,
    budget: Budget,
    halves: Halves | None,
    data_path: Path,
    listener: ProgressListener,
    stop: Callable[[], bool],
    pool: Workers,
) -> SearchResult:
    """Run the missing trials of `entry`, and return the best trial.

    `files` keep the study, `halves` are the models that a fused entry is made of, `data_path` is where
    `dataset` is, and `listener` hears of each trial. Raises `Interrupted` once `stop` returns true, and
    `NcfError` where every trial failed.
    """
    recorded = _Recorded(files.search, listener)
    recipe = recipe_of(entry, halves.experiments if halves else None) if entry.recipe else None
    space = space_of(entry, recipe)
    finished = [read(path) or {} for path in sorted((files.search / "trials").glob("*.json"))]
    left = None
    if budget.seconds is not None:
        left = max(0.0, budget.seconds - sum(trial["seconds"] for trial in finished))
    trials = budget.trials if entry.space else 1
    plan = StudyPlan(files.search, trials, entry.name, None, left, budget.seed, "none")
    if recipe is None:
        result = _search_baseline(dataset, entry, space, plan, recorded, stop, pool)
    else:
        runs = halves.runs if halves else None
        options: dict[str, Any] = {"watcher": recorded, "stop": stop, "halves": runs}
        result = search(dataset, recipe, space, plan, data_path=data_path, **options)
    return _best(result, plan, budget, recipe, space)


def _search_baseline(
    dataset: Dataset,
    entry: Entry,
    space: Space,
    plan: StudyPlan,
    listener: ProgressListener,
    stop: Callable[[], bool],
    pool: Workers,
) -> StudyResult:
    baseline = entry.baseline
    assert baseline is not None

    def objective(number: int, values: Values, folder: Path, report: Report) -> float:  # noqa: ARG001 - no epochs, no files
        if stop():
            raise Interrupted("Stopped between two trials.")
        listener.begun(number, 1)
        settings = {**baseline.defaults, **values}
        fitted = baseline.fit(dataset.seen_in_training, len(dataset.items), settings, 0, pool)
        return evaluate_sampled(fitted, dataset.validation, RULES, pool).means[CRITERION]

    identity = {"recipe": entry.digest(), "data": dataset.digest}
    return explore(objective, baseline.defaults, space, plan, identity, listener)


def _best(
    result: StudyResult, plan: StudyPlan, budget: Budget, recipe: Experiment | None, space: Space
) -> SearchResult:
    """The best of the first planned trials; an earlier call may have run more."""
    counted = [trial for trial in result.trials if trial.state in ENDED][: plan.trials]
    best = StudyResult(counted, result.study).best
    if best is None:
        raise NcfError("No trial is complete yet: give a larger --budget.")
    for trial in result.trials:
        if trial.folder and trial.folder != best.folder and trial.state in ENDED:
            shutil.rmtree(plan.folder / "trials" / trial.folder / "artifact", ignore_errors=True)
    experiment = None
    if recipe is not None:
        experiment = Experiment.parse(recipe.model_dump(mode="json"), space.overrides(best.parameters))
    return SearchResult(
        settings=best.parameters,
        value=float(best.value or 0.0),
        trials=len(counted),
        failed=sum(trial.state == "failed" for trial in counted),
        seconds=round(sum(trial.seconds for trial in counted), 2),
        out_of_time=budget.seconds is not None and len(counted) < plan.trials,
        run=plan.folder / "trials" / best.folder,
        experiment=experiment,
    )


class _Recorded(ProgressListener):
    """Writes a JSON file for each trial that ends, and passes everything on to another listener."""

    def __init__(self, folder: Path, inner: ProgressListener) -> None:
        self._folder, self._inner = folder, inner
        self.counted, self.begun, self.epoch, self.log = inner.counted, inner.begun, inner.epoch, inner.log  # type: ignore[method-assign]

    def ended(self, trial: Trial) -> None:
        """Write a file named after the trial's folder."""
        document = {**asdict(trial), "at": round(time.time(), 3)}
        write(self._folder / "trials" / f"{trial.folder}.json", document)
        self._inner.ended(trial)
