"""What every baseline must do, whatever it is made of: one class, run for each of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ncf.baselines import BASELINES, FittedBaseline
from ncf.config import EvaluationConfig
from ncf.data import Dataset
from ncf.errors import ConfigError
from ncf.evaluation import evaluate_full, evaluate_sampled
from ncf.runtime import Workers, workers
from support import checkerboard, csr_of, planted

RULES = EvaluationConfig(cutoffs=(1, 10), bootstrap=0)
SMALL = {
    "item-knn": {"neighbours": 20, "shrink": 5},
    "user-knn": {"neighbours": 20, "shrink": 5},
    "ials": {"factors": 8, "unobserved_weight": 0.1, "l2": 0.01, "iterations": 8},
    "bpr": {"factors": 8, "learning_rate": 0.1, "l2": 0.001, "iterations": 80},
    "ease": {"l2": 20},
}
"""Settings for data of a few hundred interactions."""
PERSONAL = sorted(SMALL)


def fitted(name: str, dataset: Dataset, seed: int = 0, threads: int = 1) -> FittedBaseline:
    seen = dataset.seen_in_training
    times = 1_700_000_000 + 86_400 * np.arange(len(seen.columns)) if BASELINES[name].timed else None
    with workers(threads) as pool:
        return BASELINES[name].fit(
            replace(seen, timestamps=times), len(dataset.items), SMALL.get(name, {}), seed, pool
        )


def catalogue_of(scorer: FittedBaseline, users: int) -> torch.Tensor:
    return scorer.catalogue(torch.arange(users))


@pytest.mark.parametrize("name", PERSONAL)
class TestPersonalBaseline:
    def test_learns_the_checkerboard(self, name: str) -> None:
        """Held-out items are of the user's colour, all other candidates of the other: the right rank is 1."""
        dataset = checkerboard()
        result = evaluate_sampled(fitted(name, dataset), dataset.test, RULES, Workers(1))
        assert result.means["hr@1"] == 1.0

    def test_finds_planted_factors(self, name: str) -> None:
        """Far above popularity, which finds hardly more than chance (10 of 31) in these lists."""
        dataset = planted()
        result = evaluate_sampled(fitted(name, dataset), dataset.test, RULES, Workers(1))
        assert result.means["hr@10"] > 0.75

    def test_a_user_without_history_has_equal_scores(self, name: str) -> None:
        train = csr_of([[0, 1, 2], [], [1, 2, 3], [0, 3], []])
        with workers(1) as pool:
            scorer = BASELINES[name].fit(train, 6, SMALL[name], 0, pool)
        scores = catalogue_of(scorer, 5)
        assert scores[[1, 4]].unique().tolist() == [0.0]
        assert len(scores[0].unique()) > 1

    def test_an_item_that_nobody_used_has_a_number(self, name: str) -> None:
        with workers(1) as pool:
            scorer = BASELINES[name].fit(csr_of([[0, 1], [1, 2], [0, 2]]), 5, SMALL[name], 0, pool)
        assert bool(catalogue_of(scorer, 3).isfinite().all())


@pytest.mark.parametrize("name", sorted(BASELINES))
class TestBaselineContract:
    def test_equal_weights_change_nothing_and_what_does_not_know_them_refuses(self, name: str) -> None:
        dataset, baseline = checkerboard(), BASELINES[name]
        equal = replace(dataset, train=replace(dataset.train, weights=np.full(len(dataset.train), 2.5, "f4")))
        if not baseline.weighs:
            with pytest.raises(ConfigError, match=rf"does not know the weights .*\(--skip {name}\)"):
                fitted(name, equal)
            return
        scores = catalogue_of(fitted(name, equal), 40)
        torch.testing.assert_close(scores, catalogue_of(fitted(name, dataset), 40), rtol=1e-6, atol=1e-6)

    def test_scores_are_float32_of_the_shapes_asked_for(self, name: str) -> None:
        scorer = fitted(name, checkerboard())
        for size in (0, 1, 7):
            users = torch.arange(size)
            rows, pairs = scorer.catalogue(users), scorer(users, torch.zeros(size, 3, dtype=torch.int64))
            assert (rows.shape, rows.dtype) == ((size, 30), torch.float32)
            assert (pairs.shape, pairs.dtype) == ((size, 3), torch.float32)

    def test_pairs_agree_with_the_catalogue(self, name: str) -> None:
        """Users in any order and more than once."""
        scorer = fitted(name, planted())
        random = np.random.default_rng(0)
        users = torch.from_numpy(random.integers(0, 300, 50))
        items = torch.from_numpy(random.integers(0, 120, (50, 9)))
        torch.testing.assert_close(
            scorer(users, items), scorer.catalogue(users).gather(1, items), rtol=1e-5, atol=1e-6
        )

    def test_the_rows_of_the_catalogue_belong_to_the_caller(self, name: str) -> None:
        scorer = fitted(name, checkerboard())
        before = catalogue_of(scorer, 3).clone()
        catalogue_of(scorer, 3).fill_(-torch.inf)
        assert torch.equal(catalogue_of(scorer, 3), before)

    def test_the_fit_follows_from_the_seed(self, name: str) -> None:
        first, again, other = (catalogue_of(fitted(name, planted(), seed), 300) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert torch.equal(first, other) != BASELINES[name].seeded

    def test_two_threads_fit_what_one_does(self, name: str) -> None:
        one, two = (catalogue_of(fitted(name, planted(), threads=threads), 300) for threads in (1, 2))
        assert torch.equal(one, two)

    def test_it_is_evaluated_among_all_items(self, name: str) -> None:
        dataset = planted()
        result = evaluate_full(fitted(name, dataset), dataset, dataset.test, RULES, Workers(1))
        assert result.nonnumbers == 0
        assert 0.0 < result.catalogue["coverage@10"] <= 1.0

    def test_its_size_is_known(self, name: str) -> None:
        assert fitted(name, checkerboard()).bytes > 0

    def test_defaults_and_space_are_settings_that_it_admits(self, name: str) -> None:
        baseline = BASELINES[name]
        assert baseline.name == name
        assert baseline.title
        assert baseline.source
        assert baseline.settings({}) == dict(baseline.defaults)
        assert set(baseline.space) <= set(baseline.defaults)
        for setting, entry in baseline.space.items():
            for value in entry.get("values", [entry.get("low"), entry.get("high")]):
                assert baseline.settings({setting: value})[setting] == value

    def test_what_is_no_setting_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"has no setting 'colour': it has "):
            BASELINES[name].settings({"colour": 1})
        for setting, default in BASELINES[name].defaults.items():
            for value in (-1, float("nan"), "x", True, *((0, 1.5) if isinstance(default, int) else ())):
                with pytest.raises(ConfigError, match=rf"^{setting} = .* is not valid for .*: give a"):
                    BASELINES[name].settings({setting: value})
