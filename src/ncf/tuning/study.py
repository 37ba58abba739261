"""A search: trials drawn by Optuna's TPE, kept in a database, so that it can be ended and gone on with at any time.

In: data, a recipe, a space. Out: the trials and the best recipe. Each trial has a folder and holds a lock on it while it
runs; a trial that the database calls running and whose lock is free was interrupted (ctrl-C, kill -9), and is put first in
the queue with its parameters and its folder, in which it goes on from its checkpoint. So several processes may work on
one study. A draw depends on the seed, the number of trials before it and what came out of them, on nothing else.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from numpy.linalg import LinAlgError

from ncf.config import Experiment
from ncf.data import Dataset
from ncf.data.files import storage_errors
from ncf.errors import ConfigError, Interrupted, NcfError, StorageError
from ncf.runtime import seed_of
from ncf.tuning.optuna import draw, holds, open_study, sampler, state_of, stored, trial_of
from ncf.tuning.recipe import for_trials, value_of
from ncf.tuning.space import Space
from ncf.tuning.trials import GivenUp, ProgressListener, Report, State, Trial, run_trial

Values = dict[str, Any]
Objective = Callable[[int, Values, Path, Report], float]
"""Carries out a trial: its number, its values, its folder and whom to tell of epochs -> what is to be maximised."""
FAULTS = (NcfError, RuntimeError, MemoryError, ArithmeticError, LinAlgError)
"""What a trial may end with while the search goes on; anything else is a defect."""
PRUNERS = ("median", "hyperband", "none")


@dataclass(frozen=True)
class StudyPlan:
    """How to search. `trials` counts those of earlier calls; no trial is begun after `timeout` seconds."""

    folder: Path
    trials: int = 20
    name: str = "study"
    storage: str | None = None
    timeout: float | None = None
    seed: int = 0
    pruner: str = "median"

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ConfigError("--trials must be 1 or more.")
        if self.pruner not in PRUNERS:
            raise ConfigError(f"--pruner takes one of {', '.join(PRUNERS)}, and not {self.pruner!r}.")


@dataclass(frozen=True)
class StudyResult:
    """A study as it stands: its trials in order, and Optuna's study for those who draw it."""

    trials: list[Trial]
    study: Any

    @property
    def best(self) -> Trial | None:
        """The complete trial with the highest value."""
        complete = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)


def search(
    dataset: Dataset,
    recipe: Experiment,
    space: Space,
    plan: StudyPlan,
    *,
    data_path: Path,
    watcher: ProgressListener | None = None,
    stop: Callable[[], bool] = lambda: False,
    halves: Mapping[str, Path] | None = None,
    serves: bool = True,
) -> StudyResult:
    """Run trials of a recipe until the study has as many as planned.

    `halves` are finished runs of a pre-trained NeuMF's `gmf` and `mlp`, to fuse instead of training them in each trial. Without
    `serves` the trials' artifacts can be judged and not served, which saves most of a short trial's time.
    Raises `Interrupted` when `stop` says so; `ConfigError` where space, recipe, data or study do not fit; `NcfError` where
    every trial failed.
    """
    watcher = watcher or ProgressListener()
    space.check(recipe)
    if not len(dataset.validation):
        raise ConfigError(
            "These data have no validation positives to judge trials on: prepare them with a validation hold-out."
        )
    base, held = for_trials(recipe)
    if held:
        watcher.log(
            "The recipe trains on the validation positives; for the search they are held out, and the best recipe "
            "trains on them again."
        )

    def objective(number: int, values: Values, folder: Path, report: Report) -> float:
        experiment = Experiment.parse(
            base.model_dump(mode="json"), space.overrides(values), f"trial {number}"
        )
        watcher.begun(number, experiment.train.epochs)
        return run_trial(dataset, experiment, folder, data_path, report, stop, halves, serves)

    first = {parameter.name: value_of(base, parameter.name) for parameter in space}
    return explore(objective, first, space, plan, _identity(base, space, dataset), watcher)


def explore(
    objective: Objective,
    first: Mapping[str, Any],
    space: Space,
    plan: StudyPlan,
    identity: Mapping[str, str],
    watcher: ProgressListener,
) -> StudyResult:
    """Run trials of any objective; `first` are the values of the first one, where the space admits them.

    `identity` names what the study is about: one that was begun with another is refused. Raises what the objective raises as
    `Interrupted` and `StorageError`; other errors of ours, of memory and of arithmetic make a failed trial.
    """
    with storage_errors(plan.folder):
        (plan.folder / "trials").mkdir(parents=True, exist_ok=True)
    with open_study(plan.folder, plan.name, plan.storage, plan.pruner, identity) as study:
        _Search(objective, first, space, plan, watcher, study).run()
        outcome = StudyResult([trial_of(trial, space) for trial in study.get_trials(deepcopy=False)], study)
    _not_all_failed(outcome)
    return outcome


