"""Ranks computed on the device are those of the CPU. The CPU plays the device."""

import gc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf.config import EvaluationConfig
from ncf.data import HeldOut
from ncf.evaluation import evaluate_sampled, on_device, ranking
from ncf.evaluation.metrics import TiedRanks
from ncf.evaluation.on_device import lists_on, rank_columns, tied_ranks_on
from ncf.models import ModelScorer
from ncf.runtime import Workers
from support import model_of, planted

CPU = torch.device("cpu")
SCORES = st.lists(
    st.lists(
        st.sampled_from([0.0, 1.0, 2.0, float("inf"), -float("inf"), float("nan")]), min_size=4, max_size=4
    ),
    min_size=1,
    max_size=8,
)


def test_each_row_has_three_whole_numbers() -> None:
    columns = rank_columns(torch.rand(5, 7), torch.arange(35).view(5, 7))
    assert (columns.shape, columns.dtype) == ((5, 3), torch.int64)


@given(scores=SCORES, seed=st.integers(0, 9))
def test_the_columns_are_the_tied_ranks_and_a_count_of_nan(scores: list[list[float]], seed: int) -> None:
    scores_TC = torch.tensor(scores)
    items_TC = torch.from_numpy(np.random.default_rng(seed).integers(0, 5, scores_TC.shape))
    columns, ranks = rank_columns(scores_TC, items_TC), TiedRanks.of_scores(scores_TC, items_TC)
    assert columns[:, 0].tolist() == ranks.above.tolist()
    assert columns[:, 1].tolist() == ranks.tied.tolist()
    assert int(columns[:, 2].sum()) == ranking._nonnumbers(scores_TC)


@pytest.mark.parametrize("at_once", [1, 500, 2**24])
@pytest.mark.parametrize("rows", [slice(0, 300), slice(17, 91), slice(4, 4)])
def test_any_part_of_the_rows_has_the_ranks_of_the_cpu(
    rows: slice, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_device, "_SCORES_AT_ONCE", at_once)
    dataset, scorer = planted(), ModelScorer(model_of(users=300, items=120))
    ranks, nonnumbers = tied_ranks_on(scorer, dataset.test, rows, CPU)
    users = torch.from_numpy(dataset.test.user_rows[rows]).long()
    items = torch.from_numpy(dataset.test.candidates[rows]).long()
    by_hand = TiedRanks.of_scores(scorer(users, items), items)
    assert (ranks.above.tolist(), ranks.tied.tolist()) == (
        by_hand.above.tolist(),
        by_hand.tied.tolist(),
    )
    assert nonnumbers == 0


def test_a_result_on_the_device_is_that_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, rules = planted(), EvaluationConfig(cutoffs=(1, 10), bootstrap=0)
    scorer = ModelScorer(model_of(users=300, items=120))
    expected = evaluate_sampled(scorer, dataset.test, rules, Workers(1))
    # "meta" takes the device's branch; the ranks are computed on the CPU, the only device here.
    monkeypatch.setattr(ranking, "tied_ranks_on", lambda s, h, rows, _: tied_ranks_on(s, h, rows, CPU))
    result = evaluate_sampled(scorer, dataset.test, rules, Workers(1), "meta")
    assert result.means == expected.means
    assert result.values["hr@1"].tolist() == expected.values["hr@1"].tolist()


class Second:
    """The second of two processes; what the first has to say is given."""

    rank, size = 1, 2

    def __init__(self, *first: torch.Tensor) -> None:
        self.first, self.own = list(first), []

    def all_gather_rows(self, rows: torch.Tensor) -> torch.Tensor:
        self.own.append(len(rows))
        return torch.cat([self.first.pop(0), rows])


def test_two_processes_evaluate_half_of_the_rows_each(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, rules = planted(), EvaluationConfig(cutoffs=(1, 10), bootstrap=0)
    scorer = ModelScorer(model_of(users=300, items=120))
    monkeypatch.setattr(ranking, "tied_ranks_on", lambda s, h, rows, _: tied_ranks_on(s, h, rows, CPU))
    ranks, _ = tied_ranks_on(scorer, dataset.test, slice(0, 150), CPU)
    first = torch.from_numpy(np.stack([ranks.above, ranks.tied], axis=1))
    second = Second(first, torch.zeros(1, dtype=torch.int64))
    together = evaluate_sampled(scorer, dataset.test, rules, Workers(1), "meta", second)
    assert second.own == [150, 1]
    assert together.means == evaluate_sampled(scorer, dataset.test, rules, Workers(1)).means


def test_lists_are_sent_once_and_forgotten_with_their_rows() -> None:
    held_out = HeldOut(np.zeros(2, np.int32), np.ones((2, 3), np.int32))
    lists = lists_on(held_out, CPU)
    assert (lists.users.dtype, lists.items.dtype) == (torch.int32, torch.int32)
    assert lists_on(held_out, CPU) is lists
    before = len(on_device._uploaded)
    del held_out
    gc.collect()
    assert len(on_device._uploaded) == before - 1
