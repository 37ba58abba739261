"""Popularity is the same for all users; random scores are uniform and depend on (seed, user, item) alone."""

from dataclasses import replace

import numpy as np
import torch

from ncf.baselines import BASELINES
from ncf.baselines.non_personalized import PopularityScorer, RandomScorer
from ncf.config import EvaluationConfig
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


def test_popularity_scores_all_users_alike() -> None:
    popular = PopularityScorer(np.array([1, 1, 1, 1]))
    assert popular(torch.tensor([0, 1]), torch.tensor([[0, 1], [2, 3]])).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert popular.catalogue(torch.tensor([0, 1])).shape == (2, 4)
    assert popular.bytes == 16
