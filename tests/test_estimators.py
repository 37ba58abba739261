"""Models with `fit`: as a run with the same recipe, and what they say before and after."""

from pathlib import Path

import numpy as np
import pytest

import ncf
from ncf.config import Experiment
from ncf.errors import ConfigError, StorageError
from support import checkerboard, planted

QUICK = {"epochs": 1, "batch_size": 256}
USER = int(checkerboard().users.ids[3])


@pytest.fixture(scope="module")
def fitted() -> ncf.GMF:
    return ncf.GMF(factors=8, **QUICK).fit(checkerboard())


def test_fit_is_train_with_a_recipe(fitted: ncf.GMF, tmp_path: Path) -> None:
    run = ncf.train(checkerboard(), fitted.experiment(checkerboard()), tmp_path / "run")
    assert run.metrics["test"]["metrics"] == fitted.evaluate() == fitted.run.metrics["test"]["metrics"]
    ours, theirs = fitted.recommend(USER, 5), ncf.Recommender.open(run.artifact).recommend(USER, 5)
    assert (ours.items, ours.scores) == (theirs.items, theirs.scores)


@pytest.mark.parametrize("model", [ncf.GMF, ncf.MLP, ncf.NeuMF, ncf.HistoryGMF, ncf.SASRec])
def test_each_kind_has_the_defaults_of_its_recipe(model: type[ncf.GMF]) -> None:
    recipe = model().experiment(planted())
    assert recipe.model.kind == model.kind
    assert recipe.train.patience == 3
    default = Experiment.load(Path(__file__).parents[1] / "recipes" / "default.toml")
    if model is ncf.GMF:
        assert recipe.digest() == default.digest()


def test_without_validation_rows_training_ends_by_itself() -> None:
    recipe = ncf.GMF().experiment(planted().with_validation_in_training())
    assert (recipe.train.patience, recipe.train.epochs) == (0, 2)


def test_a_model_of_two_tables_recommends_and_is_saved(tmp_path: Path) -> None:
    model = ncf.NeuMF(factors=8, embedding=8, tower=(8, 4), **QUICK).fit(
        checkerboard(), output=tmp_path / "run"
    )
    saved = ncf.Recommender.open(model.save(tmp_path / "model"))
    assert saved.recommend(USER, 3).items == model.recommend(USER, 3).items
    with pytest.raises(StorageError, match="is not empty: choose a new folder"):
        model.save(tmp_path / "model")


def test_answers_are_frames(fitted: ncf.GMF) -> None:
    both = fitted.recommend([USER, "nobody"], 3)
    frame = both.to_polars()
    assert frame.columns == ["subject", "rank", "item", "score", "source"]
    assert frame["subject"].to_list() == [str(USER)] * 3 + ["nobody"] * 3
    assert frame["rank"].to_list() == [1, 2, 3] * 2
    assert frame["source"].to_list() == ["model"] * 3 + ["popularity"] * 3
    assert frame["item"].to_list() == [item for answer in both for item in answer.items]
    assert both.to_pandas()["item"].tolist() == frame["item"].to_list()
    one = fitted.similar_items(both[0].items[0], 2)
    assert one.to_polars()["item"].to_list() == one.to_pandas()["item"].tolist() == one.items
    assert "<table" in both._repr_html_()
    assert np.allclose(frame["score"][:3], both[0].scores)


def test_mistakes_are_told_at_once() -> None:
    for settings, sentence in (
        ({"factor": 3}, "factor is not a setting of GMF: did you mean factors"),
        ({"factors": -3}, r"GMF: model\.factors: Input should be greater than or equal to 1, not -3"),
        ({"kind": "mlp"}, "kind is gmf in GMF: leave it out"),
        ({"zzz": 1}, "zzz is not a setting of GMF: see docs/training.md"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            ncf.GMF(**settings)
    with pytest.raises(ConfigError, match=r"This GMF is not fitted: call fit\(dataset\) first"):
        ncf.GMF().recommend(USER)


def test_a_model_says_what_it_is(fitted: ncf.GMF, capsys: pytest.CaptureFixture[str]) -> None:
    assert repr(ncf.NeuMF(factors=64)) == "<NeuMF(factors=64), not fitted>"
    assert repr(fitted).startswith("<GMF(factors=8, epochs=1, batch_size=256): HR@10 ")
    assert len(repr(fitted.run)) < 500
    assert capsys.readouterr().err == ""
    ncf.GMF(factors=8, **QUICK).fit(checkerboard(), progress=True)
    assert "epoch   1" in capsys.readouterr().err


def test_the_package_shows_its_names() -> None:
    assert ncf.__version__ == "0.1.0"
    assert {"Dataset", "NeuMF", "train", "__version__"} <= set(dir(ncf))
    assert all(getattr(ncf, name) is not None for name in dir(ncf))
