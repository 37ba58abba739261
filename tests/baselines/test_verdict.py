"""The verdict: the same figures as a slow computation, and a warning for a model that is not ahead."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ncf.baselines import verdict
from ncf.baselines.verdict import Verdict, judge
from ncf.config import EvaluationConfig
from ncf.data import Dataset, HeldOut
from ncf.evaluation import evaluate_full, evaluate_sampled
from ncf.evaluation.slices import sorted_by_user
from ncf.evaluation.top_k import evaluate_top_k
from ncf.runtime import Workers
from support import planted

RULES = EvaluationConfig(cutoffs=(1, 10), bootstrap=0)
POOL = Workers(1)


class Fixed:
    """A model with these scores [U, I]."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = torch.from_numpy(scores.astype(np.float32))

    def __call__(self, users: Tensor, items: Tensor) -> Tensor:
        return self.scores[users[:, None], items]

    def catalogue(self, users: Tensor) -> Tensor:
        return self.scores[users].clone()


@pytest.fixture(scope="module")
def data() -> Dataset:
    return planted(60, 50, each=12)


def used(data: Dataset) -> np.ndarray:
    """[U, I]: one where training has the pair."""
    table = np.zeros((len(data.users), len(data.items)))
    table[data.train.user_rows, data.train.item_rows] = 1.0
    return table


def popular(data: Dataset) -> np.ndarray:
    return np.tile(used(data).sum(0), (len(data.users), 1))


def judged(data: Dataset, scores: np.ndarray, rules: EvaluationConfig = RULES, **more: Any) -> Verdict:
    made = judge(Fixed(scores), data.seen_in_training, data, "test", rules, POOL, **more)
    assert made is not None
    return made


def slow_hit_ratios(data: Dataset, scores: np.ndarray, rows: HeldOut | None = None) -> tuple[float, float]:
    """HR@10 in the lists and in the full ranking, a row and an item at a time, a tie counted in part."""
    rows = data.test if rows is None else rows
    known = [set(data.known.row(user)) for user in range(len(data.users))]
    hits = []
    for user, listed in zip(rows.user_rows, rows.candidates, strict=True):
        everything = [item for item in range(len(data.items)) if item not in known[user]]
        for others in (listed[1:], everything):
            own = scores[user, listed[0]]
            above = sum(scores[user, item] > own for item in others)
            tied = sum(scores[user, item] == own for item in others)
            hits.append(np.clip((10 - above) / (tied + 1), 0.0, 1.0))
    return float(np.mean(hits[::2])), float(np.mean(hits[1::2]))


