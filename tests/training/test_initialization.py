"""Distillation against the ensemble of its teachers, on all pairs; and as a run."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from ncf.config import Experiment
from ncf.experiment import train
from ncf.models import GMF, MLP, Model
from ncf.runtime import Workers
from ncf.serving.artifact import open_artifact
from ncf.training.initialization import init_from_ensemble
from ncf.training.spectral_init import ClosedForm
from support import checkerboard, experiment, model_of

CSR = checkerboard().seen_in_training


def teachers() -> tuple[GMF, MLP]:
    gmf, mlp = model_of("gmf", 40, 30), model_of("mlp", 40, 30)
    assert isinstance(gmf, GMF)
    assert isinstance(mlp, MLP)
    return gmf, mlp


def distilled(alpha: float, width: int = 30, seed: int = 0) -> GMF:
    student = GMF(40, 30, width)
    init_from_ensemble(student, *teachers(), alpha, ClosedForm(CSR, 30, 4, seed), Workers(1))
    return student


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_a_student_that_is_wide_enough_says_what_its_teachers_say_together(alpha: float) -> None:
    closed = ClosedForm(CSR, 30, 4, 0).logits()
    everyone = torch.arange(40)
    gmf, mlp = (model.catalogue(everyone).detach() for model in teachers())
    together = alpha * 0.5 * (closed.rows(slice(0, 40)) + gmf) + (1.0 - alpha) * mlp
    torch.testing.assert_close(distilled(alpha).catalogue(everyone).detach(), together, rtol=1e-3, atol=1e-3)


def test_it_follows_from_the_seed() -> None:
    assert torch.equal(distilled(0.5, 8).user_table, distilled(0.5, 8).user_table)
    assert not torch.equal(distilled(0.5, 8).user_table, distilled(0.5, 8, seed=1).user_table)


def recipe(kind: str, gmf: Experiment, **train_settings: object) -> Experiment:
    document = experiment(kind).model_dump()
    document["train"] |= {"epochs": 0, **train_settings}
    document["pretraining"] = {"gmf": gmf.model_dump(), "mlp": experiment("mlp", epochs=1).model_dump()}
    return Experiment.model_validate(document)


def test_a_run_teaches_a_gmf_and_fuses_it_into_a_neumf(tmp_path: Path) -> None:
    student = recipe("gmf", experiment("gmf", epochs=1))
    run = train(checkerboard(), recipe("neumf", student), tmp_path / "run")
    fused: Model = open_artifact(run.artifact).model
    inner = open_artifact(tmp_path / "run" / "gmf").model
    assert (tmp_path / "run" / "gmf" / "mlp" / "artifact").is_dir()
    assert torch.equal(fused.gmf.user_table, inner.user_table)  # type: ignore[union-attr]


def test_only_a_gmf_and_an_mlp_teach() -> None:
    with pytest.raises(ValidationError, match="distils a gmf and an mlp into a gmf"):
        recipe("gmf", experiment("mlp", epochs=1))
