"""Headline figures: both protocols, the warning, and what is said where there are none."""

from pathlib import Path

import pytest

from ncf.analysis.report import ranked_users as module
from ncf.analysis.report.figures import WARNING, recorded, section
from ncf.analysis.report.html import number, text
from ncf.analysis.report.inputs import ReportInputs, open_report_inputs
from ncf.analysis.report.ranked_users import Measured, measure
from ncf.models import ModelScorer
from ncf.runtime import workers


@pytest.fixture(scope="module")
def inputs(run: Path) -> ReportInputs:
    return open_report_inputs(run)


def judged(inputs: ReportInputs) -> Measured:
    assert inputs.dataset is not None
    with workers(1) as pool:
        return measure(
            ModelScorer(inputs.artifact.model),
            inputs.dataset,
            inputs.held_out,
            inputs.artifact.experiment.evaluation,
            0,
            pool,
        )


def test_both_protocols_stand_side_by_side_with_the_warning(inputs: ReportInputs) -> None:
    found = judged(inputs)
    body = section(inputs.artifact.experiment, found).body
    assert text(WARNING) in body
    for ranking in (found.sampled, found.full):
        for name in ("hr@10", "ndcg@10", "mrr"):
            assert number(ranking.judgement.means[name]) in body
    for words in ("Candidate lists, n = 90", "Full ranking, n = 90", "mean over held-out rows"):
        assert f">{words}<" in body
    assert "of all items are shown to somebody; a shown item is" in body
    assert "published" not in body.replace("published ones", "")


def test_published_figures_stand_beside_ours(inputs: ReportInputs) -> None:
    from ncf.config import PublishedConfig

    published = PublishedConfig(source="A & B, <table 2>", metrics={"hr@10": 0.4321})
    experiment = inputs.artifact.experiment.model_copy(update={"published": published})
    body = section(experiment, judged(inputs)).body
    assert "<td>0.4321</td>" in body
    assert "Published: A &amp; B, &lt;table 2&gt;." in body


def test_a_sample_is_called_one(inputs: ReportInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SCORES", 60 * 20)
    body = section(inputs.artifact.experiment, judged(inputs)).body
    assert "The full ranking are of" not in body
    assert "Of the full ranking, a sample of 20 of 90 test rows was judged" in body
    assert "Of the candidate lists" not in body


def test_without_data_the_recorded_figures_are_shown(inputs: ReportInputs) -> None:
    made = recorded(inputs.artifact.metrics)
    assert "As the training run recorded them: sampled protocol, expected ties, 90 test rows." in made.text
    assert number(inputs.artifact.metrics["test"]["metrics"]["hr@10"]) in made.body


@pytest.mark.parametrize("metrics", [{}, {"test": {"metrics": {}}}])
def test_without_test_rows_there_are_none(metrics: dict[str, object]) -> None:
    assert "No test interactions were held out" in recorded(metrics).body
