"""The scorer equals the model it was made of, and masking leaves out exactly what it should."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf.models import ModelScorer, inference, mask_items
from support import KINDS, csr_of, model_of


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1, 7, 8192])
def test_equals_the_model(kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_CHUNK_SCORES", chunk)
    model = model_of(kind)
    users, items = torch.tensor([3, 0, 19, 3]), torch.arange(20).view(4, 5)
    scorer = ModelScorer(model)
    torch.testing.assert_close(scorer(users, items), model(users, items).detach())
    torch.testing.assert_close(scorer.catalogue(users), model.catalogue(users).detach())


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_float32_and_shaped_like_the_candidates(kind: str) -> None:
    scorer, nobody = ModelScorer(model_of(kind)), torch.zeros(0, dtype=torch.long)
    scores = scorer(torch.tensor([1]), torch.tensor([[2, 3]]))
    assert scores.shape == (1, 2)
    assert scores.dtype == torch.float32
    assert scorer.catalogue(nobody).shape == (0, 30)


@pytest.mark.parametrize("kind", KINDS)
def test_scoring_changes_nothing(kind: str) -> None:
    model = model_of(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scorer, users = ModelScorer(model), torch.tensor([1, 2])
    assert torch.equal(scorer.catalogue(users), scorer.catalogue(users))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@given(st.lists(st.lists(st.integers(0, 9), unique=True), min_size=1, max_size=6), st.data())
def test_masked_are_the_items_of_each_user_and_only_those(sets: list[list[int]], data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.integers(-1, len(sets) - 1), max_size=8)), dtype=np.int64)
    scores = torch.zeros(len(rows), 10)
    mask_items(scores, csr_of(sets), rows)
    for row, user in zip(scores, rows, strict=True):
        expected = set(sets[user]) if user >= 0 else set()
        assert set((row == -torch.inf).nonzero().ravel().tolist()) == expected
