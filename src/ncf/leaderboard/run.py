"""The whole leaderboard: each entry is searched, trained with its chosen settings and evaluated.

In: data, entries, a plan. Out: a folder (`folder.py`) from which the results are read. The decisions worth
knowing: what is finished is never run again, so the same call resumes after an interruption; and an entry
that fails does not stop the others.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ncf.config import Experiment
from ncf.data import Dataset
from ncf.errors import DataError, Interrupted, NcfError, StorageError
from ncf.leaderboard.entries import Entry
from ncf.leaderboard.final_runs import evaluate_final, final_recipe, fit_baseline, fit_model
from ncf.leaderboard.folder import EntryFolder, claimed
from ncf.leaderboard.search import Budget, Halves, SearchResult, search_entry
from ncf.runtime import Workers, choose_threads, workers
from ncf.tuning.recipe import to_toml
from ncf.tuning.study import FAULTS
from ncf.tuning.trials import ProgressListener


@dataclass(frozen=True)
class LeaderboardPlan:
    """The folder of a leaderboard, the budget of each search, and the number of seeds of the final runs."""

    folder: Path
    budget: Budget = Budget()  # noqa: RUF009 - it is frozen
    seeds: int = 3
    overwrite: bool = False


class LeaderboardListener(ProgressListener):
    """Hears of the progress of a leaderboard and of its searches; the base of those that show it."""

    def entry_started(self, number: int, total: int, entry: Entry) -> None:
        """An entry starts, the `number`th of `total`."""

    def final_run(self, entry: Entry, seed: int, figures: dict[str, Any]) -> None:
        """A seed of the entry was trained and evaluated, now or in an earlier run."""

    def failed(self, entry: Entry, reason: str) -> None:
        """The entry failed, and the next one starts."""


@dataclass
class _Leaderboard:
    """A leaderboard that runs. `seen` is `dataset` with validation in training; `searches` and `recipes` are
    the results so far, by entry and by entry and seed."""

    dataset: Dataset
    seen: Dataset
    data_path: Path
    entries: dict[str, Entry]
    plan: LeaderboardPlan
    listener: LeaderboardListener
    stop: Callable[[], bool]
    pool: Workers
    searches: dict[str, SearchResult] = field(default_factory=dict)
    recipes: dict[tuple[str, int], Experiment] = field(default_factory=dict)

    def run_entry(self, entry: Entry) -> None:
        """Search the settings of `entry`, and run its seeds."""
        files = self._files(entry.name)
        if files.failure() and files.chosen() is None:
            files.clear_search()
        files.clear_failure()
        halves = self._halves(entry)
        chosen = files.chosen()
        if chosen and halves and chosen.get("halves") != _digests(halves):
            self.listener.log("The settings of its GMF or MLP changed; restarting its search.")
            files.clear_search()
        result = search_entry(
            self.dataset,
            entry,
            files,
            self.plan.budget,
            halves,
            self.data_path,
            self.listener,
            self.stop,
            self.pool,
        )
        self.searches[entry.name] = result
        files.choose(_chosen(result, halves))
        if result.experiment is not None:
            comment = (
                f"{entry.title}, the best of {result.trials} trials: validation NDCG@10 {result.value:.4f}."
            )
            files.keep_recipe(to_toml(self._shipped(result.experiment), comment))
        for seed in range(self.plan.seeds if entry.seeded else 1):
            self._final(entry, files, result, seed)

    def _halves(self, entry: Entry) -> Halves | None:
        if not entry.halves:
            return None
        experiments, runs = {}, {}
        for part, half in entry.halves.items():
            if half not in self.searches:
                raise NcfError(f"Its half {half} failed.")
            experiment = self.searches[half].experiment
            assert experiment is not None
            experiments[part], runs[part] = experiment, self.searches[half].run
        return Halves(experiments, runs)

    def _final(self, entry: Entry, files: EntryFolder, result: SearchResult, seed: int) -> None:
        figures = files.final(seed)
        if figures is None:
            if self.stop():
                raise Interrupted("Stopped between two runs.")
            figures = self._train_and_evaluate(entry, files, result, seed)
        self.listener.final_run(entry, seed, figures)
        if result.experiment is not None:
            self.recipes[entry.name, seed] = self._recipe(entry, result.experiment, seed)

    def _train_and_evaluate(
        self, entry: Entry, files: EntryFolder, result: SearchResult, seed: int
    ) -> dict[str, Any]:
        chosen = files.chosen()
        assert chosen is not None
        seconds_of_halves = 0.0
        if entry.baseline is not None:
            fitted = fit_baseline(self.seen, entry.baseline, result.settings, seed, self.pool)
        else:
            assert result.experiment is not None
            runs = {part: self._files(half).run(seed) for part, half in entry.halves.items()}
            recipe = self._recipe(entry, result.experiment, seed)
            fitted = fit_model(self.dataset, recipe, files.run(seed), self.data_path, runs, self.stop)
            for half in self._made_of(entry):
                figures_of_half = self._files(half).final(seed)
                assert figures_of_half is not None
                seconds_of_halves += float(figures_of_half["seconds"])
        figures, values = evaluate_final(fitted, self.seen, self.pool)
        figures |= {
            "seed": seed,
            "digest": chosen["digest"],
            "seconds_of_halves": round(seconds_of_halves, 3),
        }
        files.finish(seed, figures, values)
        return figures

    def _recipe(self, entry: Entry, chosen: Experiment, seed: int) -> Experiment:
        halves = {part: self.recipes[half, seed] for part, half in entry.halves.items()}
        return final_recipe(chosen, seed, halves)

    def _shipped(self, chosen: Experiment) -> Experiment:
        """The chosen recipe as 'ncf train' takes it, on these data."""
        values = chosen.model_dump(mode="json")
        values["data"] = {"path": str(self.data_path.resolve()), "catalog": None}
        _train_on_validation(values)
        return Experiment.parse(values)

    def _files(self, name: str) -> EntryFolder:
        return EntryFolder(self.plan.folder, self.entries[name])

    def _made_of(self, entry: Entry) -> set[str]:
        """The names of its halves, and of theirs."""
        halves = entry.halves.values()
        return {name for half in halves for name in (half, *self._made_of(self.entries[half]))}


def _train_on_validation(recipe: dict[str, Any]) -> None:
    """Add the validation positives to the training of a recipe and its halves, as in their final runs."""
    recipe["train"]["validation"] = "include"
    for half in ("gmf", "mlp") if recipe.get("pretraining") else ():
        _train_on_validation(recipe["pretraining"][half])


def run(
    dataset: Dataset,
    entries: Sequence[Entry],
    plan: LeaderboardPlan,
    *,
    data_path: Path,
    listener: LeaderboardListener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Run what is missing of a leaderboard of `entries`, and return the names of those that failed.

    `data_path` is the folder of `dataset`, and `listener` hears of the progress. Raises `DataError` where the
    data have no validation or test positives, `Interrupted` once `stop` returns true, `ConfigError` where the
    folder was started with other recipes or data, and `StorageError` where it cannot be written.
    """
    listener = listener or LeaderboardListener()
    for held_out, name in ((dataset.validation, "validation"), (dataset.test, "test")):
        if not len(held_out):
            raise DataError(
                f"The data have no {name} positives: prepare them with a split that holds some out."
            )
    if not dataset.test.has_lists:
        raise DataError(
            "A leaderboard compares models on candidate lists, which these data do not have: use 'ncf train' "
            "and 'ncf evaluate', or prepare data with lists."
        )
    failed = []
    with (
        claimed(plan.folder, dataset.name, dataset.digest, plan.overwrite),
        workers(choose_threads()) as pool,
    ):
        folders = [EntryFolder(plan.folder, entry) for entry in entries]
        for files in folders:
            files.check()
        for files in folders:
            files.begin()
        seen = dataset.with_validation_in_training()
        by_name = {entry.name: entry for entry in entries}
        leaderboard = _Leaderboard(dataset, seen, data_path, by_name, plan, listener, stop, pool)
        for number, entry in enumerate(entries, 1):
            listener.entry_started(number, len(entries), entry)
            try:
                leaderboard.run_entry(entry)
            except (Interrupted, StorageError):
                raise
            except FAULTS as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                EntryFolder(plan.folder, entry).fail(reason)
                listener.failed(entry, reason)
                failed.append(entry.name)
    return failed


def _chosen(result: SearchResult, halves: Halves | None) -> dict[str, Any]:
    """What is kept of a search; `digest` identifies the settings of the final runs."""
    of_halves = _digests(halves) if halves else {}
    determines = result.experiment.digest() if result.experiment else result.settings
    digest = hashlib.sha256(json.dumps([determines, of_halves], sort_keys=True).encode()).hexdigest()
    return {
        "settings": result.settings,
        "validation_ndcg@10": result.value,
        "trials": result.trials,
        "failed": result.failed,
        "seconds": result.seconds,
        "out_of_time": result.out_of_time,
        "digest": digest,
        "halves": of_halves,
    }


def _digests(halves: Halves) -> dict[str, str]:
    return {part: experiment.digest() for part, experiment in halves.experiments.items()}
