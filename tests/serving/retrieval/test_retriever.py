"""Retrieval gives what scoring everything gives, and never what it must not."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncf.data import Csr
from ncf.models import freeze
from ncf.serving.numpy_model import Floats, NumpyModel, Rows
from ncf.serving.retrieval import calibration
from ncf.serving.retrieval.brute_force import BruteForce
from ncf.serving.retrieval.index import Scan, padded
from ncf.serving.retrieval.ivf import IvfIndex
from ncf.serving.retrieval.retriever import Retriever
from support import csr_of, model_of

KINDS = ["gmf", "mlp", "neumf", "mf", "history-neumf"]
USERS, ITEMS = 150, 3000


def network_of(kind: str, items: int = ITEMS, users: int = USERS) -> NumpyModel:
    """A model whose tables have a few directions, as trained ones have: maps of three latent tastes."""
    random = np.random.default_rng(len(kind))
    weights = {
        name: value.detach().numpy()
        for name, value in freeze(model_of(kind, users, items)).state_dict().items()
    }
    latent = {"user": random.normal(size=(users, 3)), "item": random.normal(size=(items, 3))}
    for name, table in weights.items():
        if name.endswith("_table"):
            of = latent["user" if "user" in name else "item"]
            weights[name] = (of @ random.normal(size=(3, table.shape[1])) * 0.4).astype(np.float32)
    return NumpyModel(weights)


def seen_of(users: int, items: int) -> Csr:
    return csr_of([[(user + step) % items for step in range(0, min(items, 9), 3)] for user in range(users)])


def queries_of(network: NumpyModel, users: Sequence[int]) -> Floats:
    return network.queries(network.user_vectors(np.array(users, np.int64)))


@pytest.fixture(scope="module", params=["gmf", "mlp", "neumf", "mf", "history-neumf", "neumf lists"])
def pair(request: pytest.FixtureRequest) -> tuple[NumpyModel, Retriever]:
    """A network and a retrieval that goes through candidates, the GMF's too: by a scan, or by inverted
    lists."""
    kind, _, lists = request.param.partition(" ")
    network = network_of(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "_exact_is_cheap", lambda _: False)
        patch.setattr(calibration, "_SAMPLED_ITEMS", 600)
        patch.setattr(calibration, "_SCANNED_ITEMS", 1000 if lists else 10**6)
        patch.setattr(calibration, "_PROBED_SHARE", 0)
        built = Retriever.build(network, seen_of(USERS, ITEMS), seed=0)
    assert built._fitted is not None
    assert isinstance(built._fitted.index, IvfIndex if lists else Scan)
    assert 4 * built.candidates(10) < ITEMS
    return network, built


def test_shapes_and_dtypes(pair: tuple[NumpyModel, Retriever]) -> None:
    network, retrieval = pair
    scores, rows = retrieval.top(queries_of(network, [0, 1, 2]), 7, [np.array([], np.int64)] * 3)
    assert scores.shape == rows.shape == (3, 7)
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    assert 0.0 <= retrieval.recall <= 1.0


@pytest.mark.parametrize("users", [[], [4], list(range(19))])
def test_any_number_of_users(pair: tuple[NumpyModel, Retriever], users: list[int]) -> None:
    network, retrieval = pair
    hidden = [np.arange(user) for user in users]
    for scored_by in (retrieval, BruteForce(network)):
        scores, rows = scored_by.top(queries_of(network, users), 5, hidden)
        assert scores.shape == rows.shape == (len(users), 5)


def slow_top(
    network: NumpyModel, query: Floats, k: int, hidden: Rows, allowed: Rows
) -> list[tuple[float, int]]:
    """Score all, leave out, sort."""
    scores = network.scores(query, network.sides(np.arange(network.items)))[0]
    kept = [(-float(scores[row]), int(row)) for row in allowed.tolist() if row not in set(hidden.tolist())]
    return [(-score, row) for score, row in sorted(kept)[:k]]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_exact_is_the_slow_way(kind: str, data: st.DataObject) -> None:
    network = network_of(kind, items=data.draw(st.sampled_from([1, 2, 5, 40])), users=4)
    items = st.lists(st.integers(0, network.items - 1), max_size=network.items)
    hidden = np.array(data.draw(items), np.int64)
    allowed = np.unique(np.array(data.draw(items), np.int64))
    k = data.draw(st.integers(1, network.items))
    query = queries_of(network, [3])
    for limited in (None, allowed):
        of = np.arange(network.items) if limited is None else limited
        scores, rows = BruteForce(network).top(query, k, [hidden], limited)
        expected = slow_top(network, query, k, hidden, of)
        assert scores.shape == (1, min(k, len(of)))
        found = [(score, row) for score, row in zip(scores[0], rows[0], strict=True) if score > -np.inf]
        np.testing.assert_allclose([s for s, _ in found], [s for s, _ in expected], rtol=1e-4, atol=1e-5)
        assert len(found) == len(expected)


def test_known_users_get_the_exact_answer(pair: tuple[NumpyModel, Retriever]) -> None:
    network, retrieval = pair
    hidden = [np.arange(user, user + 40) for user in range(50)]
    queries = queries_of(network, range(50))
    _, expected = BruteForce(network).top(queries, 10, hidden)
    _, rows = retrieval.top(queries, 10, hidden)
    common = [len(np.intersect1d(*both)) for both in zip(expected, rows, strict=True)]
    assert sum(common) >= 0.99 * 10 * 50


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_hidden_never_appears_and_allowed_only(
    pair: tuple[NumpyModel, Retriever], data: st.DataObject
) -> None:
    network, retrieval = pair
    seed = data.draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    users = random.integers(0, USERS, data.draw(st.integers(1, 10)))
    hidden = [random.integers(0, ITEMS, random.integers(0, 900)).astype(np.int32) for _ in users]
    size = data.draw(st.sampled_from([None, 1, 30, 170, 700, 2900]))
    allowed = None if size is None else np.sort(random.permutation(ITEMS)[:size])
    k = data.draw(st.sampled_from([1, 10, 100, ITEMS]))
    scores, rows = retrieval.top(queries_of(network, users), k, hidden, allowed)
    assert not np.isnan(scores).any()
    assert np.all(scores[:, :-1] >= scores[:, 1:])
    assert rows.min() >= 0
    assert rows.max() < ITEMS
    for place, out in enumerate(hidden):
        answered = rows[place][scores[place] > -np.inf]
        possible = np.setdiff1d(np.arange(ITEMS) if allowed is None else allowed, out)
        assert len(np.unique(answered)) == len(answered) == min(k, len(possible))
        assert np.isin(answered, possible).all()


def test_filters_cost_no_recall(pair: tuple[NumpyModel, Retriever]) -> None:
    """What a user has not hidden is found however much is hidden, the whole former answer included."""
    network, retrieval = pair
    query, hidden = queries_of(network, [5]), np.empty(0, np.int64)
    for _ in range(8):
        _, expected = BruteForce(network).top(query, 50, [hidden])
        _, rows = retrieval.top(query, 50, [hidden])
        assert len(np.intersect1d(rows, expected)) >= 48
        hidden = np.concatenate([hidden, expected[0]])


def test_k_up_to_the_catalogue(pair: tuple[NumpyModel, Retriever]) -> None:
    network, retrieval = pair
    _, rows = retrieval.top(queries_of(network, [1]), 10 * ITEMS, [np.array([3], np.int64)])
    assert sorted(rows[0].tolist()) == list(range(ITEMS))


def test_saved_and_opened_gives_the_same(pair: tuple[NumpyModel, Retriever], tmp_path: Path) -> None:
    network, retrieval = pair
    retrieval.save(tmp_path)
    assert all(path.name.startswith("retrieval") for path in tmp_path.iterdir())
    opened = Retriever.open(tmp_path, network)
    queries, hidden = queries_of(network, range(9)), [np.arange(user) for user in range(9)]
    for one, other in zip(opened.top(queries, 10, hidden), retrieval.top(queries, 10, hidden), strict=True):
        np.testing.assert_array_equal(one, other)
    assert opened.recall == retrieval.recall


@pytest.mark.parametrize("pair", ["mlp", "neumf", "neumf lists"], indirect=True)
@pytest.mark.parametrize(("residual", "factor"), [(0.9, 1), (1.5, 4), (2.5, ITEMS)])
def test_a_query_unlike_the_sample_gets_more_candidates(
    pair: tuple[NumpyModel, Retriever], residual: float, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, retrieval = pair
    assert retrieval._fitted is not None
    assert retrieval._vectors is not None
    query, asked = queries_of(network, [1]), []
    fitted = replace(retrieval._fitted, limit=float(retrieval._vectors(query)[1][0]) / residual)
    search = fitted.index.search
    monkeypatch.setattr(
        fitted.index, "search", lambda vectors, n, hidden: (asked.append(n), search(vectors, n, hidden))[1]
    )
    n = retrieval.candidates(1)
    Retriever(network, fitted).top(query, 1, [np.empty(0, np.int64)])
    assert asked == [n, min(factor * n, ITEMS)][: 1 + (factor > 1)]


@pytest.mark.parametrize("items", [1, 2, 3, 5, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_small_catalogues(kind: str, items: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_FEW_ITEMS", 100)
    network = network_of(kind, items, users=12)
    retrieval = Retriever.build(network, seen_of(12, items), seed=1)
    retrieval.save(tmp_path)
    queries, hidden = queries_of(network, range(12)), [np.array([0]) for _ in range(12)]
    expected = BruteForce(network).top(queries, 3, hidden)
    found = Retriever.open(tmp_path, network).top(queries, 3, hidden)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    assert retrieval.recall == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_says_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant scores: any items will do, none twice, and the exact order is by row."""
    weights = {
        name: np.zeros_like(value.detach().numpy())
        for name, value in model_of(kind, 12, 400).state_dict().items()
    }
    network = NumpyModel(weights)
    monkeypatch.setattr(calibration, "_exact_is_cheap", lambda _: False)
    retrieval = Retriever.build(network, seen_of(12, 400), seed=0)
    queries, hidden = queries_of(network, range(12)), [np.arange(4)] * 12
    scores, rows = retrieval.top(queries, 6, hidden)
    assert np.all(scores == 0)
    assert all(len(set(user)) == 6 and not set(user) & {0, 1, 2, 3} for user in rows.tolist())
    assert BruteForce(network).top(queries, 6, hidden)[1].tolist() == [[4, 5, 6, 7, 8, 9]] * 12


