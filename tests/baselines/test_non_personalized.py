"""Popularity is the same for all users; random scores are uniform and depend on (seed, user, item) alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ncf.baselines import BASELINES
from ncf.baselines.non_personalized import PopularityScorer, RandomScorer
from ncf.config import EvaluationConfig
from ncf.errors import ConfigError
from ncf.evaluation import evaluate_sampled
from ncf.runtime import Workers
from support import csr_of, planted


def test_scores_are_uniform() -> None:
    scores = RandomScorer(1000, 0).catalogue(torch.arange(200)).numpy()
    assert scores.dtype == np.float32
    assert (scores >= 0).all()
    assert (scores < 1).all()
    shares = np.histogram(scores, bins=20, range=(0, 1))[0] / scores.size
    assert abs(shares - 0.05).max() < 0.003
    assert abs(np.corrcoef(scores)[np.triu_indices(200, 1)]).mean() < 0.04
    assert abs(np.corrcoef(scores.T[:200])[np.triu_indices(200, 1)]).mean() < 0.08


def test_a_larger_catalogue_scores_the_old_items_the_same() -> None:
    users = torch.tensor([5, 2**40])
    assert torch.equal(RandomScorer(10, 3).catalogue(users), RandomScorer(99, 3).catalogue(users)[:, :10])


def test_it_is_as_good_as_guessing() -> None:
    dataset = planted(users=2000)
    rules = EvaluationConfig(cutoffs=(10,), bootstrap=0)
    result = evaluate_sampled(RandomScorer(120, 0), dataset.test, rules, Workers(1))
    assert abs(result.means["hr@10"] - 10 / 31) < 0.04


def test_popularity_adds_weights() -> None:
    train = replace(csr_of([[0, 1], [1, 2], [1]]), weights=np.array([8, 1, 2, 0, 4], np.float32))
    scores = BASELINES["popularity"].fit(train, 4, {}, 0, Workers(1)).catalogue(torch.arange(1))
    torch.testing.assert_close(scores, torch.tensor([[8.0, 7.0, 0.0, 0.0]]) / 3.0)


def test_what_is_trending_comes_first_and_of_equal_items_the_more_popular() -> None:
    day = 86_400
    ages = np.array([0, 9, 1, 8, 6, 9, 9, 9, 9], np.int64) * day
    train = csr_of([[0, 1, 2], [0, 2, 4], [1, 3, 4]])
    timed = replace(train, timestamps=1_700_000_000 - ages)
    # Within 7 days item 0 was used once and item 2 twice.
    lately = np.bincount(train.columns[ages < 7 * day], minlength=6)
    scores = BASELINES["trending"].fit(timed, 6, {}, 0, Workers(1)).catalogue(torch.arange(1))[0]
    order = sorted(range(6), key=lambda item: (-lately[item], -np.bincount(train.columns, minlength=6)[item]))
    assert scores[order].tolist() == sorted(scores.tolist(), reverse=True)
    assert (scores[0] < scores[2], scores[1] == scores[4], scores[3] < scores[1]) == (True, True, True)
    whole = BASELINES["trending"].fit(timed, 6, {"window_days": 99}, 0, Workers(1)).catalogue(torch.arange(1))
    popular = BASELINES["popularity"].fit(timed, 6, {}, 0, Workers(1)).catalogue(torch.arange(1))
    assert torch.equal(whole.argsort(stable=True), popular.argsort(stable=True))
    with pytest.raises(ConfigError, match=r"Trending needs times, .* have: leave it out \(--skip trending\)"):
        BASELINES["trending"].fit(train, 6, {}, 0, Workers(1))


def test_popularity_scores_all_users_alike() -> None:
    popular = PopularityScorer(np.array([1, 1, 1, 1]))
    assert popular(torch.tensor([0, 1]), torch.tensor([[0, 1], [2, 3]])).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert popular.catalogue(torch.tensor([0, 1])).shape == (2, 4)
    assert popular.bytes == 16
