"""A search: trials drawn by Optuna's TPE and kept in a database, so it can be interrupted and resumed at any
time.

In: data, a recipe, a space. Out: the trials. Each trial has a folder and locks it while it runs. A trial that
the database calls running but whose lock is free was interrupted (ctrl-C, kill -9). It is put first in the
queue with its parameters and its folder, where it resumes from its checkpoint, so several processes may work
on one study. A draw depends only on the seed, the number of trials before it, and their results.
"""

import json
import math
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
"""Runs a trial: takes its number, values, folder and a function to report epochs to, returns what to
maximise.
"""
FAULTS = (NcfError, RuntimeError, MemoryError, ArithmeticError, LinAlgError)
"""Errors that fail a trial while the search continues; any other is a defect."""
PRUNERS = ("median", "hyperband", "none")


@dataclass(frozen=True)
class StudyPlan:
    """How to search. `trials` includes those of earlier calls, and no trial starts after `timeout` seconds.

    `storage` is the address of a database; by default it is in `folder`. Raises `ConfigError` for a bad
    value.
    """

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
            raise ConfigError(f"--pruner takes one of {', '.join(PRUNERS)}, not {self.pruner!r}.")


@dataclass
class SearchTime:
    """When a search has to end, so that one more training like its longest still fits in."""

    ends: float = math.inf
    """As `time.monotonic` counts."""
    longest: float = 0.0
    """Seconds of the longest trial that was not pruned."""

    def is_over(self) -> bool:
        """Whether no time is left to search."""
        return self.ends < math.inf and time.monotonic() > self.ends - self.longest


@dataclass(frozen=True)
class StudyResult:
    """A study as it stands: its trials in order, and Optuna's own study, from which pages are drawn."""

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
    budget: SearchTime | None = None,
) -> StudyResult:
    """Run trials of `recipe` on `dataset` until the study has as many as `plan` says.

    `space` has the settings to vary, `data_path` is where the data are, and `watcher` hears of the progress.
    `halves` are finished runs of a pre-trained NeuMF's `gmf` and `mlp`, to fuse instead of training them in
    each trial. Once the `budget` is over, the trial that runs is pruned and the search ends. Raises
    `Interrupted` once `stop` returns true; `ConfigError` where space, recipe, data or study do not match;
    `NcfError` where every trial failed.
    """
    watcher, time_left = watcher or ProgressListener(), budget or SearchTime()
    space.check(recipe)
    if not len(dataset.validation):
        raise ConfigError(
            "These data have no validation positives to evaluate trials on: prepare them with a validation "
            "hold-out."
        )
    base, held = for_trials(recipe)
    if held:
        watcher.log(
            "The recipe trains on the validation positives. They are held out for the search, and the best "
            "recipe trains on them again."
        )

    def objective(number: int, values: Values, folder: Path, report: Report) -> float:
        experiment = Experiment.parse(
            base.model_dump(mode="json"), space.overrides(values), f"trial {number}"
        )
        watcher.begun(number, experiment.train.epochs)

        def ends() -> bool:
            return stop() or time_left.is_over()

        try:
            return run_trial(dataset, experiment, folder, data_path, report, ends, halves)
        except Interrupted:
            if stop():
                raise
            raise GivenUp from None

    first = {parameter.name: value_of(base, parameter.name) for parameter in space}
    return explore(objective, first, space, plan, _identity(base, space, dataset), watcher, time_left)


def explore(
    objective: Objective,
    first: Mapping[str, Any],
    space: Space,
    plan: StudyPlan,
    identity: Mapping[str, str],
    watcher: ProgressListener,
    budget: SearchTime | None = None,
) -> StudyResult:
    """Run trials of any `objective` over `space`, as `plan` says.

    `first` are the values of the first trial, if the space admits them. `identity` has the digests of what
    the study is about: a study that was started with others is refused. `watcher` hears of the progress.
    `Interrupted` and `StorageError` from the objective end the search; the other `FAULTS` fail the trial.
    """
    with storage_errors(plan.folder):
        others = [path for path in plan.folder.glob("*") if not path.name.startswith(".")]
        if others and not (plan.folder / "trials").is_dir():
            raise StorageError(f"{plan.folder} holds files that are not a search: choose another --output.")
        (plan.folder / "trials").mkdir(parents=True, exist_ok=True)
    with open_study(plan.folder, plan.name, plan.storage, plan.pruner, identity) as study:
        _Search(objective, first, space, plan, watcher, study, budget or SearchTime()).run()
        result = StudyResult([trial_of(trial, space) for trial in study.get_trials(deepcopy=False)], study)
    _not_all_failed(result)
    return result