@pytest.mark.parametrize(
    ("kind", "items", "cheap"), [("neumf", 2048, True), ("neumf", 2049, False), ("gmf", 2049, True)]
)
def test_nothing_is_built_where_scoring_everything_is_quick(kind: str, items: int, cheap: bool) -> None:
    assert calibration._exact_is_cheap(network_of(kind, items, users=3)) is cheap


def test_depths_are_the_fewest_candidates_that_find_an_item() -> None:
    """Against searches for every number of candidates, with hidden items and a part of the catalogue."""
    random = np.random.default_rng(1)
    rows = np.sort(random.permutation(200)[:70])
    scan = Scan(padded(random.normal(size=(5, 70)).astype(np.float32)), 70, rows)
    vectors, hidden = (
        random.normal(size=(6, 5)).astype(np.float32),
        [rows[user : user + 9] for user in range(6)],
    )
    wanted = np.stack([random.permutation(np.setdiff1d(rows, out))[:4] for out in hidden])
    wanted[2, 1] = -1
    depths = scan.depths(vectors, wanted, hidden)
    for n in range(1, 71):
        found, alive = scan.search(vectors, n, hidden)
        for user, (depth, row) in enumerate(zip(depths, wanted, strict=True)):
            inside = np.isin(row, found[user][alive[user]])
            np.testing.assert_array_equal(inside[row >= 0], (depth <= n)[row >= 0])
    assert depths[2, 1] == 0


