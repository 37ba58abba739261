"""Headline figures: both protocols, the warning, and what is said where there are none."""

from pathlib import Path

import pytest
from markupsafe import escape

from ncf.analysis.report import ranked_users as module
from ncf.analysis.report.figures import WARNING, recorded, section
from ncf.analysis.report.inputs import ReportInputs, open_report_inputs
from ncf.analysis.report.page import number
from ncf.analysis.report.ranked_users import RankedUsers, rank_users
from ncf.models import ModelScorer
from ncf.runtime import workers
from reports import html


@pytest.fixture(scope="module")
def inputs(run: Path) -> ReportInputs:
    return open_report_inputs(run)


def ranked(inputs: ReportInputs) -> RankedUsers:
    assert inputs.dataset is not None
    with workers(1) as pool:
        return rank_users(
            ModelScorer(inputs.artifact.model),
            inputs.dataset,
            inputs.held_out,
            inputs.artifact.experiment.evaluation,
            0,
            pool,
        )


def test_both_protocols_stand_side_by_side_with_the_warning(inputs: ReportInputs) -> None:
    found = ranked(inputs)
    body = html(section(inputs.artifact.experiment, found))
    assert str(escape(WARNING)) in body
    for ranking in (found.sampled, found.full):
        for name in ("hr@10", "ndcg@10", "mrr"):
            assert number(ranking.result.means[name]) in body
    for words in ("Candidate lists, n = 90", "Full ranking, n = 90", "mean over held-out rows"):
        assert f">{words}<" in body
    assert "of all items are recommended to someone. Recommended items are" in body
    assert "published" not in body.replace("published ones", "")


def test_published_figures_stand_beside_ours(inputs: ReportInputs) -> None:
    from ncf.config import PublishedConfig

    published = PublishedConfig(source="A & B, <table 2>", metrics={"hr@10": 0.4321})
    experiment = inputs.artifact.experiment.model_copy(update={"published": published})
    body = html(section(experiment, ranked(inputs)))
    assert "<td>0.4321</td>" in body
    assert "Published: A &amp; B, &lt;table 2&gt;." in body


def test_a_sample_is_called_one(inputs: ReportInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SCORES", 60 * 20)
    body = html(section(inputs.artifact.experiment, ranked(inputs)))
    assert "In the full ranking: a sample of 20 of 90 test rows" in body
    assert "In the candidate lists:" not in body


def test_without_data_the_recorded_figures_are_shown(inputs: ReportInputs) -> None:
    made = recorded(inputs.artifact.metrics)
    assert "As recorded by the training run: sampled protocol, expected ties, 90 test rows." in made.reading
    assert number(inputs.artifact.metrics["test"]["metrics"]["hr@10"]) in html(made)


@pytest.mark.parametrize("metrics", [{}, {"test": {"metrics": {}}}])
def test_without_test_rows_there_are_none(metrics: dict[str, object]) -> None:
    assert "No test interactions were held out" in html(recorded(metrics))
