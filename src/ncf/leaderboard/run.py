"""The whole leaderboard: each contender is searched, trained with its chosen settings and judged; a failure stops nobody else.

In: data, contenders, a plan. Out: a folder (`folder.py`) from which the board is read. What is finished is never done
again, so the same call goes on after an interruption.
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
from ncf.leaderboard.search import Budget, Found, Halves, find
from ncf.runtime import Workers, choose_threads, workers
from ncf.tuning.recipe import to_toml
from ncf.tuning.study import FAULTS
from ncf.tuning.trials import ProgressListener


@dataclass(frozen=True)
class LeaderboardPlan:
    """How much is done: the budget of each search, and the seeds of the final runs."""

    folder: Path
    budget: Budget = Budget()  # noqa: RUF009 - it is frozen
    seeds: int = 3
    overwrite: bool = False


class LeaderboardListener(ProgressListener):
    """Is told how a leaderboard goes, and of its searches as any watcher is; the base of those that show it."""

    def contender(self, place: int, total: int, contender: Entry) -> None:
        """A contender's turn begins; `place` counts from 1."""

    def final(self, contender: Entry, seed: int, figures: dict[str, Any]) -> None:
        """A seed of it was trained and judged, now or in an earlier run."""

    def failed(self, contender: Entry, reason: str) -> None:
        """It failed, and the next one's turn comes."""


@dataclass
class _Leaderboard:
    dataset: Dataset
    seen: Dataset
    data_path: Path
    entries: Sequence[Entry]
    plan: LeaderboardPlan
    audience: LeaderboardListener
    stop: Callable[[], bool]
    pool: Workers
    found: dict[str, Found] = field(default_factory=dict)
    recipes: dict[tuple[str, int], Experiment] = field(default_factory=dict)

    def take_turn(self, contender: Entry) -> None:
        place = EntryFolder(self.plan.folder, contender)
        if place.failure() and place.chosen() is None:
            place.forget_search()
        place.clear_failure()
        halves = self._halves(contender)
        self._anew_if_halves_changed(place, halves)
        found = find(
            self.dataset, contender, place, self.plan.budget, halves, self.data_path, self.audience, self.stop, self.pool
        )  # fmt: skip
        self.found[contender.name] = found
        place.choose(_chosen(found, halves))
        if found.experiment is not None:
            place.keep_recipe(to_toml(self._shipped(found.experiment), _comment(contender, found)))
        for seed in range(self.plan.seeds if contender.seeded else 1):
            self._final(contender, place, found, seed)

    def _halves(self, contender: Entry) -> Halves | None:
        if not contender.halves:
            return None
        for half in contender.halves.values():
            if half not in self.found:
                raise NcfError(f"Its half {half} failed.")
        experiments, runs = {}, {}
        for part, half in contender.halves.items():
            experiment = self.found[half].experiment
            assert experiment is not None
            experiments[part], runs[part] = experiment, self.found[half].run
        return Halves(experiments, runs)

    def _anew_if_halves_changed(self, place: EntryFolder, halves: Halves | None) -> None:
        chosen = place.chosen()
        if chosen and halves and chosen.get("halves") != _digests(halves):
            self.audience.log("Its halves were chosen anew, so that its search begins anew.")
            place.forget_search()

    def _final(self, contender: Entry, place: EntryFolder, found: Found, seed: int) -> None:
        figures = place.final(seed)
        if figures is None:
            if self.stop():
                raise Interrupted("Stopped between two runs.")
            figures = self._carry_out(contender, place, found, seed)
        self.audience.final(contender, seed, figures)
        if found.experiment is not None:
            self.recipes[contender.name, seed] = self._recipe(contender, found.experiment, seed)

    def _carry_out(self, contender: Entry, place: EntryFolder, found: Found, seed: int) -> dict[str, Any]:
        chosen = place.chosen()
        assert chosen is not None
        added = 0.0
        if contender.baseline is not None:
            fitted = fit_baseline(self.seen, contender.baseline, found.settings, seed, self.pool)
        else:
            assert found.experiment is not None
            halves = contender.halves.items()
            runs = {part: self._place(half).run(seed) for part, half in halves}
            recipe = self._recipe(contender, found.experiment, seed)
            fitted = fit_model(self.dataset, recipe, place.run(seed), self.data_path, runs, self.stop)
            added = sum(self._seconds(name, seed) for name in self._made_of(contender))
        figures, values = evaluate_final(fitted, self.seen, self.pool)
        figures |= {"seed": seed, "digest": chosen["digest"], "seconds_of_halves": round(added, 3)}
        place.finish(seed, figures, values)
        return figures

    def _recipe(self, contender: Entry, chosen: Experiment, seed: int) -> Experiment:
        return final_recipe(
            chosen, seed, {part: self.recipes[half, seed] for part, half in contender.halves.items()}
        )

    def _shipped(self, chosen: Experiment) -> Experiment:
        """The chosen recipe as 'ncf train' takes it, on these data."""
        values = chosen.model_dump(mode="json")
        values["data"] = {"path": str(self.data_path.resolve()), "catalog": None}
        _train_on_validation(values)
        return Experiment.parse(values)

    def _place(self, name: str) -> EntryFolder:
        return EntryFolder(self.plan.folder, next(one for one in self.entries if one.name == name))

    def _made_of(self, contender: Entry) -> set[str]:
        """Its halves, and theirs."""
        known = {one.name: one for one in self.entries}
        return {name for half in contender.halves.values() for name in (half, *self._made_of(known[half]))}

    def _seconds(self, half: str, seed: int) -> float:
        figures = self._place(half).final(seed)
        assert figures is not None
        return float(figures["seconds"])