@dataclass
class _Search:
    objective: Objective
    first: Mapping[str, Any]
    space: Space
    plan: StudyPlan
    watcher: ProgressListener
    study: Any
    budget: SearchTime

    def run(self) -> None:
        began = time.monotonic()
        self.watcher.counted(sum(t.state.is_finished() for t in self._known()))
        timeout = math.inf if self.plan.timeout is None else self.plan.timeout
        while time.monotonic() - began < timeout and not self.budget.is_over():
            begun = self._begin()
            if begun is None:
                return
            trial, lock = begun
            try:
                self._carry_out(trial)
            finally:
                lock.release()

    def _begin(self) -> tuple[Any, FileLock] | None:
        """The next trial with the lock of its folder; None where the study has all planned trials."""
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
            try:
                lock.acquire(timeout=0)
            except Timeout:  # Another study of this number of trials.
                raise StorageError(
                    f"Another search is writing to {self.plan.folder}: wait for it, or choose another "
                    "--output."
                ) from None
            trial.set_user_attr("folder", folder)
            return trial, lock

    def _known(self) -> list[Any]:
        """Trials that count: started or ended, and not continued by another trial after an interruption."""
        trials = self.study.get_trials(deepcopy=False)
        return [t for t in trials if t.state.name != "WAITING" and not t.user_attrs.get("interrupted")]

    def _requeue_interrupted(self) -> None:
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            folder = trial.user_attrs.get("folder")
            path = self.plan.folder / "trials" / f"{folder}"
            if folder is None or not (path.is_dir() or path.with_suffix(".lock").exists()):
                continue  # it belongs to a process with another --output
            try:
                with FileLock(path.with_suffix(".lock"), timeout=0):
                    # Its process may have ended it between the listing and the lock, so look again.
                    if not self.study._storage.get_trial(trial._trial_id).state.is_finished():
                        self._requeue(trial, folder)
            except Timeout:
                continue  # its process is alive

    def _requeue(self, trial: Any, folder: str) -> None:
        self.study._storage.set_trial_user_attr(trial._trial_id, "interrupted", True)
        self.study.tell(trial.number, state=state_of("FAIL"))
        self.study.enqueue_trial(trial.params, user_attrs={"folder": folder})
        self.watcher.log(f"Trial {trial.number} was interrupted and resumes from its checkpoint.")

    def _enqueue_first(self) -> None:
        """Make the recipe itself the first trial, if the space admits it, so a search never ends below its
        start.
        """
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
        seconds = time.monotonic() - began
        trial.set_user_attr("seconds", round(seconds, 2))
        if state == "complete":
            self.budget.longest = max(self.budget.longest, seconds)
        names = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
        ended = self.study.tell(trial, value, state=state_of(names[state]))
        self.watcher.ended(trial_of(ended, self.space))

    def _report(self, trial: Any) -> Report:
        # An epoch before an interruption may be trained again, to the same value; Optuna takes it once.
        reported: set[int] = set()

        def report(epoch: int, value: float) -> bool:
            if epoch not in reported:
                trial.report(value, epoch)
            reported.add(epoch)
            self.watcher.epoch(trial.number, epoch, value)
            return bool(trial.should_prune())

        return report


def _identity(base: Experiment, space: Space, dataset: Dataset) -> dict[str, str]:
    return {"recipe": base.digest(), "space": json.dumps([repr(p) for p in space]), "data": dataset.digest}


def _not_all_failed(result: StudyResult) -> None:
    ended = [trial for trial in result.trials if trial.state in ("complete", "pruned", "failed")]
    if ended and all(trial.state == "failed" for trial in ended):
        raise NcfError(f"Every one of {len(ended)} trials failed; the first: {ended[0].reason}")
