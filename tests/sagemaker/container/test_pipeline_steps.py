"""The programs of the processing containers, on a folder that stands for /opt/ml."""

import json
from pathlib import Path

import pytest

from ncf import experiment as runs
from ncf.data import Dataset
from ncf.sagemaker.container.pipeline_steps import main
from ncf.serving.archive import pack
from ncf.serving.artifact import open_artifact
from support import experiment, planted


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model.tar.gz of the planted data."""
    folder = tmp_path_factory.mktemp("trained")
    artifact = runs.train(planted(), experiment("gmf", epochs=10), folder / "run").artifact
    return pack({path.name: path for path in artifact.iterdir()}, folder / "model.tar.gz")


def lay(root: Path, name: str) -> Path:
    folder = root / "processing" / "input" / name
    folder.mkdir(parents=True)
    return folder


def table(folder: Path, name: str = "ratings.csv") -> None:
    rows = [f"{user},{item},{user * 10 + item}" for user in range(20) for item in range(user % 3, 30, 3)]
    (folder / name).write_text("\n".join(["user,item,time", *rows]), "utf-8")


def message(root: Path) -> str:
    return (root / "output" / "message").read_text("utf-8")


def test_a_table_is_prepared_with_the_options_of_ncf_prepare(tmp_path: Path) -> None:
    table(lay(tmp_path, "raw"))
    assert main(["prepare", "negatives=5", "validation=none", "name=shop"], tmp_path) == 0
    dataset = Dataset.open(tmp_path / "processing" / "output" / "data" / "prepared")
    assert (dataset.name, len(dataset.test), dataset.test.candidates.shape[1]) == ("shop", 20, 6)
    assert len(dataset.validation) == 0


def test_titles_may_lie_beside_the_table(tmp_path: Path) -> None:
    raw = lay(tmp_path, "raw")
    table(raw)
    (raw / "items.csv").write_text("item,title\n" + "\n".join(f"{n},Item {n}" for n in range(30)), "utf-8")
    assert main(["prepare", "negatives=5", "items_file=items.csv", "items_id=item"], tmp_path) == 0
    dataset = Dataset.open(tmp_path / "processing" / "output" / "data" / "prepared")
    assert "title" in dataset.item_columns.columns


def test_two_tables_are_one_too_many(tmp_path: Path) -> None:
    raw = lay(tmp_path, "raw")
    table(raw)
    table(raw, "more.csv")
    assert main(["prepare"], tmp_path) == 1
    assert message(tmp_path) == (
        "There must be one and not 2 tables of interactions in InputData (more.csv, ratings.csv): "
        "give the address of one."
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prepare", "negative=5"], "negative is not an option of the preparation; did you mean negatives?"),
        (["prepare", "header=maybe"], "header must be true or false, not 'maybe'."),
        (
            ["prepare"],
            "There must be one and not 0 tables of interactions in InputData: give the address of one.",
        ),
        (["tidy"], "The step must be one of prepare, evaluate, promote."),
        ([], "The step must be one of prepare, evaluate, promote."),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    assert main(arguments, tmp_path) == 1
    assert message(tmp_path).startswith(sentence)


def test_a_defect_of_ours_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncf.sagemaker.container.pipeline_steps._table", lambda *_: 1 / 0)
    lay(tmp_path, "raw")
    assert main(["prepare"], tmp_path) == 1
    assert message(tmp_path).startswith("ncf has a defect (ZeroDivisionError")


def test_a_model_of_other_data_is_not_judged(tmp_path: Path, model: Path) -> None:
    planted(seed=1).save(lay(tmp_path, "data") / "prepared")
    (lay(tmp_path, "model") / "model.tar.gz").write_bytes(model.read_bytes())
    assert main(["evaluate"], tmp_path) == 1
    assert message(tmp_path).startswith("The model was not trained on the data to evaluate it on")


def test_a_model_is_not_better_than_itself(tmp_path: Path, model: Path) -> None:
    planted().save(lay(tmp_path, "data") / "prepared")
    for name in ("model", "champion"):
        (lay(tmp_path, name) / "model.tar.gz").write_bytes(model.read_bytes())
    assert main(["evaluate", "alpha=0.5"], tmp_path) == 0
    found = json.loads((tmp_path / "processing" / "output" / "evaluation" / "evaluation.json").read_text())
    assert (found["p_value"], found["difference"], found["verdict"]["register"]) == (1.0, 0.0, 0)


@pytest.mark.parametrize(("status", "there"), [("Approved", True), ("PendingManualApproval", False)])
def test_only_an_approved_model_is_promoted(tmp_path: Path, model: Path, status: str, there: bool) -> None:
    (lay(tmp_path, "model") / "model.tar.gz").write_bytes(model.read_bytes())
    assert main(["promote", "package=arn:1", "model=s3://b/m", f"status={status}"], tmp_path) == 0
    champion = tmp_path / "processing" / "output" / "champion"
    assert (champion / "model.tar.gz").is_file() is there
    note = json.loads((champion / ("champion.json" if there else "candidate.json")).read_text("utf-8"))
    assert note == {"package": "arn:1", "model": "s3://b/m"}
    if there:
        assert open_artifact(champion / "model.tar.gz").manifest["data"]["name"] == "made-up"
