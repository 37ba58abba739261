"""The numpy arithmetic of serving gives what the torch modules give."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf.models import Model, freeze
from ncf.serving import numpy_model as network_module
from ncf.serving.numpy_model import NumpyModel
from support import KINDS, model_of


def network_of(model: Model) -> NumpyModel:
    return NumpyModel({name: value.detach().numpy() for name, value in freeze(model).state_dict().items()})


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_dtypes(kind: str) -> None:
    network = network_of(model_of(kind, 20, 30))
    vectors = network.user_vectors(np.array([3, 4, 5]))
    queries = network.queries(vectors)
    own, shared = np.zeros((3, 7), np.int32), np.arange(5)
    assert (network.users, network.items) == (20, 30)
    assert vectors.shape == (3, network.width)
    assert network.scores(queries, network.sides(own)).shape == (3, 7)
    assert network.scores(queries, network.sides(shared)).shape == (3, 5)
    assert network.catalogue(queries).shape == (3, 30)
    assert {vectors.dtype, queries.dtype, network.catalogue(queries).dtype} == {np.dtype(np.float32)}


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_the_torch_module(kind: str, cached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "_CACHED_BYTES", 2**26 if cached else 0)
    monkeypatch.setattr(network_module, "_ITEMS_AT_ONCE", 40)
    model = model_of(kind, 20, 30)
    network = network_of(model)
    users = np.array([0, 7, 19, 7])
    queries = network.queries(network.user_vectors(users))
    expected = model.catalogue(torch.from_numpy(users)).detach().numpy()
    np.testing.assert_allclose(network.catalogue(queries), expected, rtol=2e-5, atol=1e-5)
    own = np.array([[1, 2], [29, 0], [5, 5], [9, 3]])
    np.testing.assert_allclose(
        network.scores(queries, network.sides(own)),
        np.take_along_axis(expected, own, 1),
        rtol=2e-5,
        atol=1e-5,
    )


@given(st.lists(st.integers(0, 29), min_size=1, max_size=40), st.sampled_from(KINDS))
def test_a_score_depends_on_the_pair_alone(items: list[int], kind: str) -> None:
    network = network_of(model_of(kind, 20, 30))
    queries = network.queries(network.user_vectors(np.array([4])))
    np.testing.assert_allclose(
        network.scores(queries, network.sides(np.array(items)))[0],
        network.catalogue(queries)[0][items],
        rtol=2e-5,
        atol=1e-5,
    )
