"""Self-attention over a user's latest items (SASRec; Kang & McAuley, ICDM'18), and learned weights by place.

    SASRec     v_t = f(y_1, ..., y_t)        f: blocks of causal attention and of layers at each position
    by place   v_t = p_u + W_t^-a * sum over j <= t of w_(t-j) y_j,   W_t = sum of these w
    both       y_i = v_t . q_i + b_i + b

SASRec has no vector of a user's own. With weights by place a user is an own vector plus the items of the
history, as in `history.py`, but each place has a weight of its own, which is learned. Both are trained on
whole sequences (`training/sequence_step.py`).

Four decisions worth knowing, of which SASRec as published has none. What an item says of the next (y) and
when it is the next (q) are two tables. Positions have no vectors: attention adds a learned number for each
age, how many items lie between (Shaw et al., NAACL'18). Blocks are normalised before their layers and not
after, which needs no slow start (Xiong et al., ICML'20). And a new encoder is nearly a mean of recent items:
values pass unchanged, weights halve after eight items, and layers add nothing. Each of them shortens training
(docs/decisions.md).

Legend: B windows, L their length, U users, I items, D factors, H heads, P places.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from ncf.models.layers import DropoutMasks, zeros
from ncf.models.recency import scale
from ncf.models.sequences import SequenceModel

_HALF_LIFE_OF_PLACES, _HALF_LIFE_OF_ATTENTION = 4.0, 8.0
_FIRST_QUERIES = 0.1


class AttentionBlock(nn.Module):
    """Causal self-attention with `heads`, then two layers at each position; both add to their input."""

    def __init__(self, width: int, length: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.layers_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.log_weights = zeros(heads, length)
        self.mix, self.first, self.second = (nn.Linear(width, width) for _ in range(3))

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values: those of a weighted mean of the items before, and a little noise."""
        width = self.mix.weight.shape[0]
        with torch.no_grad():
            for layer in (self.query_key_value, self.first):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
            self.query_key_value.weight[: 2 * width].mul_(_FIRST_QUERIES)
            for identity in (self.query_key_value.weight[2 * width :], self.mix.weight):
                identity.copy_(torch.eye(width))
            self.log_weights.copy_(_halving(self.log_weights.shape[1], _HALF_LIFE_OF_ATTENTION))
            for zero in (self.second.weight, self.mix.bias, self.first.bias, self.second.bias):
                zero.zero_()
            for norm in (self.attention_norm, self.layers_norm):
                norm.reset_parameters()

    def forward(self, states_BLD: Tensor, drop: DropoutMasks | None) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        apply = drop or _unchanged
        split = self.query_key_value(self.attention_norm(states_BLD)).chunk(3, dim=2)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in split)
        ages_LL = _ages(states_BLD.shape[1], states_BLD.device)
        by_age_HLL = self.log_weights[:, ages_LL.clamp(min=0)].masked_fill(ages_LL < 0, -math.inf)
        # Written out: torch's fused attention has no gradient for what is added.
        scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5 + by_age_HLL
        seen = (torch.softmax(scores, 3) @ value).transpose(1, 2).flatten(2)
        states_BLD = states_BLD + apply(self.mix(seen))
        return states_BLD + apply(self.second(relu(self.first(self.layers_norm(states_BLD)))))


def _unchanged(values: Tensor) -> Tensor:
    return values


def _ages(length: int, device: torch.device) -> Tensor:
    """[L, L]: how many items later the first position is than the second."""
    places_L = torch.arange(length, device=device)
    return places_L[:, None] - places_L


def _halving(places: int, half_life: float) -> Tensor:
    """[P]: logarithms of weights that halve after `half_life` places."""
    return -math.log(2) / half_life * torch.arange(places)


class AttentionEncoder(nn.Module):
    """`blocks` of attention over at most `length` items, and a last normalisation."""

    def __init__(self, width: int, length: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(AttentionBlock(width, length, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values, block by block."""
        for block in self.blocks:
            assert isinstance(block, AttentionBlock)
            block.reset(generator)
        self.norm.reset_parameters()

    def forward(self, vectors_BLD: Tensor, drop: DropoutMasks | None) -> Tensor:
        """[B, L, D]: what is known after each item, from the vectors of the items."""
        states = (drop or _unchanged)(vectors_BLD * math.sqrt(vectors_BLD.shape[2]))
        for block in self.blocks:
            states = block(states, drop)
        normed: Tensor = self.norm(states)
        return normed


class AttentionGMF(SequenceModel):
    """A model whose users are what attention makes of their latest items."""

    def __init__(
        self,
        users: int,
        items: int,
        factors: int,
        init_std: float,
        length: int,
        dropout: float,
        blocks: int,
        heads: int,
    ) -> None:
        super().__init__(users, items, factors, init_std, length, dropout)
        del self.user_table
        self.register_buffer("user_table", torch.empty(users, 0), persistent=False)
        self.encoder = AttentionEncoder(factors, length, blocks, heads)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values: the tables from N(0, init_std²), the encoder's as it says."""
        super().reset(generator)
        self.encoder.reset(generator)

    def encode(self, items_BL: Tensor, _users_B: Tensor, drop: DropoutMasks | None = None) -> Tensor:
        encoded: Tensor = self.encoder(self.history_vectors(items_BL), drop)
        return encoded


class PlacesGMF(SequenceModel):
    """A history-aware GMF with a learned weight for each of the latest P = `length` places."""

    def __init__(
        self,
        users: int,
        items: int,
        factors: int,
        init_std: float,
        length: int,
        dropout: float,
        exponent: float,
    ) -> None:
        super().__init__(users, items, factors, init_std, length, dropout)
        self.log_weights = zeros(length)
        self.exponent = exponent

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values: users' own vectors are zero, and weights halve after four later items."""
        super().reset(generator)
        nn.init.zeros_(self.user_table)
        with torch.no_grad():
            self.log_weights.copy_(_halving(self.length, _HALF_LIFE_OF_PLACES))

    def encode(self, items_BL: Tensor, users_B: Tensor, drop: DropoutMasks | None = None) -> Tensor:
        ages_LL, apply = _ages(items_BL.shape[1], items_BL.device), drop or _unchanged
        weights_LL = self.log_weights.exp()[ages_LL.clamp(min=0)] * (ages_LL >= 0)
        sums_BLD = weights_LL @ apply(self.history_vectors(items_BL))
        return sums_BLD * scale(weights_LL.sum(1), self.exponent)[:, None] + self.user_table[users_B][:, None]

    def last(self, items_BL: Tensor, users_B: Tensor, lengths_B: Tensor) -> Tensor:
        ages_BL = lengths_B[:, None] - 1 - torch.arange(items_BL.shape[1], device=items_BL.device)
        weights_BL = self.log_weights.exp()[ages_BL.clamp(min=0)] * (ages_BL >= 0)
        sums_BD = torch.einsum("bl,bld->bd", weights_BL, self.history_vectors(items_BL))
        return self.user_table[users_B] + sums_BD * scale(weights_BL.sum(1), self.exponent)[:, None]

    def own_vectors(self, _users: int) -> Tensor:
        return self.user_table
