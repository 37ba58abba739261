"""GMF, MLP, NeuMF and their kin: what comes in are table rows, what goes out are logits."""

from ncf.models.build import (
    Model,
    attach_histories,
    branches,
    build_frozen,
    build_model,
    freeze,
    history_branch,
    parameter_count,
    sequence_branch,
)
from ncf.models.gmf import GMF, MF
from ncf.models.history import History, HistoryGMF, history_of
from ncf.models.inference import ModelScorer, mask_items
from ncf.models.mlp import MLP
from ncf.models.neumf import NeuMF

__all__ = [
    "GMF", "MF", "MLP", "History", "HistoryGMF", "Model", "ModelScorer", "NeuMF", "attach_histories",
    "branches", "build_frozen", "build_model", "freeze", "history_branch", "history_of", "mask_items",
    "parameter_count", "sequence_branch",
]  # fmt: skip
