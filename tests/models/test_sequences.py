"""Models of sequences against a slow version, position by position; order, ties and fillings."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ncf.data import Interactions
from ncf.models.attention import AttentionGMF, PlacesGMF
from ncf.models.sequences import Sequences, ages_in_order
from support import sequence_model

KINDS = ["places-gmf", "sasrec"]
FILLED = 30
"""The number of items, which fills up windows."""


def normed(norm: torch.nn.LayerNorm, values: Tensor) -> Tensor:
    centred = values - values.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias


def slow_attention(model: AttentionGMF, items: list[int]) -> list[Tensor]:
    """The vector after each item, by position and head (Vaswani et al., NeurIPS'17, section 3.2)."""
    width, encoder = model.item_table.shape[1], model.encoder
    states = [model.history_table[item] * math.sqrt(width) for item in items]
    for block in encoder.blocks:
        own = [block.query_key_value(normed(block.attention_norm, state)).chunk(3) for state in states]
        after = []
        for place, state in enumerate(states):
            seen = []
            for head in range(block.heads):
                part = slice(head * width // block.heads, (head + 1) * width // block.heads)
                query = own[place][0][part]
                logits = [query @ own[j][1][part] / math.sqrt(len(query)) for j in range(place + 1)]
                added = [block.log_weights[head, place - j] for j in range(place + 1)]
                shares = torch.softmax(torch.stack(logits) + torch.stack(added), 0)
                seen.append(sum(share * own[j][2][part] for j, share in enumerate(shares)))
            state = state + block.mix(torch.cat(seen))
            hidden = torch.relu(block.first(normed(block.layers_norm, state)))
            after.append(state + block.second(hidden))
        states = after
    return [normed(encoder.norm, state) for state in states]


def slow_places(model: PlacesGMF, items: list[int], user: int) -> list[Tensor]:
    found = []
    for place in range(len(items)):
        weights = [model.log_weights[place - j].exp() for j in range(place + 1)]
        total = sum(
            weight * model.history_table[item]
            for weight, item in zip(weights, items[: place + 1], strict=True)
        )
        whole = torch.stack(weights).sum().clamp(min=1)
        found.append(model.user_table[user] + total / whole**model.exponent)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_position_is_what_the_equations_say(kind: str) -> None:
    model, items = sequence_model(kind), [3, 17, 3, 29, 0, 8, 11]
    fast = model.encode(torch.tensor([items]), torch.tensor([5]))[0]
    assert (fast.shape, fast.dtype) == ((7, 8), torch.float32)
    slow = slow_attention(model, items) if isinstance(model, AttentionGMF) else None
    if isinstance(model, PlacesGMF):
        slow = slow_places(model, items, 5)
    assert slow is not None
    torch.testing.assert_close(fast, torch.stack(slow), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@given(items=st.lists(st.integers(0, 29), min_size=2, max_size=12), cut=st.integers(1, 9))
def test_what_comes_later_or_fills_up_changes_nothing(kind: str, items: list[int], cut: int) -> None:
    model, user, cut = sequence_model(kind), torch.tensor([1]), min(cut, len(items) - 1)
    whole = model.encode(torch.tensor([items]), user)[0, :cut]
    alone = model.encode(torch.tensor([items[:cut]]), user)[0]
    filled = model.encode(torch.tensor([items[:cut] + [FILLED] * 3]), user)[0, :cut]
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(filled, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_users_are_what_follows_their_latest_items(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sequence_model(kind)
    users = model.users()
    monkeypatch.setattr("ncf.models.sequences._POSITIONS_AT_ONCE", 7)
    torch.testing.assert_close(model.users(), users, rtol=1e-4, atol=1e-5)
    read_up_to, lengths = model.attached, np.diff(model.attached.offsets)
    assert lengths.min() == 0
    assert lengths.max() > model.length
    for user, (first, stop) in enumerate(zip(read_up_to.offsets, read_up_to.offsets[1:], strict=False)):
        items = torch.from_numpy(read_up_to.items[first:stop][-model.length :])
        expected = model.own_vectors(20)[user]
        if len(items):
            expected = model.encode(items[None], torch.tensor([user]))[0, -1]
        torch.testing.assert_close(users[user], expected, rtol=1e-4, atol=1e-5)


def interactions(users: list[int], times: list[int]) -> Interactions:
    rows = np.array(users, np.int32)
    return Interactions(rows, np.arange(len(rows), dtype=np.int32), np.array(times, np.int64))


def test_a_sequence_is_in_order_of_time_and_ties_follow_from_the_seed() -> None:
    train = interactions([0] * 3 + [1] * 40, [5, 1, 3] + [7] * 20 + [2] * 20)
    first, again, other = (Sequences.of(train, 3, seed) for seed in (0, 0, 1))
    assert first.items[:3].tolist() == [1, 2, 0]
    assert first.offsets.tolist() == [0, 3, 43, 43]
    assert sorted(first.items[3:23]) == list(range(23, 43))
    assert first.items[3:23].tolist() != list(range(23, 43))
    assert np.array_equal(first.items, again.items)
    assert not np.array_equal(first.items, other.items)


def test_ages_count_what_comes_after_in_the_same_order() -> None:
    train = interactions([0, 0, 0, 2, 2, 2, 2], [5, 1, 3, 4, 4, 4, 4])
    sequences, ages = Sequences.of(train, 3, 0), ages_in_order(train, 0)
    assert ages[:3].tolist() == [0, 2, 1]
    for user in (0, 2):
        items = sequences.items[sequences.offsets[user] : sequences.offsets[user + 1]]
        assert ages[items].tolist() == list(range(len(items)))[::-1]  # an item's row is its place in `train`


def test_weights_by_place_begin_to_halve_after_four_items() -> None:
    model = sequence_model("places-gmf")
    assert isinstance(model, PlacesGMF)
    fresh = PlacesGMF(2, 3, 4, 0.1, 9, 0.0, 0.5)
    fresh.reset(torch.Generator().manual_seed(0))
    np.testing.assert_allclose(fresh.log_weights.exp()[[0, 4, 8]].detach(), [1.0, 0.5, 0.25])
    assert not fresh.user_table.any()
