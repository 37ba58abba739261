"""Three users: chosen by the seed, ranked as the full protocol ranks."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ncf.analysis.report.examples import choose, examples, section
from ncf.analysis.report.inputs import ReportInputs, open_report_inputs
from ncf.config import EvaluationConfig
from ncf.data import Dataset, HeldOut
from ncf.evaluation import evaluate_full, evaluate_sampled
from ncf.evaluation.ranking import Scorer
from ncf.models import ModelScorer
from ncf.runtime import workers
from reports import html


@pytest.fixture(scope="module")
def inputs(run: Path) -> ReportInputs:
    return open_report_inputs(run)


@pytest.fixture(scope="module")
def scorer(inputs: ReportInputs) -> Scorer:
    return ModelScorer(inputs.artifact.model)


def test_one_of_each_third_is_chosen_by_the_seed() -> None:
    counts = np.array([9, 1, 2, 3, 4, 5, 6, 7, 8])
    users = np.arange(9)
    chosen = choose(counts, users, 0)
    assert [level for level, _ in chosen] == ["low", "middle", "high"]
    assert [counts[user] <= limit for (_, user), limit in zip(chosen, (3, 6, 9), strict=True)] == [True] * 3
    assert chosen == choose(counts, users[::-1], 0)
    assert len({tuple(choose(counts, users, seed)) for seed in range(10)}) > 1
    assert [level for level, _ in choose(counts, users[:2], 0)] == ["low", "middle"]
    assert choose(counts, users[:0], 0) == []


def test_places_and_recommendations_are_those_of_the_protocol(
    inputs: ReportInputs, scorer: Scorer, dataset: Dataset
) -> None:
    rules = EvaluationConfig(cutoffs=(10,), bootstrap=0)
    for example in examples(inputs, scorer):
        row = dataset.test.user_rows == example.user
        own = HeldOut(dataset.test.user_rows[row], dataset.test.candidates[row])
        with workers(1) as pool:
            full = evaluate_full(scorer, dataset, own, rules, pool)
            sampled = evaluate_sampled(scorer, own, rules, pool)
        assert example.ranks is not None
        in_list, of_list, in_all, of_all = example.ranks
        assert 1 / in_list == pytest.approx(sampled.values["mrr"][0])
        assert 1 / in_all == pytest.approx(full.values["mrr"][0])
        assert (of_list, of_all) == (31, 60 - len(dataset.known.row(example.user)) + 1)
        assert (example.held_out in example.recommended) == (in_all <= 10)
        scores = scorer.catalogue(torch.tensor([example.user]))[0].numpy()
        hidden = set(dataset.known.row(example.user).tolist()) - {example.held_out}
        best = [item for item in np.argsort(-scores).tolist() if item not in hidden][:10]
        assert example.recommended == best


def test_what_was_used_is_of_the_users_training(
    inputs: ReportInputs, scorer: Scorer, dataset: Dataset
) -> None:
    for example in examples(inputs, scorer):
        assert set(example.used) <= set(dataset.seen_in_training.row(example.user).tolist())
        assert example.order == "the most popular"
        assert len(example.used) == 8


def test_with_times_the_latest_come_first(inputs: ReportInputs, scorer: Scorer, dataset: Dataset) -> None:
    times = np.random.default_rng(0).permutation(len(dataset.train)).astype(np.int64)
    timed = replace(inputs, dataset=replace(dataset, train=replace(dataset.train, timestamps=times)))
    for example in examples(timed, scorer):
        at = np.flatnonzero(dataset.train.user_rows == example.user)
        assert example.order == "the latest"
        assert example.used == dataset.train.item_rows[at[np.argsort(-times[at])]][:8].tolist()


def test_titles_are_shown_escaped_and_ids_where_there_are_none(inputs: ReportInputs, scorer: Scorer) -> None:
    assert "<script" not in html(section(inputs, scorer))
    untitled = replace(
        inputs, artifact=replace(inputs.artifact, item_columns=inputs.artifact.item_columns.drop("title"))
    )
    text = html(section(untitled, scorer))
    assert "The data have no titles, so items are named by their ids." in text
    assert ">500<" in text or ">5" in text


def test_without_data_the_artifact_tells_what_was_used(run: Path, scorer: Scorer, tmp_path: Path) -> None:
    shutil.copytree(run / "artifact", tmp_path / "model")
    alone = open_report_inputs(tmp_path / "model")
    shown = examples(alone, scorer)
    assert [example.ranks for example in shown] == [None] * 3
    for example in shown:
        known = set(alone.artifact.seen.row(example.user).tolist())
        assert set(example.used) <= known
        assert not known & set(example.recommended)
    text = html(section(alone, scorer))
    assert "The held-out item is not known without data." in text
    assert "12 known interactions, including those held out" in text
