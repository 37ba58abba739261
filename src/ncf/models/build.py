"""`ModelConfig` -> module, and the fusion of two trained models into one (He et al., WWW'17, section 3.4.1)."""

import torch

from ncf.config import ModelConfig
from ncf.models.gmf import GMF
from ncf.models.mlp import MLP
from ncf.models.neumf import NeuMF

Model = GMF | MLP | NeuMF


def build_model(
    config: ModelConfig, users: int, items: int, generator: torch.Generator | None = None
) -> Model:
    """The architecture of `config` for `users` x `items`; all zeros without a generator (for loading weights)."""
    model = _assemble(config, users, items)
    if generator is not None:
        model.reset(generator)
    return model


def _assemble(config: ModelConfig, users: int, items: int) -> Model:
    if config.kind == "gmf":
        return GMF(users, items, config.factors, config.gmf_init_std)
    mlp = MLP(users, items, config.embedding, config.tower, config.dropout, config.mlp_init_std)
    if config.kind == "mlp":
        return mlp
    return NeuMF(GMF(users, items, config.factors, config.gmf_init_std), mlp)


def halves(model: Model) -> list[GMF | MLP]:
    """The parts whose logits add up to the model's."""
    return [model.gmf, model.mlp] if isinstance(model, NeuMF) else [model]


def parameter_count(model: torch.nn.Module) -> int:
    """Numbers that training decides."""
    return sum(parameter.numel() for parameter in model.parameters())
