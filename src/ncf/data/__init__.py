"""Data: from a table of interactions to one folder with everything that training and evaluation need.

Names are imported on first use: who only serves a model needs none of the readers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncf.data.catalog import CATALOG
    from ncf.data.dataset import Dataset
    from ncf.data.interactions import Csr, HeldOut, Interactions
    from ncf.data.options import PrepareOptions
    from ncf.data.out_of_core.streaming import prepare_streaming
    from ncf.data.prepare import prepare_catalog, prepare_file, prepare_ncf_triple
    from ncf.data.report import PrepareReport
    from ncf.data.split_files import prepare_split_files
    from ncf.data.update import update_data
    from ncf.data.vocabulary import Vocabulary

_HOMES = {
    "CATALOG": "catalog",
    "Csr": "interactions",
    "Dataset": "dataset",
    "HeldOut": "interactions",
    "Interactions": "interactions",
    "PrepareOptions": "options",
    "PrepareReport": "report",
    "Vocabulary": "vocabulary",
    "prepare_catalog": "prepare",
    "prepare_file": "prepare",
    "prepare_ncf_triple": "prepare",
    "prepare_split_files": "split_files",
    "prepare_streaming": "out_of_core.streaming",
    "update_data": "update",
}

__all__ = [
    "CATALOG",
    "Csr",
    "Dataset",
    "HeldOut",
    "Interactions",
    "PrepareOptions",
    "PrepareReport",
    "Vocabulary",
    "prepare_catalog",
    "prepare_file",
    "prepare_ncf_triple",
    "prepare_split_files",
    "prepare_streaming",
    "update_data",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ncf.data' has no attribute {name!r}")
    return getattr(import_module(f"ncf.data.{_HOMES[name]}"), name)
