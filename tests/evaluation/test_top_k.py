"""The full ranking of users with several held-out items, against a slow version and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.baselines.non_personalized import PopularityScorer
from ncf.config import EvaluationConfig
from ncf.data import Dataset
from ncf.errors import ConfigError, DataError
from ncf.evaluation import evaluate_full, evaluate_held_out, evaluate_sampled, top_k
from ncf.evaluation.top_k import evaluate_top_k
from ncf.runtime import Workers
from support import TableScorer, dataset_of

ONE = Workers(1)


def rules(cutoffs: tuple[int, ...] = (1, 3), ties: str = "expected", bootstrap: int = 0) -> EvaluationConfig:
    return EvaluationConfig(cutoffs=cutoffs, ties=ties, bootstrap=bootstrap)


def several(sets: dict[int, tuple[list[int], list[int], list[int]]], users: int, items: int) -> Dataset:
    """From the training, validation and test items of each user, without lists."""
    train = [(user, item) for user, (own, _, _) in sets.items() for item in own]
    validation = [(user, [item]) for user, (_, own, _) in sets.items() for item in own]
    test = [(user, [item]) for user, (_, _, own) in sets.items() for item in own]
    dataset = dataset_of(train, users, items, test, validation)
    assert not dataset.test.has_lists
    return dataset


def slowly(
    scores: np.ndarray, before: set[int], held_out: set[int], k: int, ties: str
) -> tuple[float, float]:
    """Recall and NDCG at `k` of one user: the mean over many orders of the tied items, or the worst or best.

    Each order is written down as a list, of which the first `k` are looked at.
    """
    ranked = [item for item in range(len(scores)) if item not in before]
    random = np.random.default_rng(0)
    orders = 1 if ties != "expected" or len({scores[item] for item in ranked}) == len(ranked) else 4000
    recalls, ndcgs = [], []
    for _ in range(orders):
        among_ties = random.random(len(scores))
        if ties != "expected":
            among_ties = np.array(
                [(item in held_out) == (ties == "pessimistic") for item in range(len(scores))]
            )
        first = sorted(ranked, key=lambda item: (-scores[item], among_ties[item]))[:k]
        hits = [item in held_out for item in first]
        recalls.append(sum(hits) / len(held_out))
        gain = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
        ndcgs.append(gain / sum(1 / math.log2(place + 2) for place in range(min(k, len(held_out)))))
    return float(np.mean(recalls)), float(np.mean(ndcgs))


@st.composite
def tables(draw: st.DrawFn) -> tuple[Dataset, np.ndarray]:
    """Up to 5 users with up to 8 items, each in one set or in none; scores with many ties or with none."""
    users, items = draw(st.integers(1, 5)), draw(st.integers(2, 8))
    sets = {}
    for user in range(users):
        where = draw(st.lists(st.integers(0, 3), min_size=items, max_size=items))
        sets[user] = tuple([item for item in range(items) if where[item] == part] for part in (1, 2, 3))
    sets[0] = (sets[0][0], sets[0][1], sets[0][2] or sets[0][0][:1] or [0])
    sets[0] = (*([item for item in own if item not in sets[0][2]] for own in sets[0][:2]), sets[0][2])
    levels = draw(st.sampled_from([2, 3, 10_000]))
    scores = np.random.default_rng(draw(st.integers(0, 99))).integers(0, levels, (users, items))
    return several(sets, users, items), scores.astype(np.float64)


@given(tables(), st.integers(1, 9), st.sampled_from(["pessimistic", "optimistic", "expected"]))
def test_as_a_slow_version_has_it(table: tuple[Dataset, np.ndarray], k: int, ties: str) -> None:
    dataset, scores = table
    result = evaluate_top_k(TableScorer(scores), dataset, "test", rules((k,), ties), ONE)
    before = dataset.seen_before("test")
    for place, user in enumerate(result.user_rows.tolist()):
        held_out = set(dataset.test.positives[dataset.test.user_rows == user].tolist())
        wanted = slowly(scores[user], set(before.row(user).tolist()), held_out, k, ties)
        values = [result.values[f"{name}@{k}"][place] for name in ("recall", "ndcg")]
        assert values == pytest.approx(wanted, abs=0.05 if ties == "expected" else 1e-9)


def example() -> tuple[Dataset, TableScorer]:
    """Item 0 is used and 1 is validation; of the rest, best first, 5, 2, 4, 3, the test holds 2, 3 and 5."""
    dataset = several({0: ([0], [1], [2, 3, 5])}, 1, 6)
    return dataset, TableScorer(np.array([[9.0, 8.0, 3.0, 1.0, 2.0, 4.0]]))


def test_one_user_by_hand() -> None:
    dataset, scorer = example()
    result = evaluate_top_k(scorer, dataset, "test", rules((1, 3)), ONE)
    assert result.means["recall@1"] == pytest.approx(1 / 3)
    assert result.means["recall@3"] == pytest.approx(2 / 3)
    assert result.means["ndcg@1"] == 1.0
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    assert result.means["ndcg@3"] == pytest.approx((1 + second) / (1 + second + third))
    assert result.to_json()["rows"] == 1


def test_validation_is_ranked_among_test_items_too() -> None:
    dataset, scorer = example()
    assert evaluate_top_k(scorer, dataset, "validation", rules((1,)), ONE).means["recall@1"] == 1.0
    scorer.scores[0, 1] = 3.5  # item 5 of the test comes first
    result = evaluate_top_k(scorer, dataset, "validation", rules((1, 2)), ONE)
    assert (result.means["recall@1"], result.means["recall@2"]) == (0.0, 1.0)


def random_table(users: int = 40, items: int = 60) -> tuple[Dataset, np.ndarray]:
    random = np.random.default_rng(5)
    sets = {}
    for user in range(users):
        own = random.permutation(items)[: random.integers(6, 20)].tolist()
        sets[user] = (own[5:], own[:2], own[2:5])
    return several(sets, users, items), random.integers(0, 30, (users, items)).astype(np.float64)


@pytest.mark.parametrize(("at_once", "threads"), [(1, 1), (700, 3), (10**7, 2)])
def test_blocks_and_threads_change_nothing(
    at_once: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, scores = random_table()
    whole = evaluate_top_k(TableScorer(scores), dataset, "test", rules((5, 10), bootstrap=20), ONE)
    monkeypatch.setattr(top_k, "_SCORES_AT_ONCE", at_once)
    workers = Workers(threads)
    parts = evaluate_top_k(TableScorer(scores), dataset, "test", rules((5, 10), bootstrap=20), workers)
    workers.close()
    assert whole.to_json() == parts.to_json()


def test_a_sample_of_users_is_the_same_in_every_call() -> None:
    dataset, scores = random_table()
    whole = evaluate_top_k(TableScorer(scores), dataset, "test", rules((5,)), ONE)
    parts = [
        evaluate_top_k(TableScorer(scores), dataset, "test", rules((5,)), ONE, most_users=7) for _ in range(2)
    ]
    assert parts[0].to_json() == parts[1].to_json()
    at = np.searchsorted(whole.user_rows, parts[0].user_rows)
    assert len(at) == 7
    for name, values in parts[0].values.items():
        assert values.tolist() == whole.values[name][at].tolist()
    every = evaluate_top_k(TableScorer(scores), dataset, "test", rules((5,)), ONE, most_users=40)
    assert every.to_json() == whole.to_json()


def test_with_one_item_a_user_it_is_the_full_ranking_of_lists() -> None:
    random = np.random.default_rng(2)
    rows = [random.permutation(20)[:6].tolist() for _ in range(12)]
    lists = [(user, [own[0], own[4]]) for user, own in enumerate(rows)]
    train = [(user, item) for user, own in enumerate(rows) for item in own[1:4]]
    scores = random.integers(0, 12, (12, 20)).astype(np.float64)
    dataset = dataset_of(train, 12, 20, lists)
    old = evaluate_full(TableScorer(scores), dataset, dataset.test, rules((3,)), ONE)
    new = evaluate_top_k(TableScorer(scores), dataset, "test", rules((3,)), ONE)
    assert new.values["recall@3"].tolist() == old.values["hr@3"].tolist()
    assert new.values["ndcg@3"] == pytest.approx(old.values["ndcg@3"])
    assert new.catalogue == old.catalogue


def test_nan_ranks_last_and_is_counted() -> None:
    dataset, scorer = example()
    scorer.scores[0, 5] = np.nan
    scorer.scores[0, 4] = -np.inf
    result = evaluate_top_k(scorer, dataset, "test", rules((1, 2, 3)), ONE)
    assert result.nonnumbers == 1
    assert result.means["recall@2"] == pytest.approx(2 / 3)
    assert result.means["recall@3"] == pytest.approx(2 / 3 + 1 / 6)  # items 4 and 5 tie


def cold_table() -> tuple[Dataset, TableScorer]:
    """User 1 occurs in the test only; item 2 is the most used."""
    dataset = several({0: ([2, 3], [], [1]), 1: ([], [], [2, 0]), 2: ([2], [], [0])}, 3, 5)
    return dataset, TableScorer(np.array([[0.0, 1, 0, 0, 0]] * 3))


def test_cold_users_are_answered_by_popularity_and_counted() -> None:
    dataset, scorer = cold_table()
    result = evaluate_held_out(scorer, dataset, "test", rules((1,), bootstrap=10), ONE)
    assert result.values["recall@1"].tolist() == [1.0, 0.5, 0.0]
    document = result.to_json()
    assert document["cold_users"] == 1
    assert document["without_cold_users"] == {"recall@1": 0.5, "ndcg@1": 0.5}


def test_cold_users_of_candidate_lists() -> None:
    test = [(0, [1, 0]), (1, [2, 1])]
    dataset = dataset_of([(0, 2), (0, 3)], 2, 4, test)
    result = evaluate_held_out(TableScorer(np.array([[0.0, 1, 0, 0]] * 2)), dataset, "test", rules((1,)), ONE)
    assert result.values["hr@1"].tolist() == [1.0, 1.0]
    assert result.cold_users == 1
    assert set(result.without_cold_users) == {"hr@1", "ndcg@1", "recall@1", "mrr"}
    known = dataset_of([(0, 2), (1, 3)], 2, 4, test)
    result = evaluate_held_out(TableScorer(np.zeros((2, 4))), known, "test", rules((1,)), ONE)
    assert "cold_users" not in result.to_json()


def test_baselines_are_evaluated_alike() -> None:
    dataset, _ = random_table()
    result = evaluate_held_out(PopularityScorer(dataset.popularity), dataset, "test", rules((10,)), ONE)
    assert 0 < result.means["recall@10"] < 1


def test_what_needs_lists_says_so() -> None:
    dataset, scorer = example()
    with pytest.raises(DataError, match="no candidate lists"):
        evaluate_sampled(scorer, dataset.test, rules(), ONE)
    with pytest.raises(ConfigError, match="Sharded tables"):
        evaluate_held_out(scorer, dataset, "test", rules(), ONE, in_step=True)


def test_a_cutoff_that_no_list_can_miss_is_marked() -> None:
    dataset, _ = example()
    result = evaluate_top_k(TableScorer(np.zeros((1, 6))), dataset, "test", rules((3, 4, 9)), ONE)
    assert result.cannot_miss == (4, 9)
    assert result.means["recall@3"] < 1.0 == result.means["recall@4"]
