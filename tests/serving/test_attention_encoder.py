"""Histories in order in numpy: the torch module's vectors, known users' next answers, damaged files."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf import experiment
from ncf.experiment import Run, RunOptions
from ncf.models.attention import AttentionGMF
from ncf.serving.artifact import arrays_of, open_artifact
from ncf.serving.attention_encoder import NumpyEncoder
from ncf.serving.numpy_model import NumpyModel
from ncf.serving.recommender import Recommender
from support import SEQUENCES, in_order, planted, sequence_model
from support import experiment as small_experiment


@given(st.lists(st.integers(0, 29), max_size=12))
def test_equal_to_the_torch_module(history: list[int]) -> None:
    model = sequence_model("sasrec")
    assert isinstance(model, AttentionGMF)
    encoder = NumpyEncoder(arrays_of(model.encoder))
    vector = encoder.after(model.history_table.detach().numpy()[history])
    assert (encoder.length, vector.dtype, vector.shape) == (12, np.float32, (8,))
    if not history:
        assert not vector.any()
        return
    expected = model.encode(torch.tensor([history]), torch.tensor([0]))[0, -1].detach()
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder, data = tmp_path_factory.mktemp("sequences"), in_order(planted())
    return {
        kind: experiment.train(
            data, small_experiment(kind, epochs=3), folder / kind, options=RunOptions(verdict=False)
        )
        for kind in SEQUENCES
    }


@pytest.mark.parametrize("kind", SEQUENCES)
def test_a_history_without_a_user_is_the_look_up_of_that_history(kind: str, runs: dict[str, Run]) -> None:
    """Besides the own part, what training made of a user is what the artifact makes of the same items."""
    artifact = open_artifact(runs[kind].artifact)
    embedding = artifact.history_embedding
    assert embedding is not None
    assert embedding.in_order
    frozen, trainable = NumpyModel(artifact.weights).user_vectors(slice(None)), artifact.trainable
    prefix = "gmf." if kind.endswith("neumf") else ""
    own = trainable[f"{prefix}user_table"]
    for user in (0, 7, 299):
        span = slice(int(artifact.seen.offsets[user]), int(artifact.seen.offsets[user + 1]))
        seen, ages = artifact.seen.row(user), embedding.ages_of(span)
        assert ages is not None
        assert sorted(ages[ages >= 0]) == list(range(18))
        found = embedding.trained(seen, ages) + own[user]
        np.testing.assert_allclose(found, frozen[user, :8], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", SEQUENCES)
def test_what_comes_next_changes_with_the_request_and_with_its_order(kind: str, runs: dict[str, Run]) -> None:
    recommender = Recommender.open(runs[kind].artifact)
    ids = recommender.items.ids.tolist()
    known, one, two = (
        recommender.recommend(104, k=20, history=history) for history in (None, ids[:2], ids[1::-1])
    )
    assert (known.source, one.source) == ("model", "fold_in")
    assert len({tuple(answer.scores) for answer in (known, one, two)}) == 3
    visitor = recommender.recommend_visitor(ids[:3], k=5)
    assert visitor.source == "fold_in"
    assert visitor.scores != recommender.recommend_visitor(ids[2::-1], k=5).scores


@pytest.mark.parametrize("kind", SEQUENCES)
def test_a_known_user_goes_on_from_the_stored_history(kind: str, runs: dict[str, Run]) -> None:
    """New items behind the trained ones are one history, oldest first."""
    artifact = open_artifact(runs[kind].artifact)
    network, embedding = NumpyModel(artifact.weights), artifact.history_embedding
    assert embedding is not None
    span = slice(int(artifact.seen.offsets[4]), int(artifact.seen.offsets[5]))
    seen, ages = artifact.seen.row(4), embedding.ages_of(span)
    assert ages is not None
    new = np.setdiff1d(np.arange(120), seen)[[5, 0, 9]]
    ordered = seen[ages >= 0][np.argsort(-ages[ages >= 0])]
    known = network.user_vectors(np.array([4]))[0]
    moved = artifact.fold_in(network).updated(known, seen, new, ages)
    expected = embedding.vector(np.concatenate([ordered, new])) - embedding.vector(ordered)
    np.testing.assert_allclose((moved - known)[:8] if embedding.whole else expected, expected, atol=1e-4)
    np.testing.assert_allclose(embedding.change(seen, ages, new), expected, atol=1e-4)
