"""The search for a contender's settings: the same sampler, seed, number of trials and criterion for all.

In: data, a contender, a budget. Out: `Found`, the settings with the highest validation NDCG@10 (sampled protocol). The
decision worth knowing: no trial is given up early, and the number of epochs is a setting like others, so that the final
run repeats exactly what was chosen; the first trial is the recipe or the defaults.
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
    """What each contender may spend: so many trials, none of them begun after `seconds` of trials."""

    trials: int = 10
    seconds: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """What a search found. `run` is the best trial's folder, where there is one; `experiment` the best recipe of a model."""

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
    """The tuned models that a pre-trained one is fused from: their recipes and the runs of their best trials."""

    experiments: Mapping[str, Experiment]
    runs: Mapping[str, Path]


def recipe_of(contender: Entry, halves: Mapping[str, Experiment] | None = None) -> Experiment:
    """The recipe of a model, with the rules of a leaderboard; a fused one has the sizes of its halves."""
    values: dict[str, Any] = {**(contender.recipe or {}), "evaluation": RULES.model_dump(mode="json")}
    if halves:
        whole = {half: one.model_dump(mode="json") for half, one in halves.items()}
        values["pretraining"] = {**values.get("pretraining", {}), **whole}
        of_gmf = {name: value for name, value in whole["gmf"]["model"].items() if name != "kind"}
        of_mlp = {
            name: whole["mlp"]["model"][name] for name in ("embedding", "tower", "dropout", "mlp_init_std")
        }
        if (
            values.get("model", {}).get("kind") != "gmf"
        ):  # one that is taught by its halves has a size of its own
            values["model"] = {**values.get("model", {}), **of_gmf, **of_mlp}
    return Experiment.parse(values, source=contender.name)


def find(
    dataset: Dataset,
    contender: Entry,
    place: EntryFolder,
    budget: Budget,
    halves: Halves | None,
    data_path: Path,
    watcher: ProgressListener,
    stop: Callable[[], bool],
    pool: Workers,
) -> Found:
    """Run the trials that are missing, and tell the best.

    Raises `Interrupted` when `stop` says so; `NcfError` where every trial failed.
    """
    recorded = _Recorded(place.search, watcher)
    recipe = recipe_of(contender, halves.experiments if halves else None) if contender.recipe else None
    space = space_of(contender, recipe)
    spent = sum(trial["seconds"] for trial in _known(place.search))
    left = None if budget.seconds is None else max(0.0, budget.seconds - spent)
    wanted = budget.trials if contender.space else 1
    plan = StudyPlan(place.search, wanted, contender.name, None, left, budget.seed, "none")
    if recipe is None:
        outcome = _of_baseline(dataset, contender, space, plan, recorded, stop, pool)
    else:
        runs = halves.runs if halves else None
        outcome = search(
            dataset,
            recipe,
            space,
            plan,
            data_path=data_path,
            watcher=recorded,
            stop=stop,
            halves=runs,
            serves=False,
        )
    return _found(outcome, wanted, budget.seconds, recipe, space, place)


def _of_baseline(
    dataset: Dataset,
    contender: Entry,
    space: Space,
    plan: StudyPlan,
    watcher: ProgressListener,
    stop: Callable[[], bool],
    pool: Workers,
) -> StudyResult:
    baseline = contender.baseline
    assert baseline is not None

    def objective(number: int, values: Values, folder: Path, report: Report) -> float:  # noqa: ARG001 - no epochs, no files
        if stop():
            raise Interrupted("Stopped between two trials.")
        watcher.begun(number, 1)
        settings = {**baseline.defaults, **values}
        fitted = baseline.fit(dataset.seen_in_training, len(dataset.items), settings, 0, pool)
        return evaluate_sampled(fitted, dataset.validation, RULES, pool).means[CRITERION]

    identity = {"recipe": contender.digest(), "data": dataset.digest}
    return explore(objective, baseline.defaults, space, plan, identity, watcher)


def _found(
    outcome: StudyResult,
    wanted: int,
    seconds: float | None,
    recipe: Experiment | None,
    space: Space,
    place: EntryFolder,
) -> Found:
    """The best of the first `wanted` trials, those of an earlier run with more trials left out."""
    counted = [trial for trial in outcome.trials if trial.state in ENDED][:wanted]
    best = StudyResult(counted, outcome.study).best
    if best is None:
        raise NcfError("No trial is complete yet: give a larger --budget.")
    _tidy(place.search, best, outcome.trials)
    experiment = (
        Experiment.parse(recipe.model_dump(mode="json"), space.overrides(best.parameters)) if recipe else None
    )
    spent = sum(trial.seconds for trial in counted)
    return Found(
        best.parameters, float(best.value or 0.0), len(counted), sum(t.state == "failed" for t in counted),
        round(spent, 2), seconds is not None and len(counted) < wanted, place.search / "trials" / best.folder, experiment,
    )  # fmt: skip


def _tidy(folder: Path, best: Trial, trials: list[Trial]) -> None:
    """Of all artifacts only the best trial's is needed."""
    for trial in trials:
        if trial.folder and trial.folder != best.folder and trial.state in ENDED:
            shutil.rmtree(folder / "trials" / trial.folder / "artifact", ignore_errors=True)


def _known(folder: Path) -> list[dict[str, Any]]:
    return [found for path in sorted((folder / "trials").glob("*.json")) if (found := read(path)) is not None]


class _Recorded(ProgressListener):
    """Writes one JSON file a trial, and passes on what it is told."""

    def __init__(self, folder: Path, inner: ProgressListener) -> None:
        self._folder, self._inner = folder, inner
        self.counted, self.begun, self.epoch, self.log = inner.counted, inner.begun, inner.epoch, inner.log  # type: ignore[method-assign]

    def ended(self, trial: Trial) -> None:
        """A file of the trial, by its folder's name."""
        write(
            self._folder / "trials" / f"{trial.folder}.json", {**asdict(trial), "at": round(time.time(), 3)}
        )
        self._inner.ended(trial)
