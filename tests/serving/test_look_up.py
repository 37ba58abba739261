"""A visitor of a history-aware model is a look-up: what training would have made of somebody without an own vector."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf import experiment
from ncf.models import History, freeze, history_half
from ncf.serving.artifact import open_artifact
from ncf.serving.fold_in import FoldIn, LookUp
from ncf.serving.network import Network
from ncf.serving.recommender import Recommender
from support import csr_of, model_of, planted
from support import experiment as small_experiment

KINDS = ["history-gmf", "history-neumf"]


def look_up(width: int = 8, items: int = 30) -> LookUp:
    return LookUp(np.random.default_rng(0).normal(size=(items, width)).astype(np.float32), 0.5)


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
    """The first half's vector equals the trained model's for a user with this history and p_u = 0."""
    model = model_of(kind)
    half = history_half(model)
    assert half is not None
    used = [2, 9, 17, 28]
    half.user_table.data[0] = 0.0
    sets = [used, *[[1, 3]] * 19]
    half.attach(History.of(csr_of(sets), 30))
    network = Network({name: value.numpy() for name, value in freeze(model).state_dict().items()})
    table = LookUp(half.history_table.detach().numpy(), half.exponent)
    fold_in = FoldIn.build(network, csr_of([list(range(30)), *[[0]] * 19]), 0, table)
    vector = fold_in.vector(np.array(used))
    np.testing.assert_allclose(vector[:8], half.users()[0].detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_users_new_items_add_what_they_say(kind: str, tmp_path: Path) -> None:
    run = experiment.train(planted(), small_experiment(kind, epochs=5), tmp_path / "run")
    artifact = open_artifact(run.artifact)
    network = Network(artifact.weights)
    fold_in, table = artifact.fold_in(network), artifact.look_up
    assert table is not None
    known, seen, new = network.user_vectors(np.array([4]))[0], artifact.seen.row(4), np.array([1, 5, 7])
    both = np.union1d(seen, new)
    vector = fold_in.updated(known, seen, new)
    expected = known[:8] + table.vector(both) - table.vector(np.unique(seen))
    np.testing.assert_allclose(vector[:8], expected, rtol=1e-4, atol=1e-5)


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


def test_thawing_is_the_way_back_from_freezing() -> None:
    from ncf.models import GMF, build_model
    from ncf.models.frozen import thaw
    from support import experiment as settings

    half = history_half(model_of("history-gmf"))
    assert half is not None
    frozen = freeze(half)
    assert isinstance(frozen, GMF)
    fresh = history_half(build_model(settings("history-gmf").model, 20, 30))
    assert fresh is not None
    fresh.attach(half.attached)
    thaw(fresh, frozen, half.history_table.detach())
    for name, value in half.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_an_artifact_without_a_history_has_no_look_up(tmp_path: Path) -> None:
    run = experiment.train(planted(), small_experiment("gmf", epochs=1), tmp_path / "run")
    assert open_artifact(run.artifact).look_up is None
