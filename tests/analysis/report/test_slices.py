"""Groups of both protocols: the same rows, and as many as there are."""

from pathlib import Path

import numpy as np
import pytest

from ncf.analysis.report.inputs import ReportInputs, open_report_inputs
from ncf.analysis.report.ranked_users import RankedUsers, rank_users
from ncf.analysis.report.slices import activity, popularity, section
from ncf.evaluation.slices import sorted_by_user
from ncf.models import ModelScorer
from ncf.runtime import workers
from reports import html


@pytest.fixture(scope="module")
def inputs(run: Path) -> ReportInputs:
    return open_report_inputs(run)


@pytest.fixture(scope="module")
def rankings(inputs: ReportInputs) -> RankedUsers:
    assert inputs.dataset is not None
    with workers(1) as pool:
        return rank_users(
            ModelScorer(inputs.artifact.model), inputs.dataset, sorted_by_user(inputs.dataset.test),
            inputs.artifact.experiment.evaluation, 0, pool,
        )  # fmt: skip


def test_groups_of_both_protocols_hold_all_rows(inputs: ReportInputs, rankings: RankedUsers) -> None:
    for groups in (activity(inputs, rankings), popularity(inputs, rankings)):
        assert list(groups) == ["sampled", "full"]
        for protocol, ranking in (("sampled", rankings.sampled), ("full", rankings.full)):
            assert sum(group.rows for group in groups[protocol]) == 90
            mean = sum(group.rows * group.means["hr@10"] for group in groups[protocol]) / 90
            assert mean == pytest.approx(ranking.result.means["hr@10"])


def test_a_row_is_in_the_group_of_its_item(inputs: ReportInputs, rankings: RankedUsers) -> None:
    counts = inputs.item_counts[rankings.full.rows.positives]
    for group in popularity(inputs, rankings)["full"]:
        inside = (counts >= group.low) & (counts <= (group.high or np.inf))
        assert group.rows == inside.sum()
        assert group.means["hr@10"] == pytest.approx(rankings.full.result.values["hr@10"][inside].mean())


def test_both_are_drawn_with_their_numbers_of_rows(inputs: ReportInputs, rankings: RankedUsers) -> None:
    by_user, by_item = activity(inputs, rankings), popularity(inputs, rankings)
    body = html(section(by_user, by_item))
    assert body.count("<svg") == body.count("<table") == 2
    for words in (
        "By user activity",
        "By item popularity",
        "HR@10 (share of rows)",
        "candidate lists",
        "full ranking",
    ):
        assert f">{words}<" in body
    for group in by_item["sampled"]:
        assert f">n = {group.rows:,}<" in body


def test_a_sample_in_the_full_ranking_is_called_one(inputs: ReportInputs, rankings: RankedUsers) -> None:
    by_user, by_item = activity(inputs, rankings), popularity(inputs, rankings)
    assert "a sample of" not in html(section(by_user, by_item))
    del by_item["full"][0]
    few = sum(group.rows for group in by_item["full"])
    assert f"The full ranking covers a sample of {few} of these 90 rows." in html(section(by_user, by_item))


def test_rows_that_are_all_alike_have_no_interval(inputs: ReportInputs, rankings: RankedUsers) -> None:
    by_item = popularity(inputs, rankings)
    for groups in by_item.values():
        groups[0].means["hr@10"] = 0.0
        groups[0].intervals["hr@10"] = (0.0, 0.0)
    body = html(section(activity(inputs, rankings), by_item))
    assert "<td>0.0000</td><td>–</td>" in body
