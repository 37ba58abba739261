"""The same rows under both protocols; places from hit ratios at every cutoff."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ncf.analysis.report import ranked_users
from ncf.analysis.report.ranked_users import RankedUsers, log_edges, rank_users
from ncf.config import EvaluationConfig
from ncf.data import Dataset
from ncf.evaluation.slices import sorted_by_user
from ncf.models import ModelScorer
from ncf.runtime import workers
from support import model_of


class Constant:
    """A scorer that says the same of everything."""

    def __init__(self, items: int) -> None:
        self.items = items

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        return torch.zeros(items_BC.shape)

    def catalogue(self, users_B: Tensor) -> Tensor:
        return torch.zeros(len(users_B), self.items)


@pytest.fixture(scope="module")
def rules() -> EvaluationConfig:
    return EvaluationConfig(cutoffs=(5,), bootstrap=200)


def ranked(dataset: Dataset, scorer: object, rules: EvaluationConfig) -> RankedUsers:
    with workers(1) as pool:
        return rank_users(scorer, dataset, sorted_by_user(dataset.test), rules, 0, pool)  # type: ignore[arg-type]


def test_shares_are_of_every_row_and_add_up(dataset: Dataset, rules: EvaluationConfig) -> None:
    found = ranked(dataset, ModelScorer(model_of("neumf", 90, 60)), rules)
    for ranking in (found.sampled, found.full):
        assert ranking.shares.shape == ranking.chance.shape == ranking.edges.shape
        assert ranking.shares.dtype == np.float64
        assert ranking.shares.sum() == pytest.approx(1.0)
        assert ranking.chance.sum() == pytest.approx(1.0)
    assert found.sampled.edges.tolist() == list(range(1, 32))
    assert found.total == 90


def test_shares_are_what_counting_places_gives(dataset: Dataset, rules: EvaluationConfig) -> None:
    scorer = ModelScorer(model_of("gmf", 90, 60))
    found = ranked(dataset, scorer, rules)
    places, in_catalogue = [], []
    for user, candidates in zip(
        dataset.test.user_rows.tolist(), dataset.test.candidates.tolist(), strict=True
    ):
        scores = scorer.catalogue(torch.tensor([user]))[0].tolist()
        places.append(1 + sum(scores[item] > scores[candidates[0]] for item in candidates[1:]))
        known = set(dataset.known.row(user).tolist()) - {candidates[0]}
        others = [score for item, score in enumerate(scores) if item not in known]
        in_catalogue.append(1 + sum(score > scores[candidates[0]] for score in others))
    expected = np.bincount(places, minlength=32)[1:] / 90
    np.testing.assert_allclose(found.sampled.shares, expected, atol=1e-12)
    at = np.searchsorted(found.full.edges, in_catalogue)
    np.testing.assert_allclose(
        found.full.shares, np.bincount(at, minlength=len(found.full.edges)) / 90, atol=1e-12
    )


def test_a_model_that_says_nothing_is_chance_itself(dataset: Dataset, rules: EvaluationConfig) -> None:
    found = ranked(dataset, Constant(60), rules)
    for ranking in (found.sampled, found.full):
        np.testing.assert_allclose(ranking.shares, ranking.chance, atol=1e-12)


def test_figures_have_intervals_around_them(dataset: Dataset, rules: EvaluationConfig) -> None:
    told = ranked(dataset, ModelScorer(model_of("mlp", 90, 60)), rules).sampled.to_json()
    assert list(told["intervals"]) == ["hr@5", "hr@10", "ndcg@5", "ndcg@10", "mrr"]
    for name, (low, high) in told["intervals"].items():
        assert low <= told["metrics"][name] <= high
        assert low < high


def test_of_many_rows_a_sample_is_ranked(
    dataset: Dataset, rules: EvaluationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranked_users, "MOST_ROWS", 50)
    monkeypatch.setattr(ranked_users, "MOST_SCORES", 60 * 20)
    found = ranked(dataset, Constant(60), rules)
    assert (len(found.sampled.rows), len(found.full.rows), found.total) == (50, 20, 90)
    assert set(found.full.rows.user_rows.tolist()) <= set(found.sampled.rows.user_rows.tolist())


@pytest.mark.parametrize(
    ("last", "edges"),
    [(1, [1]), (2, [1, 2]), (7, [1, 2, 5, 7]), (50, [1, 2, 5, 10, 20, 50]), (60, [1, 2, 5, 10, 20, 50, 60])],
)
def test_edges_grow_and_end_with_the_last_place(last: int, edges: list[int]) -> None:
    assert log_edges(last).tolist() == edges


def test_lists_that_hold_their_positive_twice_are_shorter(dataset: Dataset, rules: EvaluationConfig) -> None:
    candidates = dataset.test.candidates.copy()
    candidates[:, 1] = candidates[:, 0]
    defective = replace(dataset, test=replace(dataset.test, candidates=candidates))
    found = ranked(defective, Constant(60), rules)
    assert set(found.sampled.ranked.tolist()) == {30}
    np.testing.assert_allclose(found.sampled.shares, found.sampled.chance, atol=1e-12)
