"""A trained model whose users have one vector each: what is judged, saved and served.

In: a model of any kind. Out: one with the same scores in which each user's own vector and history are added up, so that
nothing but its tables is needed; and the way back, for whoever goes on training it.

The one decision worth knowing: serving, retrieval and judging so need not know of histories at all.

Legend: U users, I items, D factors.
"""

import torch
from torch import Tensor

from ncf.config import ModelConfig
from ncf.models.build import Model, halves, mlp_of
from ncf.models.gmf import GMF, MF
from ncf.models.history import HistoryGMF
from ncf.models.mlp import MLP
from ncf.models.neumf import NeuMF


@torch.no_grad()
def freeze(model: Model) -> Model:
    """The same scores without a history; a model that has none is given back as it is."""
    first, *others = (frozen_half(half) for half in halves(model))
    if first is halves(model)[0]:
        return model
    if not others:
        return first
    assert isinstance(first, GMF)
    assert isinstance(others[0], MLP)
    return NeuMF(first, others[0])


def build_frozen(config: ModelConfig, users: int, items: int) -> Model | None:
    """What `freeze` makes of a history-aware model of this configuration, all zeros; None for one of another kind."""
    if not config.kind.startswith("history"):
        return None
    gmf = MF(users, items, config.factors)
    return NeuMF(gmf, mlp_of(config, users, items)) if config.kind.endswith("neumf") else gmf


@torch.no_grad()
def frozen_half(half: GMF | MLP) -> GMF | MLP:
    """A half that needs no history."""
    if not isinstance(half, HistoryGMF):
        return half
    assert half.item_bias is not None
    plain = MF(len(half.user_table), len(half.item_table), half.output.numel(), half.init_std).to(
        half.user_table.device
    )
    plain.load_state_dict(
        {name: value for name, value in half.state_dict().items() if name != "history_table"}
    )
    plain.user_table.copy_(half.users())
    return plain.requires_grad_(False)


@torch.no_grad()
def thaw(half: HistoryGMF, frozen: GMF, history_table: Tensor) -> None:
    """Put into `half`, whose history is attached, what `frozen` and the history's table say of it."""
    half.load_state_dict({**frozen.state_dict(), "history_table": history_table})
    half.user_table.zero_()
    half.user_table.copy_(frozen.user_table - half.users())
