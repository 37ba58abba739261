"""BPR against the library called by hand, and a rate at which it diverges."""

import pytest
import torch

from ncf.baselines import BASELINES
from ncf.baselines.base import sparse_rows
from ncf.errors import ConfigError
from ncf.runtime import Workers, seed_of
from support import planted

library = pytest.importorskip("implicit.cpu.bpr")
SETTINGS = {"factors": 8, "learning_rate": 0.1, "l2": 0.001, "iterations": 10}


def test_scores_are_those_of_the_library() -> None:
    train = planted().seen_in_training
    by_hand = library.BayesianPersonalizedRanking(
        8, 0.1, 0.001, iterations=10, num_threads=1, random_state=seed_of(3, "bpr")
    )
    by_hand.fit(sparse_rows(train, 120), show_progress=False)
    items, scores = by_hand.recommend(7, None, N=120, filter_already_liked_items=False)
    ours = BASELINES["bpr"].fit(train, 120, SETTINGS, 3, Workers(2)).catalogue(torch.tensor([7]))[0]
    torch.testing.assert_close(ours[torch.from_numpy(items).long()], torch.from_numpy(scores))


def test_a_rate_that_diverges_is_named() -> None:
    with pytest.raises(ConfigError, match=r"BPR diverged with learning_rate = 1e\+06: lower it"):
        BASELINES["bpr"].fit(
            planted().seen_in_training, 120, SETTINGS | {"learning_rate": 1e6}, 0, Workers(1)
        )
