"""A visitor's vector from a history: shapes, the slow obvious regression, and what must hold for any
history."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from ncf import experiment
from ncf.data import Csr, Dataset
from ncf.models import Model, freeze
from ncf.serving import fold_in as fold_in_module
from ncf.serving.fold_in import FoldIn
from ncf.serving.numpy_model import Floats, NumpyModel
from support import checkerboard, csr_of, model_of, planted
from support import experiment as small_experiment

KINDS = ["gmf", "mlp", "neumf", "mf"]
HISTORIES = st.lists(st.integers(0, 29), min_size=1, max_size=40)


def network_of(model: Model) -> NumpyModel:
    return NumpyModel({name: value.detach().numpy() for name, value in freeze(model).state_dict().items()})


def some_seen(users: int = 20, items: int = 28, seed: int = 0) -> Csr:
    """Sets of different sizes, the first user's empty; of 30 items, the last two are nobody's."""
    random = np.random.default_rng(seed)
    return csr_of([[], *(random.permutation(items)[: 1 + user].tolist() for user in range(users - 1))])


def small(kind: str = "neumf") -> tuple[NumpyModel, FoldIn]:
    network = network_of(model_of(kind, 20, 30))
    return network, FoldIn.build(network, some_seen(), seed=0)


@pytest.fixture(scope="module", params=KINDS)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[NumpyModel, Dataset]:
    dataset = planted()
    run = experiment.train(
        dataset, small_experiment(request.param, epochs=15), tmp_path_factory.mktemp("run") / "run"
    )
    return NumpyModel(load_file(run.artifact / "model.safetensors")), dataset


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_dtypes(kind: str) -> None:
    network, fold_in = small(kind)
    vector = fold_in.vector(np.array([3, 4, 5], np.int32))
    assert (vector.shape, vector.dtype) == ((network.width,), np.float32)
    many = fold_in.vectors([np.array([3]), np.array([7, 1]), np.arange(30)])
    assert (many.shape, many.dtype) == ((3, network.width), np.float32)
    updated = fold_in.updated(vector, np.array([1, 2]), np.array([3]))
    assert (updated.shape, updated.dtype) == ((network.width,), np.float32)
    assert np.isfinite(vector).all()
    assert np.isfinite(many).all()
    assert fold_in.vectors([]).shape == (0, network.width)


def slow_features(network: NumpyModel, items: list[int]) -> Floats:
    vectors = np.concatenate([half.item_table for half in network.branches], axis=1)
    total, n = np.zeros(vectors.shape[1]), len(items)
    for item in items:
        total += vectors[item]
    mean = total / max(n, 1)
    trusted = [mean * n / (n + trust) for trust in (2, 20, 200)]
    return np.concatenate([*trusted, [np.log(1 + n), 1 / (1 + n), 1]])


@pytest.mark.parametrize("kind", KINDS)
def test_is_the_weighted_ridge_regression(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without random parts the map is that of weighted least squares on rows that stand for the ridge as
    well.
    """
    monkeypatch.setattr(fold_in_module, "_PARTS", 0)
    monkeypatch.setattr(fold_in_module, "_USERS_AT_ONCE", 7)
    network, fold_in = small(kind)
    seen = some_seen()
    rows, targets = [], []
    for user in range(1, 20):
        for items in ([], seen.row(user).tolist()):
            weight = (1 + len(items)) ** 0.25
            rows.append(weight * slow_features(network, items))
            targets.append(weight * network.user_vectors(np.array([user]))[0])
    ridge = np.diag(np.sqrt(0.01 * (np.array(rows) ** 2).sum(0)))
    slow, *_ = np.linalg.lstsq(
        np.concatenate([rows, ridge]),
        np.concatenate([targets, np.zeros((len(ridge), network.width))]),
        rcond=None,
    )
    for items in ([4], [0, 5, 11, 27], list(range(28))):
        expected = slow_features(network, items) @ slow
        np.testing.assert_allclose(fold_in.vector(np.array(items)), expected, rtol=1e-3, atol=1e-4)


def test_beginnings_are_sums_of_parts_of_the_history() -> None:
    random = np.random.default_rng(0)
    table = random.normal(size=(50, 6)).astype(np.float32)
    histories = [np.array([3, 8, 21, 30, 49]), np.array([7]), np.array([2, 40])] * 30
    owners, lengths, sums = fold_in_module._beginnings([table[:, :4], table[:, 4:]], histories, random)
    assert set(lengths[owners % 3 == 0].tolist()) == {0, 1, 2, 3, 4, 5}
    for place, items in enumerate(histories):
        own_lengths, own_sums = lengths[owners == place], sums[owners == place]
        assert own_lengths.tolist() == sorted({0, len(items), *own_lengths.tolist()})
        assert not own_sums[0].any()
        np.testing.assert_allclose(own_sums[-1], table[items].sum(0), rtol=1e-5, atol=1e-5)
        if own_lengths[1] == 1:
            assert np.abs(table[items] - own_sums[1]).sum(1).min() < 1e-5


@given(HISTORIES, st.sampled_from(KINDS), st.randoms(use_true_random=False))
def test_order_and_repeats_do_not_matter(items: list[int], kind: str, random: object) -> None:
    _, fold_in = small(kind)
    shuffled = items + items[:3]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = fold_in.vector(np.array(items, np.int32))
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(fold_in.vector(np.array(shuffled, np.int64)), expected)


@given(st.lists(HISTORIES, min_size=1, max_size=5))
def test_a_batch_is_its_histories_one_by_one(histories: list[list[int]]) -> None:
    _, fold_in = small()
    rows = [np.array(history) for history in histories]
    one_by_one = np.stack([fold_in.vector(history) for history in rows])
    np.testing.assert_allclose(fold_in.vectors(rows), one_by_one, rtol=1e-4, atol=1e-5)


