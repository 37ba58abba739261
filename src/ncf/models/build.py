"""From a `ModelConfig` to a model, and from a trained model to one with a single vector for each user.

In: a configuration, or a model of any kind. Out: a model, all zeros or random; or a frozen model with the
same scores, in which each user has what the own vector and the history give: only tables are needed. The
decision worth knowing: evaluation, serving and retrieval see only frozen models, and so know no histories.

Legend: U users, I items, D factors.
"""

import torch

from ncf.config import ModelConfig
from ncf.data import Dataset
from ncf.models.attention import AttentionGMF, PlacesGMF
from ncf.models.gmf import GMF, MF
from ncf.models.history import HistoryGMF, history_of
from ncf.models.mlp import MLP
from ncf.models.neumf import NeuMF
from ncf.models.sequences import SequenceModel, Sequences

Model = GMF | MLP | NeuMF


def build_model(
    config: ModelConfig, users: int, items: int, generator: torch.Generator | None = None
) -> Model:
    """A model of `config` for these numbers of users and items; without a `generator` it is all zeros."""
    if config.kind == "mlp":
        model: Model = _mlp(config, users, items)
    else:
        model = _with_mlp(_gmf(config, users, items), config)
    if generator is not None:
        model.reset(generator)
    return model


def _gmf(config: ModelConfig, users: int, items: int) -> GMF:
    sizes = users, items, config.width, config.gmf_init_std
    if config.kind.startswith("sasrec"):
        return AttentionGMF(
            *sizes, config.attention_length, config.dropout, config.attention_blocks, config.attention_heads
        )
    if config.history_places:
        return PlacesGMF(*sizes, config.history_places, config.dropout, config.history_exponent)
    if config.kind.startswith("history"):
        rules = config.history_exponent, config.history_dropout, config.history_half_life
        return HistoryGMF(*sizes, *rules)
    return MF(*sizes) if config.kind == "mf" else GMF(*sizes)


def _mlp(config: ModelConfig, users: int, items: int) -> MLP:
    return MLP(users, items, config.embedding, config.tower, config.dropout, config.mlp_init_std)


def _with_mlp(gmf: GMF, config: ModelConfig) -> Model:
    """The GMF, in a NeuMF where `config` is of one."""
    users, items = len(gmf.user_table), len(gmf.item_table)
    return NeuMF(gmf, _mlp(config, users, items)) if config.kind.endswith("neumf") else gmf


def branches(model: Model) -> list[GMF | MLP]:
    """The parts whose logits add up to the model's."""
    return [model.gmf, model.mlp] if isinstance(model, NeuMF) else [model]


def parameter_count(model: torch.nn.Module) -> int:
    """The number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters())


def history_branch(model: Model) -> HistoryGMF | None:
    """The history-aware branch, if the model has one."""
    return next((branch for branch in branches(model) if isinstance(branch, HistoryGMF)), None)


def sequence_branch(model: Model) -> SequenceModel | None:
    """The branch that reads sequences, if the model has one."""
    return next((branch for branch in branches(model) if isinstance(branch, SequenceModel)), None)


def attach_histories(model: Model, seen: Dataset, seed: int) -> None:
    """Give the users of a history-aware `model` what they did in training; `seed` orders equal times."""
    history, sequences = history_branch(model), sequence_branch(model)
    if history is not None:
        history.attach(history_of(seen, history.half_life))
    if sequences is not None:
        sequences.attach(Sequences.of(seen.train, len(seen.users), seed))


@torch.no_grad()
def freeze(model: Model) -> Model:
    """A model with the same scores and no history; a model that has no history is returned unchanged."""
    first, *others = (frozen_branch(branch) for branch in branches(model))
    if first is branches(model)[0]:
        return model
    if not others:
        return first
    assert isinstance(first, GMF)
    assert isinstance(others[0], MLP)
    return NeuMF(first, others[0])


def build_frozen(config: ModelConfig, users: int, items: int) -> Model | None:
    """What `freeze` makes of a history-aware model of `config`, all zeros; None for other kinds."""
    if not (config.kind.startswith("history") or config.reads_sequences):
        return None
    return _with_mlp(MF(users, items, config.width), config)


@torch.no_grad()
def frozen_branch(branch: GMF | MLP) -> GMF | MLP:
    """The same branch without a history."""
    if not isinstance(branch, HistoryGMF | SequenceModel):
        return branch
    users, (items, factors) = len(branch.user_table), branch.item_table.shape
    plain = MF(users, items, factors, branch.init_std).to(branch.item_table.device)
    values = branch.state_dict() | {"user_table": branch.users()}
    plain.load_state_dict({name: values[name] for name in plain.state_dict()})
    return plain.requires_grad_(False)