def test_ties_count_as_if_the_item_came_last() -> None:
    scan = Scan(padded(np.zeros((3, 40), np.float32)), 40)
    assert scan.depths(np.ones((1, 3), np.float32), np.array([[7]]), [np.array([1, 2])]).tolist() == [[38]]


def test_the_same_seed_builds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_FEW_ITEMS", 256)
    network, seen = network_of("neumf", items=600), seen_of(USERS, 600)
    first, second = (Retriever.build(network, seen, seed=3) for _ in range(2))
    queries, hidden = queries_of(network, range(5)), [np.empty(0, np.int64)] * 5
    np.testing.assert_array_equal(first.top(queries, 10, hidden)[1], second.top(queries, 10, hidden)[1])


def test_vectors_of_known_users_are_kept_and_give_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_FEW_ITEMS", 256)
    network = network_of("neumf", items=600)
    retrieval = Retriever.build(network, seen_of(network.users, 600), seed=1)
    retrieval.save(tmp_path)
    opened, users = Retriever.open(tmp_path, network), np.arange(network.users)[:20]
    hidden = [np.array([user]) for user in users]
    queries = network.user_queries(users)
    kept = opened.top(queries, 5, hidden, users=users)
    computed = opened.top(queries, 5, hidden)
    np.testing.assert_array_equal(kept[1], computed[1])
    np.testing.assert_allclose(kept[0], computed[0], rtol=1e-5, atol=1e-6)
    assert (tmp_path / "retrieval_known.npy").is_file()


def test_items_that_lie_in_no_clusters_are_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_SCANNED_ITEMS", 1000)
    random = np.random.default_rng(0)
    model = model_of("gmf", USERS, ITEMS, factors=32)
    weights = {name: value.detach().numpy() for name, value in freeze(model).state_dict().items()}
    weights["item_table"] = random.normal(size=(ITEMS, 32)).astype(np.float32)
    weights["user_table"] = random.normal(size=(USERS, 32)).astype(np.float32)
    built = Retriever.build(NumpyModel(weights), seen_of(USERS, ITEMS), seed=0)
    assert built._fitted is not None
    assert isinstance(built._fitted.index, Scan)
    assert built.recall == 1.0