def _train_on_validation(recipe: dict[str, Any]) -> None:
    """A recipe and its halves, as their final runs are."""
    recipe["train"]["validation"] = "include"
    for half in ("gmf", "mlp") if recipe.get("pretraining") else ():
        _train_on_validation(recipe["pretraining"][half])


def run(
    dataset: Dataset,
    entries: Sequence[Entry],
    plan: LeaderboardPlan,
    *,
    data_path: Path,
    audience: LeaderboardListener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Do what is missing; the names of those who failed come back.

    Raises `DataError` where the data hold nothing to tune or to judge on, `Interrupted` when `stop` says so, `ConfigError`
    where the folder was begun with other recipes or data, `StorageError` where it cannot be written.
    """
    audience = audience or LeaderboardListener()
    for held_out, name in ((dataset.validation, "validation"), (dataset.test, "test")):
        if not len(held_out):
            raise DataError(f"The data hold no {name} positives: prepare them with a split that does.")
    failed = []
    with (
        claimed(plan.folder, dataset.name, dataset.digest, plan.overwrite),
        workers(choose_threads()) as pool,
    ):
        for contender in entries:
            EntryFolder(plan.folder, contender).check()
        seen = dataset.with_validation_in_training()
        board = _Leaderboard(dataset, seen, data_path, entries, plan, audience, stop, pool)
        for number, contender in enumerate(entries, 1):
            audience.contender(number, len(entries), contender)
            try:
                board.take_turn(contender)
            except (Interrupted, StorageError):
                raise
            except FAULTS as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                EntryFolder(plan.folder, contender).fail(reason)
                audience.failed(contender, reason)
                failed.append(contender.name)
    return failed


def _chosen(found: Found, halves: Halves | None) -> dict[str, Any]:
    """What is kept of a search; `digest` stands for the settings that the final runs have."""
    of_halves = _digests(halves) if halves else {}
    decides = found.experiment.digest() if found.experiment else found.settings
    digest = hashlib.sha256(json.dumps([decides, of_halves], sort_keys=True).encode()).hexdigest()
    return {
        "settings": found.settings, "validation_ndcg@10": found.value, "trials": found.trials, "failed": found.failed,
        "seconds": found.seconds, "out_of_time": found.out_of_time, "digest": digest, "halves": of_halves,
    }  # fmt: skip


def _comment(contender: Entry, found: Found) -> str:
    return f"{contender.title}, the best of {found.trials} trials: validation NDCG@10 {found.value:.4f}."


def _digests(halves: Halves) -> dict[str, str]:
    return {part: experiment.digest() for part, experiment in halves.experiments.items()}
