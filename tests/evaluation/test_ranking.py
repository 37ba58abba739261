"""Sampled and full ranking against ranking by hand, for scorers whose answer is known."""

import numpy as np
import pytest

from ncf.config import EvaluationConfig
from ncf.data import Dataset, HeldOut
from ncf.evaluation import evaluate_full, evaluate_sampled, ranking
from ncf.models import ModelScorer
from ncf.runtime import Workers
from support import TableScorer, checkerboard, dataset_of, model_of, planted

RULES = EvaluationConfig(cutoffs=(1, 10), bootstrap=50)
ONE = Workers(1)


def random_scorer(dataset: Dataset, seed: int = 0) -> TableScorer:
    return TableScorer(np.random.default_rng(seed).random((len(dataset.users), len(dataset.items))))


@pytest.mark.parametrize("threads", [1, 3])
def test_sampled_ranking_by_hand(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_SCORES_AT_ONCE", 100)
    dataset = planted()
    scorer, workers = random_scorer(dataset), Workers(threads)
    result = evaluate_sampled(scorer, dataset.test, RULES, workers)
    workers.close()
    hits = []
    for user, candidates in zip(dataset.test.user_rows, dataset.test.candidates, strict=True):
        scores = scorer.scores.numpy()[user, candidates]
        hits.append(float((scores[1:] > scores[0]).sum() < 10))
    assert result.values["hr@10"].tolist() == hits
    assert result.means["hr@10"] == pytest.approx(np.mean(hits))
    low, high = result.intervals["hr@10"]
    assert low <= result.means["hr@10"] <= high


@pytest.mark.parametrize("at_once", [1, 500, 10**7])
def test_full_ranking_by_hand(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_CATALOGUE_SCORES_AT_ONCE", at_once)
    dataset = planted(users=60)
    scorer = random_scorer(dataset)
    result = evaluate_full(scorer, dataset, dataset.test, RULES, ONE)
    shown, hits = set(), []
    for user, positive in zip(dataset.test.user_rows, dataset.test.positives, strict=True):
        scores = scorer.scores.numpy()[user].copy()
        known = [item for item in dataset.known.row(user) if item != positive]
        scores[known] = -np.inf
        order = np.argsort(-scores)
        shown |= set(order[:10].tolist())
        hits.append(float(positive in order[:10]))
    assert sorted(result.values["hr@10"].tolist()) == sorted(hits)
    assert result.catalogue["coverage@10"] == pytest.approx(len(shown) / len(dataset.items))


def test_a_perfect_and_a_constant_scorer() -> None:
    dataset = checkerboard()
    colours = (np.arange(40)[:, None] % 2 == np.arange(30)[None] % 2).astype(np.float64)
    perfect = TableScorer(colours)
    assert evaluate_sampled(perfect, dataset.test, RULES, ONE).means["hr@1"] == 1.0
    constant = evaluate_sampled(TableScorer(np.zeros((40, 30))), dataset.test, RULES, ONE)
    assert constant.means["hr@1"] == pytest.approx(1 / 16)


def test_full_ranking_masks_everything_else_that_is_known() -> None:
    train = [(0, 0), (0, 1), (1, 2)]
    dataset = dataset_of(train, 2, 5, test=[(0, [2, 3])], validation=[(0, [4, 3])])
    scorer = TableScorer(np.array([[9.0, 8.0, 1.0, 0.0, 7.0], [0.0] * 5]))
    assert evaluate_full(scorer, dataset, dataset.test, RULES, ONE).means["hr@1"] == 1.0


def test_several_positives_of_a_user_make_a_recall() -> None:
    test = [(0, [1, 2]), (0, [3, 2])]
    dataset = dataset_of([(0, 0), (1, 1)], 2, 5, test=test)
    scorer = TableScorer(np.array([[0.0, 2.0, 1.0, 0.0, 0.0]] * 2))
    result = evaluate_sampled(scorer, dataset.test, RULES, ONE)
    assert result.values["hr@1"].tolist() == [1.0, 0.0]
    assert result.values["recall@1"].tolist() == [0.5]


def test_scores_that_are_nan_are_counted() -> None:
    dataset = checkerboard()
    scores = np.zeros((40, 30))
    scores[3] = np.nan
    assert evaluate_sampled(TableScorer(scores), dataset.test, RULES, ONE).nonnumbers == 1


def test_popularity_bias_is_one_when_items_are_shown_as_they_are_used() -> None:
    popularity = np.array([4, 2, 1, 0])
    figures = ranking.catalogue_figures(shown=popularity * 10, popularity=popularity, depth=10)
    assert (figures["coverage@10"], figures["popularity_bias@10"]) == (0.75, pytest.approx(1.0))
    assert ranking.catalogue_figures(np.array([9, 0, 0, 0]), popularity, 10)["popularity_bias@10"] > 1.0


def test_novelty_is_the_mean_self_information_of_what_is_shown() -> None:
    popularity = np.array([4, 2, 1, 1, 0])
    novelty = [
        ranking.catalogue_figures(np.array(shown), popularity, 10)["novelty@10"]
        for shown in ([3, 0, 0, 0, 0], [1, 1, 0, 2, 0], [0, 0, 0, 0, 5])
    ]
    assert novelty == pytest.approx([1.0, (1 + 2 + 3 + 3) / 4, 3.0])


def test_nothing_held_out_gives_an_empty_result() -> None:
    result = evaluate_sampled(ModelScorer(model_of()), HeldOut.empty(9), RULES, ONE)
    assert result.means == {}
    assert result.to_json()["rows"] == 0


def test_a_cutoff_that_no_list_can_miss_is_marked() -> None:
    dataset = checkerboard()  # lists of 16 items
    scorer = TableScorer(np.zeros((40, 30)))
    rules = EvaluationConfig(cutoffs=(10, 15, 16, 20), bootstrap=0)
    result = evaluate_sampled(scorer, dataset.test, rules, ONE)
    assert result.cannot_miss == (16, 20)
    assert result.means["hr@15"] < 1.0 == result.means["hr@16"] == result.means["recall@20"]
    assert result.to_json()["cannot_miss"] == [16, 20]
    assert result.to_json()["longest_list"] == result.longest == 16
    assert "cannot_miss" not in evaluate_sampled(scorer, HeldOut.empty(), rules, ONE).to_json()
    full = evaluate_full(scorer, dataset, dataset.test, rules, ONE)
    assert full.cannot_miss == (16, 20)  # the other 14 of 30 items are known
    assert full.means["hr@15"] < 1.0 == full.means["hr@16"]
