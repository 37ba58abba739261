"""`ModelConfig` -> module, and the fusion of two trained models into one (He et al., WWW'17, section 3.4.1)."""

import torch

from ncf.config import ModelConfig
from ncf.models.gmf import GMF, MF
from ncf.models.history import HistoryGMF
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
    if config.kind == "mlp":
        return mlp_of(config, users, items)
    gmf = _gmf(config, users, items)
    return NeuMF(gmf, mlp_of(config, users, items)) if config.kind.endswith("neumf") else gmf


def _gmf(config: ModelConfig, users: int, items: int) -> GMF:
    sizes = users, items, config.factors, config.gmf_init_std
    if config.kind.startswith("history"):
        rules = config.history_exponent, config.history_dropout, config.history_half_life
        return HistoryGMF(*sizes, *rules)
    return MF(*sizes) if config.kind == "mf" else GMF(*sizes)


def mlp_of(config: ModelConfig, users: int, items: int) -> MLP:
    """The MLP half of `config`, all zeros."""
    return MLP(users, items, config.embedding, config.tower, config.dropout, config.mlp_init_std)


def halves(model: Model) -> list[GMF | MLP]:
    """The parts whose logits add up to the model's."""
    return [model.gmf, model.mlp] if isinstance(model, NeuMF) else [model]


def parameter_count(model: torch.nn.Module) -> int:
    """Numbers that training decides."""
    return sum(parameter.numel() for parameter in model.parameters())


def history_half(model: Model) -> HistoryGMF | None:
    """The half that knows its users' history, where the model has one."""
    return next((half for half in halves(model) if isinstance(half, HistoryGMF)), None)