@dataclass
class _Search:
    objective: Objective
    first: Mapping[str, Any]
    space: Space
    plan: StudyPlan
    watcher: ProgressListener
    study: Any

    def run(self) -> None:
        began = time.monotonic()
        self.watcher.counted(sum(t.state.is_finished() for t in self._known()))
        while self.plan.timeout is None or time.monotonic() - began < self.plan.timeout:
            begun = self._begin()
            if begun is None:
                return
            trial, lock = begun
            try:
                self._carry_out(trial)
            finally:
                lock.release()

    def _begin(self) -> tuple[Any, FileLock] | None:
        """The next trial with the lock of its folder; None where the study has all that were planned."""
        with FileLock(self.plan.folder / ".study.lock"):
            self._requeue_interrupted()
            known = self._known()
            if not self.study.get_trials(deepcopy=False):
                self._enqueue_first()
            if len(known) >= self.plan.trials:
                return None
            self.study.sampler = sampler(
                seed_of(self.plan.seed, "trial", len(self.study.get_trials(deepcopy=False)))
            )
            trial = self.study.ask()
            folder = trial.user_attrs.get("folder") or f"{trial.number:04d}"
            lock = FileLock(self.plan.folder / "trials" / f"{folder}.lock")
            lock.acquire(timeout=0)
            trial.set_user_attr("folder", folder)
            return trial, lock

    def _known(self) -> list[Any]:
        """Trials that count: begun or over, and not taken up by another after an interruption."""
        trials = self.study.get_trials(deepcopy=False)
        return [t for t in trials if t.state.name != "WAITING" and not t.user_attrs.get("interrupted")]

    def _requeue_interrupted(self) -> None:
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            folder = trial.user_attrs.get("folder")
            place = self.plan.folder / "trials" / f"{folder}"
            if folder is None or not (place.is_dir() or place.with_suffix(".lock").exists()):
                continue  # of a process that keeps its trials elsewhere
            try:
                with FileLock(place.with_suffix(".lock"), timeout=0):
                    if not self.study._storage.get_trial(trial._trial_id).state.is_finished():
                        self._requeue(trial, folder)  # its process may have ended it since it was listed
            except Timeout:
                continue

    def _requeue(self, trial: Any, folder: str) -> None:
        self.study._storage.set_trial_user_attr(trial._trial_id, "interrupted", True)
        self.study.tell(trial.number, state=state_of("FAIL"))
        self.study.enqueue_trial(trial.params, user_attrs={"folder": folder})
        self.watcher.log(f"Trial {trial.number} was interrupted and goes on from its checkpoint.")

    def _enqueue_first(self) -> None:
        """The recipe itself is the first trial, where the space admits it: a search never ends below its start."""
        if all(holds(parameter, self.first[parameter.name]) for parameter in self.space):
            self.study.enqueue_trial({p.name: stored(self.first[p.name]) for p in self.space})

    def _carry_out(self, trial: Any) -> None:
        began = time.monotonic()
        values = {parameter.name: draw(trial, parameter) for parameter in self.space}
        folder = self.plan.folder / "trials" / trial.user_attrs["folder"]
        state: State = "complete"
        value, reason = None, ""
        try:
            value = self.objective(trial.number, values, folder, self._report(trial))
        except GivenUp:
            state = "pruned"
        except (Interrupted, StorageError):
            raise
        except FAULTS as error:
            state, reason = "failed", " ".join(str(error).split()) or type(error).__name__
            trial.set_user_attr("reason", reason)
        trial.set_user_attr("seconds", round(time.monotonic() - began, 2))
        names = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
        told = self.study.tell(trial, value, state=state_of(names[state]))
        self.watcher.ended(trial_of(told, self.space))

    def _report(self, trial: Any) -> Report:
        told: set[int] = (
            set()
        )  # an epoch of before an interruption may be trained once more, to the same value

        def report(epoch: int, value: float) -> bool:
            if epoch not in told:
                trial.report(value, epoch)
            told.add(epoch)
            self.watcher.epoch(trial.number, epoch, value)
            return bool(trial.should_prune())

        return report


def _identity(base: Experiment, space: Space, dataset: Dataset) -> dict[str, str]:
    return {"recipe": base.digest(), "space": json.dumps([repr(p) for p in space]), "data": dataset.digest}


def _not_all_failed(outcome: StudyResult) -> None:
    ended = [trial for trial in outcome.trials if trial.state in ("complete", "pruned", "failed")]
    if ended and all(trial.state == "failed" for trial in ended):
        raise NcfError(f"Every one of {len(ended)} trials failed; the first: {ended[0].reason}")
