"""What every model must do, whatever it is made of: one class, run for each kind, start and loss.

A new kind of model is added to `KINDS` and passes as it is.
"""

from pathlib import Path

import numpy as np
import pytest

from ncf.analysis import evaluate
from ncf.errors import ConfigError
from ncf.experiment import train
from ncf.serving.recommender import Recommender
from support import SEQUENCES, checkerboard, dataset_of, experiment, in_order, planted

KINDS = ["gmf", "mlp", "neumf", "mf", "history-gmf", "history-neumf", "places-gmf", "sasrec"]


@pytest.mark.parametrize("kind", KINDS)
class TestModelContract:
    @pytest.mark.parametrize("loss", ["bce", "bpr", "softmax"])
    def test_learns_the_checkerboard(self, kind: str, loss: str, tmp_path: Path) -> None:
        """Held-out items are of the user's colour, all other candidates of the other: the right rank is 1."""
        settings = experiment(kind, epochs=120, loss=loss, exclude="known")
        run = train(in_order(checkerboard()), settings, tmp_path / "run")
        assert run.metrics["test"]["metrics"]["hr@1"] == 1.0

    @pytest.mark.parametrize("init", ["random", "spectral"])
    def test_finds_planted_factors(self, kind: str, init: str, tmp_path: Path) -> None:
        """Far above popularity, which finds hardly more than chance (10 of 31) in these lists."""
        if init == "spectral" and kind in SEQUENCES:
            with pytest.raises(ConfigError, match="a model of sequences starts at random"):
                experiment(kind, init=init)
            return
        run = train(in_order(planted()), experiment(kind, init=init, patience=5), tmp_path / "run")
        assert run.metrics["test"]["metrics"]["hr@10"] > 0.75

    def test_recommends_what_is_left_of_the_users_colour(self, kind: str, tmp_path: Path) -> None:
        dataset = in_order(checkerboard())
        run = train(in_order(dataset), experiment(kind, epochs=120), tmp_path / "run")
        recommender = Recommender.open(run.artifact)
        for user in (100, 101, 117):
            answer = recommender.recommend(user, k=30, exclude_seen=False)
            own = [item for item, _ in answer][:15]
            assert {item % 2 for item in own} == {user % 2}
            assert answer.scores == sorted(answer.scores, reverse=True)
            assert len(set(answer.items)) == 30

    def test_similar_items_are_of_the_same_colour(self, kind: str, tmp_path: Path) -> None:
        run = train(in_order(checkerboard()), experiment(kind, epochs=120), tmp_path / "run")
        similar = Recommender.open(run.artifact).similar_items(502, k=10)
        assert np.mean([item % 2 == 0 for item in similar.items]) >= 0.9
        assert 502 not in similar.items

    def test_one_item_for_everybody_is_ranked_first(self, kind: str, tmp_path: Path) -> None:
        train_pairs = [(user, 0) for user in range(1, 30)] + [(user, 1 + user % 9) for user in range(30)]
        dataset = dataset_of(train_pairs, 30, 10, test=[(0, [0, *range(2, 10)])])
        run = train(in_order(dataset), experiment(kind, epochs=120), tmp_path / "run")
        assert run.metrics["test"]["metrics"]["hr@1"] == 1.0

    def test_the_artifact_is_evaluated_as_the_run_was(self, kind: str, tmp_path: Path) -> None:
        dataset = in_order(planted())
        dataset.save(tmp_path / "data")
        run = train(dataset, experiment(kind, epochs=3), tmp_path / "run", data_path=tmp_path / "data")
        result, _ = evaluate(tmp_path / "run")
        assert result.to_json() == run.metrics["test"]
