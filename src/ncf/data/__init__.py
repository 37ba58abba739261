"""Data: from a table of interactions to one folder with everything that training and evaluation need."""

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