def test_the_figures_are_those_of_a_slow_computation(data: Dataset) -> None:
    table = used(data)
    inverse = np.linalg.inv(table.T @ table + 1000.0 * np.eye(table.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    random = np.random.default_rng(0).normal(size=table.shape)
    made = judged(data, random)
    scores = {"model": random, "popularity": popular(data), "closed_form": table @ weights}
    for name, of in scores.items():
        got = [made.standings[protocol].means[name]["hr@10"] for protocol in ("sampled", "full")]
        assert got == pytest.approx(slow_hit_ratios(data, of), abs=1e-9), name
    shown = [f"{made.standings['full'].means[name]['hr@10']:.3f}"[1:] for name in scores]
    assert made.line.endswith("full ranking {}; popularity {}, closed form {}.".format(*shown))
    assert made.to_json()["line"].startswith("HR@10 .")


def test_a_model_behind_popularity_is_warned_about_and_one_that_knows_the_answers_is_not(
    data: Dataset,
) -> None:
    bad = judged(data, -popular(data))
    assert not bad.beats
    assert "The model does not beat popularity in the candidate lists (." in bad.warning
    assert " the closed form in the full ranking (." in bad.warning
    answers = np.zeros((len(data.users), len(data.items)))
    answers[data.test.user_rows, data.test.positives] = 1.0
    good = judged(data, answers)
    assert good.beats
    assert good.to_json()["warning"] is None
    assert good.line.startswith("HR@10 1.000; popularity .")
    assert good.standings["full"].p_values["popularity"] < 0.01


def test_a_model_that_ties_with_popularity_does_not_beat_it(data: Dataset) -> None:
    tied = judged(data, popular(data))
    assert [standing.unbeaten("hr@10")[0] for standing in tied.standings.values()] == ["popularity"] * 2
    assert tied.standings["sampled"].p_values["popularity"] == 1.0


def test_given_rankings_are_used_as_they_are(data: Dataset) -> None:
    scores = np.random.default_rng(1).normal(size=(len(data.users), len(data.items)))
    rows = sorted_by_user(data.test)
    results = {
        "sampled": (data.test, evaluate_sampled(Fixed(scores), data.test, RULES, POOL)),
        "full": (rows, evaluate_full(Fixed(scores), data, rows, RULES, POOL)),
    }
    assert judged(data, scores, results=results) == judged(data, scores)
    lists = judge(None, data.seen_in_training, data, "test", RULES, POOL, {"sampled": results["sampled"]})
    assert lists is not None
    assert list(lists.standings) == ["sampled"]
    assert "full ranking" not in lists.line


def test_of_many_rows_a_sample_is_compared_and_the_line_says_so(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = np.random.default_rng(2).normal(size=(len(data.users), len(data.items)))
    monkeypatch.setattr(verdict, "_LEAST_ROWS", 5)
    cost = verdict._GATHERING_COST + data.seen_in_training.counts.mean()
    monkeypatch.setattr(verdict, "_LIST_COST", 20.5 * cost * len(data.items))
    cost = verdict._MULTIPLICATIONS
    few = judged(data, scores, multiplications=cost)
    assert few == judged(data, scores, multiplications=cost)
    assert few.line.startswith("HR@10 (20 of 60 rows) .")
    assert "full ranking (5 of 60 rows) ." in few.line
    rows = sorted_by_user(data.test).take(verdict.sample(60, 20))
    assert few.standings["sampled"].means["model"]["hr@10"] == pytest.approx(
        slow_hit_ratios(data, scores, rows)[0]
    )
    results = {"sampled": (data.test, evaluate_sampled(Fixed(scores), data.test, RULES, POOL))}
    assert judged(data, scores, results=results, multiplications=cost) == few


def test_without_a_closed_form_the_line_says_why(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "free_memory", lambda: 0)
    poor = judged(data, popular(data))
    assert poor.line.endswith("No closed form: it needs 0.0 GiB of memory.")
    assert list(poor.standings["full"].means) == ["model", "popularity"]


def test_other_cutoffs_and_no_rows(data: Dataset) -> None:
    made = judged(data, popular(data), EvaluationConfig(cutoffs=(2, 5), bootstrap=0))
    assert made.metric == "hr@5"
    assert made.line.startswith("HR@5 .")
    short = replace(data, test=replace(data.test, candidates=data.test.candidates[:, :8]))
    assert judged(short, popular(data)).metric == "hr@1", "everybody hits among 8 items at 10"
    nothing = replace(data, test=HeldOut.empty(3))
    assert judge(Fixed(popular(data)), data.seen_in_training, nothing, "test", RULES, POOL) is None


def test_without_lists_recall_in_the_full_ranking_decides(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = replace(
        data,
        test=replace(data.test, candidates=data.test.candidates[:, :1]),
        validation=HeldOut.empty(),
    )
    rules = EvaluationConfig(cutoffs=(10, 20), bootstrap=0)
    scores = np.random.default_rng(3).normal(size=(len(data.users), len(data.items)))
    made = judged(bare, scores, rules)
    assert made.line.startswith("Recall@20 .")
    assert list(made.standings) == ["full"]
    own = evaluate_top_k(Fixed(popular(bare)), bare, "test", rules, POOL)
    assert made.standings["full"].means["popularity"]["recall@20"] == own.means["recall@20"]
    given = {"full": (sorted_by_user(bare.test), evaluate_top_k(Fixed(scores), bare, "test", rules, POOL))}
    assert judged(bare, scores, rules, results=given) == made
    monkeypatch.setattr(verdict, "_LEAST_ROWS", 5)
    few = judged(bare, scores, rules, multiplications=verdict._MULTIPLICATIONS)
    assert few.line.startswith("Recall@20 (5 of 60 users) .")
    assert few == judged(bare, scores, rules, multiplications=verdict._MULTIPLICATIONS, results=given)
