"""Neural collaborative filtering: from a table of interactions to recommendations.

    dataset = ncf.Dataset.open("data/ml-1m")
    run = ncf.train(dataset, ncf.Experiment.load("recipes/ml-1m-neumf.toml"))
    ncf.Recommender.open(run.artifact).recommend("42", k=10)

Names are imported on first use, so that `import ncf` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncf.analysis import compare_runs, evaluate
    from ncf.config import Experiment
    from ncf.data import Dataset, PrepareOptions, prepare_catalog, prepare_file, prepare_ncf_triple
    from ncf.errors import NcfError
    from ncf.experiment import Run, RunOptions, train
    from ncf.serving.recommender import Recommendation, Recommender

_HOMES = {
    "Dataset": "ncf.data",
    "Experiment": "ncf.config",
    "RunOptions": "ncf.experiment",
    "NcfError": "ncf.errors",
    "PrepareOptions": "ncf.data",
    "Recommendation": "ncf.serving.recommender",
    "Recommender": "ncf.serving.recommender",
    "Run": "ncf.experiment",
    "compare_runs": "ncf.analysis",
    "evaluate": "ncf.analysis",
    "prepare_catalog": "ncf.data",
    "prepare_file": "ncf.data",
    "prepare_ncf_triple": "ncf.data",
    "train": "ncf.experiment",
}

__all__ = [
    "Dataset",
    "Experiment",
    "NcfError",
    "PrepareOptions",
    "Recommendation",
    "Recommender",
    "Run",
    "RunOptions",
    "compare_runs",
    "evaluate",
    "prepare_catalog",
    "prepare_file",
    "prepare_ncf_triple",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ncf' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
