"""The final fit of a judged run: the same training on everything, with the judged run's figures."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from ncf.analysis import evaluate
from ncf.analysis.report.write import write_report
from ncf.cli import app
from ncf.config import Experiment
from ncf.data import Dataset
from ncf.errors import CheckpointError, ConfigError, DataError, Interrupted, NcfError
from ncf.experiment import Run, RunOptions, train
from ncf.renewal.final import data_of, recipe_of, twin_of
from ncf.serving.artifact import open_artifact
from support import checkerboard, experiment

QUICK = RunOptions(serves=False, verdict=False)
RECIPE = experiment("gmf", epochs=4, patience=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("final") / "data"
    checkerboard().save(folder)
    return folder


@pytest.fixture(scope="module")
def judged(data: Path) -> Run:
    return train(Dataset.open(data), RECIPE, data.parent / "judged", data_path=data, options=QUICK)


@pytest.fixture(scope="module")
def final(data: Path, judged: Run) -> Run:
    return fit(judged, data.parent / "fitted")


def fit(judged: Run, target: Path, options: RunOptions = QUICK) -> Run:
    twin = twin_of(judged.folder)
    dataset, folder = data_of(twin.folder, twin.artifact, None)
    return train(dataset, recipe_of(twin), target, data_path=folder, final=judged.folder, options=options)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.artifact / "model.safetensors")


def test_a_final_fit_is_the_recipe_on_everything(data: Path, final: Run, tmp_path: Path) -> None:
    """As a plain training on data that hold nothing out gives it."""
    dataset = Dataset.open(data)
    everything = dataset.with_everything_in_training()
    assert len(everything.train) == len(dataset.known.columns)
    plain = train(everything, RECIPE, tmp_path / "plain", options=QUICK)
    assert all(torch.equal(value, weights(final)[name]) for name, value in weights(plain).items())
    artifact = open_artifact(final.folder)
    assert artifact.item_columns["popularity"].sum() == len(artifact.seen.columns) == len(everything.train)
    assert artifact.manifest["data"]["digest"] == dataset.digest


def test_it_quotes_the_figures_of_its_twin_and_says_so(judged: Run, final: Run) -> None:
    metrics = json.loads((final.artifact / "metrics.json").read_text())
    digest = open_artifact(judged.folder).manifest["files"]["model.safetensors"]["sha256"]
    assert metrics["final"] == {
        "twin": str(judged.folder.resolve()), "weights": digest, "epochs": 4,
        "interactions": len(checkerboard().known.columns),
    }  # fmt: skip
    assert metrics["test"] == {**judged.metrics["test"], "of": metrics["final"]["twin"]}
    card = (final.artifact / "MODEL_CARD.md").read_text()
    for words in ("**These figures are those of the twin", metrics["final"]["twin"], digest[:16]):
        assert words in card


def test_the_epochs_are_those_of_the_kept_weights_on_the_way_of_the_whole_schedule(
    data: Path, tmp_path: Path
) -> None:
    stopped = replace_train(RECIPE, epochs=8, patience=1, learning_rate=0.05)
    run = train(Dataset.open(data), stopped, tmp_path / "judged", data_path=data, options=QUICK)
    best = run.metrics["selected_epoch"]
    assert run.metrics["selected"] == f"epoch {best}, the best on validation"
    assert best < 8
    fitted = fit(run, tmp_path / "fitted")
    assert [row["epoch"] for row in fitted.metrics["history"]] == list(range(1, best + 1))
    assert open_artifact(fitted.folder).experiment.train.epochs == 8


def replace_train(recipe: Experiment, **changes: object) -> Experiment:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changes)})


def test_a_stopped_final_fit_resumes_to_the_same_weights(judged: Run, final: Run, tmp_path: Path) -> None:
    calls = iter(range(1000))
    with pytest.raises(Interrupted):
        fit(judged, tmp_path / "run", replace(QUICK, stop=lambda: next(calls) > 12))
    resumed = fit(judged, tmp_path / "run", replace(QUICK, resume=True))
    assert all(torch.equal(value, weights(final)[name]) for name, value in weights(resumed).items())
    # An ordinary run would judge itself on rows that these weights have learned.
    with pytest.raises(CheckpointError, match="begun with another --final, or without it"):
        train(Dataset.open(judged.folder.parent / "data"), RECIPE, tmp_path / "run",
              options=replace(QUICK, resume=True))  # fmt: skip


def test_a_pretrained_run_has_its_halves_fitted_to_everything_too(data: Path, tmp_path: Path) -> None:
    halves = {name: experiment(name, epochs=2) for name in ("gmf", "mlp")}
    recipe = Experiment.parse(
        experiment("neumf", epochs=2).model_dump(mode="json")
        | {"pretraining": {name: half.model_dump(mode="json") for name, half in halves.items()}}
    )
    run = train(Dataset.open(data), recipe, tmp_path / "judged", data_path=data, options=QUICK)
    fitted = fit(run, tmp_path / "fitted")
    for name in halves:
        assert open_artifact(fitted.folder / name).metrics["final"]["twin"].endswith(f"judged/{name}")
    with pytest.raises(ConfigError, match="is a final fit, which was trained on the test as well"):
        train(Dataset.open(data), recipe, tmp_path / "leaking", gmf=fitted.folder / "gmf", options=QUICK)


def test_it_cannot_be_judged_on_its_own_data(final: Run, data: Path, tmp_path: Path) -> None:
    for given in (None, data):
        with pytest.raises(DataError, match=r"all 600 interactions were trained on.*judged.*--data NEW"):
            evaluate(final.folder, given)
    report = write_report(final.folder, tmp_path / "report.html")
    assert "all 600 interactions were trained on" in report.missing
    page = (tmp_path / "report.html").read_text()
    assert "As recorded by the judged twin" in page


def test_what_is_no_finished_judged_run_is_refused(
    data: Path, judged: Run, final: Run, tmp_path: Path
) -> None:
    nothing_held_out = Dataset.open(data).with_everything_in_training()
    unjudged = train(nothing_held_out, RECIPE, tmp_path / "unjudged", options=QUICK)
    unfinished = tmp_path / "unfinished"
    with pytest.raises(Interrupted):
        train(Dataset.open(data), RECIPE, unfinished, options=replace(QUICK, stop=lambda: True))
    for run, sentence in (
        (final.folder, "is a final fit already: give --final its judged twin"),
        (unjudged.folder, "its data hold nothing out"),
        (unfinished, "has not finished"),
    ):
        with pytest.raises(NcfError, match=sentence):
            twin_of(run)


def test_data_that_are_gone_unknown_or_others_are_refused(judged: Run, tmp_path: Path) -> None:
    artifact = open_artifact(judged.folder)
    shutil.copytree(judged.folder, tmp_path / "run")
    document = tmp_path / "run" / "run.json"
    document.write_text(document.read_text().replace(str(judged.folder.parent), str(tmp_path / "gone")))
    shutil.copytree(judged.artifact, tmp_path / "alone")
    checkerboard(38).save(tmp_path / "other")
    for path, data, sentence in (
        (tmp_path / "run", None, "are not in .*gone.* any more: give --data"),
        (tmp_path / "alone", None, "is not recorded: give --data"),
        (judged.folder, tmp_path / "none", "is not a prepared data folder"),
        (judged.folder, tmp_path / "other", "but these data are made-up"),
    ):
        with pytest.raises(DataError, match=sentence):
            data_of(path, artifact, data)
    assert data_of(judged.folder, artifact, tmp_path / "other", other_data=True)[1] == tmp_path / "other"


@pytest.mark.parametrize("more", [["default"], ["--set", "train.epochs=9"], ["--minutes", "1"]])
def test_the_recipe_is_the_twins(judged: Run, more: list[str]) -> None:
    done = CliRunner().invoke(app, ["train", "--final", str(judged.folder), *more])
    assert isinstance(done.exception, ConfigError)
    assert "--final takes the recipe of" in str(done.exception)


def test_the_command_trains_it(
    judged: Run, final: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["train", "--final", str(judged.folder), "--set", "train.threads=1", "--quiet"]
    )
    assert done.exit_code == 0, done.output
    assert "all 600 interactions were trained on" in done.stdout
    made = load_file(Path(f"runs/{RECIPE.name}-final") / "artifact" / "model.safetensors")
    assert all(torch.equal(value, weights(final)[name]) for name, value in made.items())