@given(HISTORIES)
def test_saved_and_opened_gives_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, items: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("artifact")
    network, fold_in = small()
    fold_in.save(folder)
    opened = FoldIn.open(folder, network)
    assert all(path.name.startswith("fold_in") for path in folder.iterdir())
    np.testing.assert_array_equal(opened.vector(np.array(items)), fold_in.vector(np.array(items)))


def test_arrays_are_mapped_and_what_is_damaged_is_refused(tmp_path: Path) -> None:
    network, fold_in = small()
    fold_in.save(tmp_path)
    opened = FoldIn.open(tmp_path, network)
    assert isinstance(opened._map_FW.base, np.memmap)
    (tmp_path / "fold_in_map.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r".+"):
        FoldIn.open(tmp_path, network)


def test_same_seed_same_map() -> None:
    network = network_of(model_of("neumf", 20, 30))
    first, again, other = (FoldIn.build(network, some_seen(), seed)._map_FW for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nothing_new_is_the_vector_itself() -> None:
    network, fold_in = small()
    vector = network.user_vectors(np.array([5]))[0]
    assert fold_in.updated(vector, np.array([1, 2, 9]), np.array([9, 1])) is vector
    assert fold_in.updated(vector, np.array([1, 2, 9]), np.array([28, 29])) is vector, "nobody's items"


@given(HISTORIES, HISTORIES)
def test_an_update_adds_what_the_new_items_add(seen: list[int], history: list[int]) -> None:
    assume(not set(seen) <= {28, 29})
    network, fold_in = small()
    vector = network.user_vectors(np.array([5]))[0]
    moved = fold_in.updated(vector, np.array(seen), np.array(history)) - vector
    expected = fold_in.vector(np.array(seen + history)) - fold_in.vector(np.array(seen))
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-4)


def test_a_known_user_without_items_is_a_visitor() -> None:
    network, fold_in = small()
    vector, history = network.user_vectors(np.array([0]))[0], np.array([2, 8])
    np.testing.assert_array_equal(
        fold_in.updated(vector, np.array([], np.int32), history), fold_in.vector(history)
    )


def test_an_item_that_nobody_has_says_nothing() -> None:
    _, fold_in = small()
    np.testing.assert_array_equal(fold_in.vector(np.array([4, 28, 29])), fold_in.vector(np.array([4])))
    nobody = fold_in.vector(np.array([29]))
    assert np.isfinite(nobody).all()
    np.testing.assert_array_equal(nobody, fold_in.vector(np.array([28])))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("items", [1, 2, 5])
def test_tiny_catalogues(kind: str, items: int) -> None:
    network = network_of(model_of(kind, 3, items))
    fold_in = FoldIn.build(network, csr_of([[0], [], list(range(items))]), seed=0)
    for length in range(1, items + 1):
        assert np.isfinite(fold_in.vector(np.arange(length))).all()


def test_without_any_training_items_the_vector_is_zero() -> None:
    network = network_of(model_of("neumf", 3, 4))
    fold_in = FoldIn.build(network, csr_of([[], [], []]), seed=0)
    np.testing.assert_array_equal(fold_in.vector(np.array([0, 3])), np.zeros(network.width, np.float32))


def test_a_sample_of_the_users_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_in_module, "_USERS_AT_MOST", 8)
    _, fold_in = small()
    assert np.isfinite(fold_in.vector(np.arange(10))).all()


def catalogue(network: NumpyModel, vectors: Floats) -> Floats:
    return network.catalogue(network.queries(vectors))


def test_training_users_recover_most_of_their_own_ranking(trained: tuple[NumpyModel, Dataset]) -> None:
    network, dataset = trained
    seen = dataset.seen_in_training
    fold_in = FoldIn.build(network, seen, seed=0)
    own = catalogue(network, network.user_vectors(np.arange(seen.users)))
    folded = catalogue(network, fold_in.vectors([seen.row(user) for user in range(seen.users)]))
    first, second = (np.argsort(-scores, axis=1)[:, :20] for scores in (own, folded))
    shared = [len(np.intersect1d(a, b)) / 20 for a, b in zip(first, second, strict=True)]
    assert np.mean(shared) > 0.75


def test_visitors_are_answered_nearly_as_well_as_users(trained: tuple[NumpyModel, Dataset]) -> None:
    """The test items of planted users, from the user's trained vector and from the user's items alone."""
    network, dataset = trained
    seen, lists = dataset.seen_in_training, dataset.test
    fold_in = FoldIn.build(network, seen, seed=0)

    def hits(vectors: Floats) -> float:
        scores = network.scores(network.queries(vectors), network.sides(lists.candidates))
        return float(((scores > scores[:, :1]).sum(1) < 10).mean())

    known = hits(network.user_vectors(lists.user_rows))
    assert hits(fold_in.vectors([seen.row(user) for user in lists.user_rows])) > 0.95 * known
    assert hits(fold_in.vectors([seen.row(user)[:3] for user in lists.user_rows])) > 0.6 * known


def test_a_colour_is_told_from_one_item(tmp_path: Path) -> None:
    """On the checkerboard one item says which half of the catalogue the visitor wants."""
    dataset = checkerboard()
    run = experiment.train(dataset, small_experiment("neumf", epochs=15), tmp_path / "run")
    network = NumpyModel(load_file(run.artifact / "model.safetensors"))
    fold_in = FoldIn.build(network, dataset.seen_in_training, seed=0)
    for item in (0, 7, 18, 29):
        scores = catalogue(network, fold_in.vector(np.array([item]))[None])[0]
        best = np.argsort(-scores)[:10]
        assert (best % 2 == item % 2).all()
