"""A run: the same to the bit from a seed, after a stop and after a kill; stopping early; what is kept."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fits import Recorder, run, same, trainer_of
from ncf.errors import CheckpointError, ConfigError, NcfError
from ncf.runtime import Workers
from ncf.tracking.tracker import Silent
from ncf.training import EvaluationPlan, evaluator, fit
from ncf.training.spectral_init import ClosedForm, init_spectral
from support import KINDS, checkerboard, experiment, in_order, planted

SMALL = {"epochs": 3, "batch_size": 64}


def test_the_loss_falls_and_every_epoch_is_reported() -> None:
    _, recorder, fitted = run(experiment(epochs=6), planted())
    assert recorder.losses == sorted(recorder.losses, reverse=True)
    assert fitted is not None
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_decides_everything(kind: str) -> None:
    dataset = in_order(planted())
    first, again, other = (run(experiment(kind, **SMALL, seed=seed), dataset) for seed in (0, 0, 1))
    assert first[1].losses == again[1].losses
    assert same(first[0], again[0])
    assert not same(first[0], other[0])


@pytest.mark.parametrize("stop_at", [1, 40, 85, 170])
@pytest.mark.parametrize("extra", [{}, {"averaging": 0.9}, {"optimizer": "lazy"}])
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path: Path, stop_at: int, extra: dict[str, Any]) -> None:
    settings, dataset = experiment(**SMALL, **extra), planted()
    whole, expected, _ = run(settings, dataset)
    _, before, fitted = run(settings, dataset, tmp_path, stop_at=stop_at)
    assert fitted is None
    model, after, _ = run(settings, dataset, tmp_path, resume=True)
    assert before.losses + after.losses == expected.losses
    assert same(model, whole)
    assert any("Resumed after" in note for note in after.notes)


@pytest.mark.parametrize("kind", ["mlp", "sasrec"])
def test_dropout_resumes_to_the_same_bits_too(kind: str, tmp_path: Path) -> None:
    settings, dataset = experiment(kind, **SMALL), in_order(planted())
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"dropout": 0.3})})
    whole, _, _ = run(settings, dataset)
    run(settings, dataset, tmp_path, stop_at=100)
    assert same(run(settings, dataset, tmp_path, resume=True)[0], whole)


@pytest.mark.parametrize("kind", ["history-gmf", "history-neumf"])
@pytest.mark.parametrize("stop_at", [40, 41, 100])
def test_a_history_resumes_to_the_same_bits_between_two_moves_of_its_table(
    kind: str, stop_at: int, tmp_path: Path
) -> None:
    settings, dataset = experiment(kind, **SMALL, history_every=3), planted()
    settings = settings.model_copy(
        update={"model": settings.model.model_copy(update={"history_dropout": 0.3})}
    )
    whole, _, _ = run(settings, dataset)
    run(settings, dataset, tmp_path, stop_at=stop_at)
    assert same(run(settings, dataset, tmp_path, resume=True)[0], whole)


def test_resuming_other_settings_is_refused(tmp_path: Path) -> None:
    run(experiment(**SMALL), planted(), tmp_path, stop_at=40)
    with pytest.raises(CheckpointError, match="belongs to another experiment"):
        run(experiment(**SMALL, learning_rate=0.02), planted(), tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="was trained on other data"):
        run(experiment(**SMALL), planted(seed=1), tmp_path, resume=True)


def test_resuming_nothing_starts(tmp_path: Path) -> None:
    _, recorder, _ = run(experiment(**SMALL), planted(), tmp_path, resume=True)
    assert len(recorder.losses) == 3
    assert "no checkpoint" in recorder.notes[0]


def test_patience_stops_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    settings = experiment(epochs=60, patience=2, learning_rate=0.05, l2_gmf=0.0)
    model, recorder, fitted = run(settings, planted(), tmp_path)
    assert fitted is not None
    assert fitted.best is not None
    assert len(recorder.losses) == fitted.best + 2 < 60
    best = max(fitted.history, key=lambda row: row["validation_ndcg@10"])
    assert best["epoch"] == fitted.best
    again, _, _ = run(settings.model_copy(), planted(), tmp_path, resume=True)
    assert same(model, again)


def test_averaged_weights_are_the_ones_evaluated() -> None:
    settings, dataset = experiment(**SMALL, averaging=0.95), planted()
    trainer = trainer_of(settings, dataset)
    fit(trainer, EvaluationPlan(evaluator(trainer), dataset, settings.evaluation), Silent())
    assert trainer.evaluated_model is not trainer.model
    assert not same(trainer.evaluated_model, trainer.model)


def test_averaging_with_lazy_tables_is_refused() -> None:
    with pytest.raises(ConfigError, match="set train.averaging = 0 or train.optimizer = 'dense'"):
        trainer_of(experiment(averaging=0.9, optimizer="lazy"), planted())


def test_lazy_and_dense_learn_alike() -> None:
    dataset = checkerboard()
    figures = []
    for optimizer in ("dense", "lazy"):
        _, _, fitted = run(experiment(epochs=40, optimizer=optimizer), dataset)
        assert fitted is not None
        figures.append(fitted.history[-1]["validation_hr@10"])
    assert figures == [1.0, 1.0]


def test_test_figures_of_each_epoch_come_only_when_asked() -> None:
    settings, dataset = experiment(**SMALL), planted()
    for asked in (False, True):
        trainer = trainer_of(settings, dataset)
        fitted = fit(
            trainer,
            EvaluationPlan(evaluator(trainer), dataset, settings.evaluation, every_epoch_on_test=asked),
            Silent(),
        )
        assert all(("test_hr@10" in row) == asked for row in fitted.history)


def test_a_loss_that_is_no_number_ends_with_a_sentence() -> None:
    settings, dataset = experiment(**SMALL), planted()
    trainer = trainer_of(settings, dataset)
    with torch.no_grad():
        next(trainer.model.parameters())[0] = torch.nan
    with pytest.raises(NcfError, match="no longer a number after epoch 1: lower train.learning_rate"):
        fit(trainer, EvaluationPlan(evaluator(trainer), dataset, settings.evaluation), Silent())


def test_no_epoch_is_kept_that_is_below_a_start_that_counts() -> None:
    settings = experiment("gmf", epochs=5, patience=2, learning_rate=5.0, init="spectral")
    trainer, recorder = trainer_of(settings, planted()), Recorder()
    init_spectral(trainer.model, ClosedForm(planted().seen_in_training, 120, 4, 0), Workers(1))
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    plan = EvaluationPlan(evaluator(trainer), planted(), settings.evaluation)
    fitted = fit(trainer, plan, recorder, start_counts=True)
    assert (fitted.best, fitted.stopped_early, len(fitted.history)) == (0, True, 2)
    assert recorder.notes[0].startswith("The start has hr@10 ")
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.model.state_dict().items())
