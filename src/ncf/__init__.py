"""Neural collaborative filtering: from a table of interactions to recommendations.

    dataset = ncf.Dataset.from_interactions(frame, user="customer", item="article", time="day")
    model = ncf.NeuMF(factors=64).fit(dataset)
    model.recommend("anna", k=10)

Names are imported on first use, so that `import ncf` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncf.analysis import compare_runs, evaluate
    from ncf.config import Experiment
    from ncf.data import Dataset, PrepareOptions, prepare_catalog, prepare_file, prepare_ncf_triple
    from ncf.data.frames import prepare_frame
    from ncf.errors import NcfError
    from ncf.estimators import GMF, MLP, HistoryGMF, NeuMF, SASRec
    from ncf.experiment import Run, RunOptions, train
    from ncf.serving.recommender import Recommendation, RecommendationList, Recommender

_HOMES = {
    "GMF": "ncf.estimators",
    "HistoryGMF": "ncf.estimators",
    "MLP": "ncf.estimators",
    "NeuMF": "ncf.estimators",
    "SASRec": "ncf.estimators",
    "Dataset": "ncf.data",
    "Experiment": "ncf.config",
    "RunOptions": "ncf.experiment",
    "NcfError": "ncf.errors",
    "PrepareOptions": "ncf.data",
    "Recommendation": "ncf.serving.recommender",
    "RecommendationList": "ncf.serving.recommender",
    "Recommender": "ncf.serving.recommender",
    "Run": "ncf.experiment",
    "compare_runs": "ncf.analysis",
    "evaluate": "ncf.analysis",
    "prepare_catalog": "ncf.data",
    "prepare_file": "ncf.data",
    "prepare_frame": "ncf.data.frames",
    "prepare_ncf_triple": "ncf.data",
    "train": "ncf.experiment",
}

__all__ = [
    "GMF",
    "MLP",
    "Dataset",
    "Experiment",
    "HistoryGMF",
    "NcfError",
    "NeuMF",
    "PrepareOptions",
    "Recommendation",
    "RecommendationList",
    "Recommender",
    "Run",
    "RunOptions",
    "SASRec",
    "compare_runs",
    "evaluate",
    "prepare_catalog",
    "prepare_file",
    "prepare_frame",
    "prepare_ncf_triple",
    "train",
]


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ncf")
    if name not in _HOMES:
        raise AttributeError(f"module 'ncf' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
