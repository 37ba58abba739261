"""The search against every start fitted on its own; what is kept, refused and resumed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ncf.config import Experiment
from ncf.data import Dataset
from ncf.evaluation import evaluate_held_out
from ncf.experiment import RunOptions, train
from ncf.models import ModelScorer, build_model
from ncf.runtime import Workers
from ncf.serving.artifact import open_artifact
from ncf.tracking.tracker import Silent
from ncf.training import start_search
from ncf.training.spectral_init import ClosedForm, init_spectral
from ncf.training.start_search import Start, choose_start
from support import checkerboard, experiment, planted


class Notes(Silent):
    def __init__(self) -> None:
        self.sentences: list[str] = []

    def log(self, sentence: str) -> None:
        self.sentences.append(sentence)


def recipe(factors: int | str = "auto", **settings: object) -> Experiment:
    document = experiment("gmf", init="auto", **settings).model_dump()
    document["model"]["factors"] = factors
    return Experiment.model_validate(document)


def chosen(dataset: Dataset, asked: Experiment, notes: Notes | None = None) -> Start:
    return choose_start(dataset, asked, Workers(1), notes or Notes())


def ndcg_of(dataset: Dataset, asked: Experiment, l2: float, width: int) -> np.ndarray:
    """The obvious way: a GMF of this width, from the closed form of this penalty."""
    settings = asked.model.model_copy(update={"factors": width})
    model = build_model(settings, len(dataset.users), len(dataset.items))
    init_spectral(model, ClosedForm.of(dataset, asked.train).with_l2(l2), Workers(1))
    result = evaluate_held_out(ModelScorer(model), dataset, "validation", asked.evaluation, Workers(1))
    return result.values["ndcg@10"]


def is_near(values: np.ndarray, best: np.ndarray) -> bool:
    behind = best - values
    return bool(behind.mean() <= behind.std() / len(behind) ** 0.5)


def test_the_width_is_the_smallest_that_is_within_a_standard_error_of_the_best() -> None:
    dataset, asked = planted(), recipe()
    start = chosen(dataset, asked)
    widths = (8, 16, 32, 64)
    values = {width: ndcg_of(dataset, asked, start.experiment.train.init_l2, width) for width in widths}
    best = max(values.values(), key=lambda found: found.mean())
    assert start.experiment.model.factors == min(width for width in widths if is_near(values[width], best))
    assert start.experiment.train.init == "spectral"


def test_the_penalty_is_near_the_usual_unless_another_is_clearly_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(start_search, "_SEARCH_WIDTH", 8)
    dataset, asked, notes = planted(), recipe(8), Notes()
    start = chosen(dataset, asked, notes)
    tried = (22.2, 66.7, 200.0, 600.0, 1800.0)
    values = {l2: ndcg_of(dataset, asked, l2, 8) for l2 in tried}
    best = max(values.values(), key=lambda found: found.mean())
    assert is_near(values[start.experiment.train.init_l2], best)
    assert start.experiment.model.factors == 8
    assert notes.sentences[0].startswith("Ridge penalty ")


def test_a_penalty_of_the_recipe_stays() -> None:
    start = chosen(planted(), recipe(init_l2=37.0))
    assert (start.experiment.train.init_l2, start.experiment.model.factors) == (37.0, 8)


def test_beyond_one_quick_inverse_the_penalty_is_the_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_search, "_SEARCH_COST", 0)
    notes = Notes()
    assert chosen(planted(), recipe(16), notes).experiment.train.init_l2 == 200.0
    assert notes.sentences == []


def test_without_validation_rows_nothing_is_searched() -> None:
    none = planted().validation.take(np.zeros(0, np.int64))
    from dataclasses import replace

    start = chosen(replace(planted(), validation=none), recipe())
    assert (start.experiment.model.factors, start.experiment.train.init_l2, start.logits) == (128, 0.0, None)


def test_a_recipe_without_auto_is_returned() -> None:
    plain = experiment("gmf", init="spectral")
    assert chosen(planted(), plain).experiment is plain


def test_the_logits_are_those_of_training_or_none() -> None:
    dataset = planted()
    kept = chosen(dataset, recipe(16)).logits
    assert kept is not None
    start = chosen(dataset, recipe(16, validation="include"))
    assert start.logits is None
    expected = ClosedForm.of(dataset, start.experiment.train).logits(16)
    torch.testing.assert_close(kept.rows(slice(0, 9)), expected.rows(slice(0, 9)))


@pytest.mark.parametrize("settings", [{"init": "spectral"}, {"init": "random"}])
def test_a_width_to_choose_needs_a_start_to_choose(settings: dict[str, str]) -> None:
    document = experiment("gmf").model_dump()
    document["train"] |= settings
    document["model"]["factors"] = "auto"
    with pytest.raises(ValidationError, match=r"needs train.init = 'auto'"):
        Experiment.model_validate(document)


def test_a_run_records_numbers_and_a_resumed_one_does_not_choose_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, asked = checkerboard(), recipe(epochs=1)
    run = train(dataset, asked, tmp_path / "run")
    settings = open_artifact(run.artifact).experiment
    assert settings.model.factors in start_search.WIDTHS
    assert (settings.train.init, settings.train.init_l2 > 0.0) == ("spectral", True)
    monkeypatch.setattr("ncf.experiment.choose_start", None)
    again = train(dataset, asked, tmp_path / "run", options=RunOptions(resume=True))
    assert open_artifact(again.artifact).experiment == settings
    # The numbers are a recipe of their own, with the same result.
    same = train(dataset, settings, tmp_path / "same")
    assert same.metrics["test"]["metrics"] == run.metrics["test"]["metrics"]


def test_without_epochs_the_closed_form_is_the_model(tmp_path: Path) -> None:
    settings = experiment("gmf", init="spectral", epochs=0)
    run = train(planted(), settings, tmp_path / "run")
    assert run.metrics["selected"] == "the start, not trained on"
    model = build_model(settings.model, 300, 120)
    init_spectral(model, ClosedForm.of(planted(), settings.train), Workers(1))
    kept = open_artifact(run.artifact).model.state_dict()
    torch.testing.assert_close(kept["item_table"], model.state_dict()["item_table"], rtol=1e-4, atol=1e-5)
