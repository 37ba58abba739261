"""Models as Python people expect them: settings in the constructor, then `fit`, `recommend`, `save`.

    dataset = ncf.Dataset.from_interactions(table, user="customer", item="article", time="day")
    model = ncf.NeuMF(factors=64).fit(dataset)
    model.recommend("anna", k=5)

In: settings and a `Dataset`. Out: a fitted model. The decision worth knowing: this is a thin layer. `fit` is
`ncf.train` with a recipe, a fitted model is a run with a `Recommender`, and `save` writes the artifact that
`ncf serve` and SageMaker take.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, Unpack, overload

from ncf.config import ConfigSection, Experiment, ModelConfig, TrainConfig
from ncf.data import Dataset
from ncf.data.files import atomic_folder
from ncf.errors import ConfigError, StorageError
from ncf.experiment import Run, RunOptions, train
from ncf.recipe_files import packaged_recipes, read_recipe
from ncf.serving.recommender import Id, Recommendation, RecommendationList, Recommender, RecommendOptions
from ncf.tracking.console import ConsoleTracker
from ncf.tracking.tracker import Silent

_SECTIONS: dict[str, type[ConfigSection]] = {"model": ModelConfig, "train": TrainConfig}


class Estimator:
    """What `GMF`, `MLP`, `NeuMF` and `HistoryGMF` have in common."""

    kind: ClassVar[str]
    recipe: ClassVar[str]
    """The recipe of the package whose settings hold where none are given."""

    def __init__(self, **settings: Any) -> None:
        """`settings` are those of `[model]` and `[train]` in a recipe (docs/training.md), by their names.

        Others stay as in the `recipe` of this class. Raises `ConfigError` for a setting that does not exist
        or a value that it does not take.
        """
        self.settings = settings
        self._with(settings)
        self._run: Run | None = None
        self._recommender: Recommender | None = None

    def experiment(self, dataset: Dataset) -> Experiment:
        """The recipe that `fit` trains on `dataset`."""
        if len(dataset.validation) or "patience" in self.settings:
            return self._with(self.settings)
        return self._with({"epochs": 2, **self.settings, "patience": 0})

    def _with(self, settings: dict[str, Any]) -> Experiment:
        """The recipe of the class with these settings."""
        values = read_recipe(packaged_recipes()[self.recipe]) | {"name": self.kind}
        known = [name for section in _SECTIONS.values() for name in section.model_fields]
        for name, value in settings.items():
            section = next((key for key, fields in _SECTIONS.items() if name in fields.model_fields), None)
            if name == "kind":
                raise ConfigError(f"kind is {self.kind} in {type(self).__name__}: leave it out.")
            if section is None:
                close = get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]}" if close else "see docs/training.md for the list"
                raise ConfigError(f"{name} is not a setting of {type(self).__name__}: {hint}.")
            values[section][name] = list(value) if isinstance(value, tuple) else value
        return Experiment.parse(values, source=type(self).__name__)

    def fit(
        self, dataset: Dataset, *, output: str | Path | None = None, progress: bool | None = None
    ) -> Self:
        """Train on `dataset`, keep what is best on its validation rows, evaluate once on its test rows.

        Args:
            dataset: from `Dataset.from_interactions`, `Dataset.open` or one of the `prepare_…` functions.
            output: a new folder that keeps the run; by default a temporary one, which goes with the model.
            progress: show phases and epochs; by default on a terminal and in a notebook.

        Ctrl-C raises `Interrupted`. Raises what `ncf.train` raises.
        """
        target = Path(output) if output else self._temporary_folder() / "run"
        tracker = ConsoleTracker() if (_is_watched() if progress is None else progress) else Silent()
        try:
            run = train(dataset, self.experiment(dataset), target, options=RunOptions(tracker=tracker))
        finally:
            tracker.close()
        self._run, self._recommender = run, None
        return self

    def _temporary_folder(self) -> Path:
        """A folder that goes with the model, or with the process."""
        folder = tempfile.mkdtemp(prefix="ncf-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    @property
    def run(self) -> Run:
        """The run of `fit`: its folder, artifact and metrics."""
        if self._run is None:
            raise ConfigError(f"This {type(self).__name__} is not fitted: call fit(dataset) first.")
        return self._run

    @property
    def recommender(self) -> Recommender:
        """Everything that serving can do with the fitted model."""
        if self._recommender is None:
            self._recommender = Recommender.open(self.run.artifact)
        return self._recommender

    @overload
    def recommend(  # type: ignore[overload-overlap]
        self, users: Id, k: int = 10, **options: Unpack[RecommendOptions]
    ) -> Recommendation: ...

    @overload
    def recommend(
        self, users: Sequence[Id], k: int = 10, **options: Unpack[RecommendOptions]
    ) -> RecommendationList: ...

    def recommend(
        self, users: Id | Sequence[Id], k: int = 10, **options: Unpack[RecommendOptions]
    ) -> Recommendation | RecommendationList:
        """The best `k` items of one user or of each of several; see `Recommender.recommend`."""
        return self.recommender.recommend(users, k, **options)

    def similar_items(self, item: Id, k: int = 10) -> Recommendation:
        """The `k` items that are most similar to `item`; see `Recommender.similar_items`."""
        return self.recommender.similar_items(item, k)

    def evaluate(self, stage: Literal["validation", "test"] = "test") -> dict[str, float]:
        """The metrics of the fitted model on the held-out rows of its data, by name, such as "ndcg@10".

        They were computed once, by `fit`. Raises `ConfigError` where nothing is held out for `stage`.
        """
        metrics = self.run.metrics.get(stage, {}).get("metrics")
        if not metrics:
            raise ConfigError(f"The data hold nothing out for {stage}: prepare them with a {stage} split.")
        return dict(metrics)

    @property
    def verdict(self) -> str:
        """One line: the model, popularity and a closed form on the same test rows."""
        return str((self.run.metrics.get("verdict") or {}).get("line", "Nothing was held out."))

    def save(self, folder: str | Path) -> Path:
        """Write the artifact to a new or empty `folder`.

        `ncf.Recommender.open`, `ncf serve` and SageMaker take it.

        Raises `StorageError` where the folder is not empty or cannot be written.
        """
        target = Path(folder)
        if target.is_dir() and any(target.iterdir()):
            raise StorageError(f"{target} is not empty: choose a new folder.")
        with atomic_folder(target) as temporary:
            shutil.copytree(self.run.artifact, temporary, dirs_exist_ok=True)
        return target

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        name = f"{type(self).__name__}({settings})"
        return f"<{name}, not fitted>" if self._run is None else f"<{name}: {self.verdict}>"


class GMF(Estimator):
    """Generalised matrix factorisation: one product of two tables (He et al., WWW'17, section 3.2)."""

    kind = "gmf"
    recipe = "default"


class MLP(Estimator):
    """A tower over both embeddings (section 3.3)."""

    kind = "mlp"
    recipe = "mlp"


class NeuMF(Estimator):
    """GMF and MLP together (section 3.4). It starts as its GMF does, and the tower learns what is left."""

    kind = "neumf"
    recipe = "neumf"


class HistoryGMF(Estimator):
    """A GMF whose users are an own vector plus the items of their history (docs/training.md)."""

    kind = "history-gmf"
    recipe = "history-gmf"


class SASRec(Estimator):
    """What comes next: self-attention over a user's latest items (`models/attention.py`); needs times."""

    kind = "sasrec"
    recipe = "sasrec"


def _is_watched() -> bool:
    """Whether somebody sees the progress: on a terminal or in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
