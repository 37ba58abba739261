"""The whole report: of every kind of model, of what is there, and never over somebody else's files."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ncf.analysis.report.write import Report, write_report
from ncf.data import Dataset, HeldOut
from ncf.errors import ConfigError, StorageError
from reports import HOSTILE, trained
from support import experiment as small

EVERYTHING = [
    "Headline figures",
    "Learning curves",
    "Hit ratio by user activity and item popularity",
    "Rank of the held-out item",
    "Calibration of scores",
    "Embedding norms",
    "Examples",
    "Settings and data",
]


def titles(page: Path) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page.read_text("utf-8"))


@pytest.fixture(scope="module")
def written(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of the run, written once. Not to be changed."""
    return write_report(run, tmp_path_factory.mktemp("out") / "new" / "page.html")


def test_a_run_has_every_section_and_a_card(written: Report) -> None:
    assert titles(written.page) == EVERYTHING
    document, card = written.page.read_text("utf-8"), written.card.read_text("utf-8")
    assert HOSTILE not in document
    assert (written.card, written.missing) == (written.page.parent / "MODEL_CARD.md", "")
    assert f"| hr@10 | {written.figures['sampled']['metrics']['hr@10']:.4f} |" in card
    assert "### By user activity" in card
    assert "### By item popularity" in card
    assert written.to_json()["page"] == str(written.page)
    assert sum(group["rows"] for group in written.figures["activity"]["full"]) == 90


def test_ids_in_the_page_are_unique(written: Report) -> None:
    ids = re.findall(r"""\bid=["']([^"']+)["']""", written.page.read_text("utf-8"))
    assert len(ids) == len(set(ids)) > 20


@pytest.mark.parametrize(("kind", "loss"), [("gmf", "bce"), ("mlp", "softmax")])
def test_every_kind_and_loss_is_reported(dataset: Dataset, tmp_path: Path, kind: str, loss: str) -> None:
    run = trained(dataset, small(kind, epochs=1, loss=loss, validation="include"), tmp_path, kind)
    report = write_report(run)
    assert report.page == run / "report.html"
    assert titles(report.page) == EVERYTHING
    assert "There is no validation curve" in report.page.read_text("utf-8")


def test_a_fused_model_shows_its_halves(fused: Path, tmp_path: Path) -> None:
    document = write_report(fused, tmp_path / "page.html").page.read_text("utf-8")
    assert "<h3>GMF, the first half</h3>" in document
    assert "neumf, pre-trained" in document


def test_a_run_without_test_rows_or_titles(dataset: Dataset, tmp_path: Path) -> None:
    bare = replace(
        dataset,
        test=HeldOut.empty(1),
        item_columns=dataset.item_columns.drop("title"),
        digest="",
        description={},
    )
    made = write_report(trained(bare, small("gmf", epochs=1), tmp_path, "bare"))
    assert titles(made.page) == [EVERYTHING[at] for at in (0, 1, 5, 6, 7)]
    document = made.page.read_text("utf-8")
    assert "No test interactions were held out" in document
    assert "No item of this user is held out." in document
    assert "The data have no titles" in document
    assert made.figures == {"name": "small-gmf", "verdict": None}


def test_an_artifact_alone_is_reported_beside_itself(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "artifact", tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    made = write_report(tmp_path / "model")
    assert made.page == tmp_path / "model-report" / "report.html"
    assert "The location of the data of" in made.missing
    assert "as the training data were not found" in made.card.read_text("utf-8")
    assert str(tmp_path) not in made.page.read_text("utf-8") + made.card.read_text("utf-8")
    assert titles(made.page) == [EVERYTHING[at] for at in (0, 1, 5, 6, 7)]
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    whole = write_report(tmp_path / "model", data=run.parent / "neumf-data")
    assert titles(whole.page) == EVERYTHING


def test_files_of_others_are_not_replaced_unasked_and_the_same_run_gives_the_same_bytes(
    run: Path, tmp_path: Path, written: Report
) -> None:
    for name in ("page.html", "MODEL_CARD.md"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(StorageError, match=f"{name} exists and was not made by 'ncf report'"):
            write_report(run, tmp_path / "page.html")
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()
    (tmp_path / "page.html").write_text("mine")
    again = write_report(run, tmp_path / "page.html", overwrite=True)
    assert again.page.read_bytes() == written.page.read_bytes()
    assert again.card.read_bytes() == written.card.read_bytes()


@pytest.mark.parametrize(
    ("output", "sentence"), [("", "--output must be a file"), ("MODEL_CARD.md", "--output must be a file")]
)
def test_an_output_that_cannot_be_a_page_is_refused(
    run: Path, tmp_path: Path, output: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        write_report(run, tmp_path / output)


def test_nothing_is_written_into_an_artifact(run: Path) -> None:
    with pytest.raises(ConfigError, match="choose an --output outside of it"):
        write_report(run, run / "artifact" / "report.html")


def test_without_matplotlib_a_sentence_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'ncf\[evaluate\]'"):
        write_report(run)
