"""GMF, MLP and NeuMF: what comes in are table rows, what goes out are logits."""

from ncf.models.build import Model, build_model, halves, parameter_count
from ncf.models.gmf import GMF
from ncf.models.mlp import MLP
from ncf.models.neumf import NeuMF
from ncf.models.scoring import Scorer, mask_items

__all__ = ["GMF", "MLP", "Model", "NeuMF", "Scorer", "build_model", "halves", "mask_items", "parameter_count"]
