"""A visitor of a history-aware model is a look-up: what training would have made of somebody without an own
vector.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf import experiment
from ncf.data import Dataset, Interactions
from ncf.models import History, freeze, history_branch
from ncf.serving.artifact import open_artifact
from ncf.serving.fold_in import FoldIn
from ncf.serving.history_embedding import HistoryEmbedding, last_of_each
from ncf.serving.numpy_model import NumpyModel
from ncf.serving.recommender import Recommender
from support import csr_of, model_of, planted
from support import experiment as small_experiment

KINDS = ["history-gmf", "history-neumf"]


def look_up(width: int = 8, items: int = 30) -> HistoryEmbedding:
    return HistoryEmbedding(np.random.default_rng(0).normal(size=(items + 2, width)).astype(np.float32), 0.5)


def test_shape_and_dtype() -> None:
    vector = look_up().vector(np.array([3, 4]))
    assert (vector.shape, vector.dtype) == ((8,), np.float32)
    assert not look_up().vector(np.array([], np.int64)).any()


@given(st.lists(st.integers(0, 29), min_size=1, max_size=30, unique=True), st.randoms(use_true_random=False))
def test_it_is_the_scaled_sum_in_any_order(history: list[int], random: object) -> None:
    found = look_up()
    slow = np.zeros(8)
    for item in history:
        slow += found.table_ID[item]
    np.testing.assert_allclose(
        found.vector(np.array(history)), slow / len(history) ** 0.5, rtol=1e-4, atol=1e-5
    )
    shuffled = sorted(history, key=lambda item: (item * 7919) % 31)
    np.testing.assert_allclose(
        found.vector(np.array(shuffled)), found.vector(np.array(history)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_visitor_has_the_vector_of_a_user_without_an_own_one(kind: str) -> None:
    """Where nobody has an own part, the first half's vector is what training made of a user with this
    history.
    """
    model = model_of(kind)
    half = history_branch(model)
    assert half is not None
    half.user_table.data.zero_()
    seen = csr_of([[2, 9, 17, 28], *[[user, user + 3] for user in range(19)]])
    half.attach(History.of(seen, 30))
    network = NumpyModel({name: value.numpy() for name, value in freeze(model).state_dict().items()})
    table = HistoryEmbedding(half.history_table.detach().numpy(), half.exponent)
    fold_in = FoldIn.build(network, seen, 0, table)
    vector = fold_in.vector(seen.row(0))
    np.testing.assert_allclose(vector[:8], half.users()[0].detach().numpy(), rtol=1e-4, atol=1e-5)


def test_own_parts_are_guessed_as_the_vectors_of_other_models_are() -> None:
    """With a table of zeros nothing can be looked up, and the map is the map of a model without a history."""
    model = model_of("history-gmf")
    half = history_branch(model)
    assert half is not None
    half.history_table.data.zero_()
    network = NumpyModel({name: value.numpy() for name, value in freeze(model).state_dict().items()})
    seen = csr_of([[user, (user * 7) % 30 if (user * 7) % 30 > user else user + 1] for user in range(20)])
    table = HistoryEmbedding(half.history_table.detach().numpy(), half.exponent)
    with_table, without = FoldIn.build(network, seen, 0, table), FoldIn.build(network, seen, 0)
    histories = [np.array([1, 8]), np.array([3]), seen.row(5)]
    np.testing.assert_allclose(
        with_table.vectors(histories), without.vectors(histories), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_user_is_moved_as_visitors_with_these_histories_differ(kind: str, tmp_path: Path) -> None:
    run = experiment.train(planted(), small_experiment(kind, epochs=5), tmp_path / "run")
    artifact = open_artifact(run.artifact)
    network = NumpyModel(artifact.weights)
    fold_in = artifact.fold_in(network)
    known, seen, new = network.user_vectors(np.array([4]))[0], artifact.seen.row(4), np.array([1, 5, 7])
    before, after = fold_in.vectors([seen, np.union1d(seen, new)])
    expected = known + (after - before)
    np.testing.assert_allclose(fold_in.updated(known, seen, new), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_artifact_answers_visitors_and_scores_as_the_model_did(kind: str, tmp_path: Path) -> None:
    dataset = planted()
    run = experiment.train(dataset, small_experiment(kind, epochs=15), tmp_path / "run")
    recommender = Recommender.open(run.artifact)
    history = dataset.items.ids[dataset.seen_in_training.row(3)].tolist()
    answer = recommender.recommend_visitor(history, k=5)
    assert answer.source == "fold_in"
    assert len(answer) == 5
    assert not set(answer.items) & set(history)
    user = dataset.users.ids[:1].tolist()
    scored = recommender.score(user * 30, dataset.items.ids[:30].tolist())
    model = open_artifact(run.artifact).model
    expected = model.catalogue(torch.tensor([0]))[0, :30].detach().numpy()
    np.testing.assert_allclose(scored, expected, rtol=1e-4, atol=1e-4)


def slow(found: HistoryEmbedding, used: list[tuple[int, int]]) -> np.ndarray:
    """From (item, time) pairs, item by item."""
    total, weight = np.zeros(found.table_ID.shape[1]), 0.0
    for item, time in used:
        counts = 0.5 ** (sum(other > time for _, other in used) / found.half_life)
        total, weight = total + counts * found.table_ID[item], weight + counts
    return total / max(1.0, weight) ** found.exponent


HISTORIES = st.lists(st.integers(0, 29), min_size=1, max_size=12, unique=True)


@given(HISTORIES)
def test_with_a_half_life_later_items_count_more(history: list[int]) -> None:
    found = replace(look_up(), half_life=2.0)
    vector = found.vector(np.array(history))
    assert (vector.shape, vector.dtype) == ((8,), np.float32)
    expected = slow(found, [(item, time) for time, item in enumerate(history)])
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)
    endless = replace(found, half_life=1e12).vector(np.array(history))
    np.testing.assert_allclose(endless, look_up().vector(np.array(history)), rtol=1e-4, atol=1e-5)


@given(HISTORIES, HISTORIES, st.lists(st.integers(0, 4), min_size=12, max_size=12))
def test_new_items_change_a_history_as_if_it_were_written_anew(
    seen: list[int], new: list[int], times: list[int]
) -> None:
    """Some of the new items were seen before, and some of the seen ones have equal times."""
    found, items = replace(look_up(), half_life=2.0), np.sort(np.array(seen))
    used = list(zip(items.tolist(), times, strict=False))
    ages = np.array([sum(other > time for _, other in used) for _, time in used], np.int32)
    later = [pair for pair in used if pair[0] not in new] + [
        (item, 5 + place) for place, item in enumerate(new)
    ]
    held_out = np.array([30, 31])  # known, but not in the trained history
    change = found.change(
        np.append(items, held_out), np.append(ages, [-1, -1]).astype(np.int32), np.array(new)
    )
    np.testing.assert_allclose(change, slow(found, later) - slow(found, used), rtol=1e-3, atol=1e-4)


@given(st.lists(st.integers(0, 9)))
def test_the_last_of_each_stays(rows: list[int]) -> None:
    found = last_of_each(np.array(rows, np.int64))
    slow_way: list[int] = []
    for row in reversed(rows):
        if row not in slow_way:
            slow_way.insert(0, row)
    assert found.tolist() == slow_way


def with_times() -> Dataset:
    dataset = planted()
    times = np.random.default_rng(0).integers(0, 200, len(dataset.train))
    train = Interactions(dataset.train.user_rows, dataset.train.item_rows, times)
    return replace(dataset, train=train, digest="")


@pytest.mark.parametrize("kind", KINDS)
def test_an_artifact_with_a_half_life_asks_what_came_last(kind: str, tmp_path: Path) -> None:
    settings, dataset = small_experiment(kind, epochs=5), with_times()
    model = settings.model.model_copy(update={"history_half_life": 2.0})
    run = experiment.train(dataset, settings.model_copy(update={"model": model}), tmp_path / "run")
    artifact, recommender = open_artifact(run.artifact), Recommender.open(run.artifact)
    table = artifact.history_embedding
    assert table is not None
    assert (table.half_life, table.exponent) == (2.0, 0.5)
    assert table.ages_N is not None
    user = dataset.train.user_rows == 4
    seen = artifact.seen.row(4)
    span = slice(int(artifact.seen.offsets[4]), int(artifact.seen.offsets[5]))
    ages = table.ages_of(span)
    assert ages is not None
    assert (ages >= 0).sum() == user.sum()
    assert dataset.train.timestamps is not None
    latest = dataset.train.item_rows[user][dataset.train.timestamps[user].argmax()]
    assert ages[seen == latest] == 0

    first, second, *others = dataset.items.ids[dataset.train.item_rows[user]].tolist()
    there = recommender.recommend_visitor([first, *others, second], k=5, exclude_seen=False)
    again = recommender.recommend_visitor([second, first, *others, second], k=5, exclude_seen=False)
    back = recommender.recommend_visitor([second, *others, first], k=5, exclude_seen=False)
    assert there.scores == again.scores
    assert there.scores != back.scores

    name = dataset.users.ids[4].item()
    as_trained = recommender.recommend(name, k=5)
    assert as_trained.source == "model"
    assert recommender.recommend(name, k=5, history=[]).scores == pytest.approx(as_trained.scores)
    used_again = recommender.recommend(name, k=5, history=[first])
    assert used_again.source == "fold_in"
    assert used_again.scores != as_trained.scores
    network = NumpyModel(artifact.weights)
    known = network.user_vectors(np.array([4]))[0]
    fold_in, new = artifact.fold_in(network), np.array([1, 5, 7])
    before, after = fold_in._guessed([np.unique(seen), np.union1d(seen, new)])
    expected = known + (after - before)
    expected[:8] += table.change(seen, ages, new)
    np.testing.assert_allclose(fold_in.updated(known, seen, new, ages), expected, rtol=1e-4, atol=1e-5)


def test_an_artifact_without_a_history_has_no_look_up(tmp_path: Path) -> None:
    run = experiment.train(planted(), small_experiment("gmf", epochs=1), tmp_path / "run")
    assert open_artifact(run.artifact).history_embedding is None
