"""`ncf report`: what is printed and written."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ncf.cli import app
from ncf.errors import StorageError
from reports import titled, trained
from support import experiment as small


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(titled(), small("gmf", epochs=1), tmp_path_factory.mktemp("runs"), "gmf")


def test_a_report_prints_where_it_is(run: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0, done.output + repr(done.exception)
    where, verdict = done.stdout.splitlines()
    assert (
        where
        == f"Page: {run / 'report.html'} (opens without a network); model card: {run / 'MODEL_CARD.md'}."
    )
    assert verdict.startswith("HR@10 .")
    assert done.stderr.startswith("Warning: The model does not beat popularity in the candidate lists (.")
    for file in ("report.html", "MODEL_CARD.md"):
        assert verdict in (run / file).read_text("utf-8")


def test_json_is_one_object_with_the_figures(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(run), "--output", str(tmp_path / "a.html"), "--json"])
    document = json.loads(done.stdout)
    assert (document["page"], document["missing"]) == (str(tmp_path / "a.html"), None)
    assert document["sampled"]["rows"] == document["full"]["rows"] == 90
    assert {"activity", "popularity", "calibration"} <= document.keys()


def test_the_sampled_figures_are_those_of_evaluate(run: Path, tmp_path: Path) -> None:
    report = CliRunner().invoke(app, ["report", str(run), "--output", str(tmp_path / "a.html"), "--json"])
    evaluate = CliRunner().invoke(app, ["evaluate", str(run), "--k", "10", "--json"])
    own, other = json.loads(report.stdout)["sampled"], json.loads(evaluate.stdout)
    for name in ("hr@10", "ndcg@10", "mrr"):
        assert own["metrics"][name] == pytest.approx(other.get("sampled", other)["metrics"][name], abs=1e-12)


def test_what_is_missing_is_reported_on_standard_error(run: Path, tmp_path: Path) -> None:
    (run / "artifact").rename(tmp_path / "model")
    done = CliRunner().invoke(app, ["report", str(tmp_path / "model")])
    (tmp_path / "model").rename(run / "artifact")
    assert "Sections that need the data are left out. The location of the data of" in done.stderr
    assert "model-report/report.html" in done.stdout


def test_a_file_of_somebody_else_is_kept(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("mine")
    done = CliRunner().invoke(app, ["report", str(run), "--output", str(tmp_path / "a.html")])
    assert isinstance(done.exception, StorageError)
    assert (tmp_path / "a.html").read_text() == "mine"
