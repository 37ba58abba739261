"""GMF, MLP, NeuMF and their kin: what comes in are table rows, what goes out are logits."""

from ncf.models.build import Model, build_model, halves, history_half, parameter_count
from ncf.models.frozen import build_frozen, freeze
from ncf.models.gmf import GMF, MF
from ncf.models.history import History, HistoryGMF, history_of
from ncf.models.inference import ModelScorer, mask_items
from ncf.models.mlp import MLP
from ncf.models.neumf import NeuMF

__all__ = ["GMF", "MF", "MLP", "History", "HistoryGMF", "Model", "ModelScorer", "NeuMF", "build_frozen", "build_model", "freeze", "halves", "history_half", "history_of", "mask_items", "parameter_count"]  # fmt: skip
