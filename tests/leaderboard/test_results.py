"""The board as it is read from a folder, and what is said and written of it."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from ncf.errors import ConfigError
from ncf.leaderboard import summary
from ncf.leaderboard.entries import entries
from ncf.leaderboard.export import figure, markdown, settings, size
from ncf.leaderboard.folder import started_entries
from ncf.leaderboard.page import leaderboard_page, write_results
from ncf.leaderboard.pairwise_tests import PairwiseTest
from ncf.leaderboard.results import DiscordantPair, LeaderboardResults, Row, read_results
from ncf.leaderboard.summary import short

MEASURES = ("sampled/ndcg@10", "sampled/hr@10", "full/ndcg@10", "full/hr@10")


def made(p_value: float = 0.001, swapped: bool = False) -> LeaderboardResults:
    """Three rows, the first two `p_value` apart and the last far behind; the second may be first by the full
    ranking.
    """
    level = {"A": 0.5, "B": 0.49, "C": 0.1}
    full = level | ({"B": 0.51} if swapped else {})
    rows = [
        Row(
            name.lower(), name, "somewhere", name == "C", {"train.epochs": 2}, level[name] + 0.01, 3, seeds=3,
            means={
                **{f"sampled/{metric}": level[name] for metric in ("ndcg@10", "hr@10", "mrr")},
                **{f"full/{metric}": full[name] for metric in ("ndcg@10", "hr@10", "mrr")},
                "full/coverage@10": 0.5, "full/popularity_bias@10": 1.5, "full/novelty@10": 9.0,
            },
            deviations={"sampled/ndcg@10": 0.002}, seconds=2.0, milliseconds=0.5, bytes=2_500_000,
            intervals=dict.fromkeys(MEASURES, (0.4, 0.6)),
        )
        for name in "ABC"
    ]  # fmt: skip
    pairs = {
        measure: [
            PairwiseTest(
                "a", "b", *(3 * [-0.02 if swapped and measure.startswith("full") else 0.01]), p_value, p_value
            ),
            PairwiseTest("a", "c", 0.4, 0.3, 0.5, 0.001, 0.003),
            PairwiseTest("b", "c", 0.39, 0.3, 0.5, 0.001, 0.003),
        ]
        for measure in MEASURES
    }
    pairs_in_another_order = [DiscordantPair("A", "B", p_value < 0.05)] if swapped else []
    return LeaderboardResults(
        {"name": "set", "digest": "0" * 64},
        rows,
        [],
        pairs,
        pairs_in_another_order,
        1 / 3 if swapped else 1.0,
        1.0,
        100,
    )


def test_rows_are_ordered_and_summed_up_over_seeds(results: LeaderboardResults, finished: Path) -> None:
    order = [row.means["sampled/ndcg@10"] for row in results.rows]
    assert order == sorted(order, reverse=True)
    gmf = next(row for row in results.rows if row.name == "gmf")
    of_seeds = [
        json.loads((finished / "gmf" / f"seed-{seed}.json").read_text())["figures"] for seed in (0, 1)
    ]
    ndcg = [one["sampled/ndcg@10"] for one in of_seeds]
    assert gmf.means["sampled/ndcg@10"] == pytest.approx(np.mean(ndcg))
    assert gmf.deviations["sampled/ndcg@10"] == pytest.approx(np.std(ndcg, ddof=1))
    low, high = gmf.intervals["sampled/ndcg@10"]
    assert low < gmf.means["sampled/ndcg@10"] < high
    ease = next(row for row in results.rows if row.name == "ease")
    assert (ease.seeds, ease.deviations, ease.baseline) == (1, {}, True)
    assert results.users == 120


def test_every_pair_is_tested_on_the_means_over_seeds(results: LeaderboardResults) -> None:
    assert {measure: len(pairs) for measure, pairs in results.pairs.items()} == dict.fromkeys(MEASURES, 10)
    means = {row.name: row.means for row in results.rows}
    for measure in MEASURES:
        for pair in results.pairs[measure]:
            assert pair.difference == pytest.approx(means[pair.a][measure] - means[pair.b][measure])
            turned = results.pair(measure, pair.b, pair.a)
            assert turned is not None
            assert (turned.difference, turned.low, turned.high) == (-pair.difference, -pair.high, -pair.low)


def test_what_nothing_beats_follows_from_the_tests_and_not_from_the_table() -> None:
    assert summary.summarize(made())[:2] == [
        "On the sampled ranking A is first by NDCG@10 and HR@10; nothing beats it at p < .05.",
        "On the full ranking A is first by NDCG@10 and HR@10; nothing beats it at p < .05.",
    ]
    unsure = summary.summarize(made(0.4))
    assert unsure[0] == (
        "On the sampled ranking A and B share first place by NDCG@10 and HR@10; the data cannot separate "
        "them (p ≥ .05)."
    )
    assert unsure[2] == (
        "These adjacent models do not differ significantly, by NDCG@10 or by HR@10 (sampled): A > B (gap "
        ".0100, p = .400)."
    )
    assert summary.summarize(made())[2].startswith("All adjacent models differ significantly")


def test_an_order_that_the_protocols_do_not_share_is_named() -> None:
    assert "order the models identically" in summary.summarize(made())[3]
    text = summary.summarize(made(0.4, swapped=True))[3]
    assert "disagree on 1 of 3 pairs" in text
    assert (
        "the sampled ranking has A > B, the full ranking the opposite. For no pair are both tests "
        "significant." in text
    )
    assert "Both tests are significant for A and B." in summary.summarize(made(0.001, swapped=True))[3]


def crowd() -> LeaderboardResults:
    """Six that cannot be told apart and are the other way round by the full ranking, and G far behind."""
    results, first = made(), made().rows[0]
    sampled = dict(zip("ABCDEFG", (0.50, 0.49, 0.48, 0.46, 0.45, 0.44, 0.1), strict=True))
    rows = []
    for name, level in sampled.items():
        full = level if name == "G" else 0.9 - level
        means = {key: full if key.startswith("full/") else level for key in first.means}
        rows.append(replace(first, name=name.lower(), title=name, means=means))
    pairs = {
        measure: [
            PairwiseTest(a.name, b.name, *(3 * [a.means[measure] - b.means[measure]]), p, p)
            for a, b in combinations(rows, 2)
            for p in [0.001 if b.title == "G" else 0.4]
        ]
        for measure in MEASURES
    }
    pairs_in_another_order = [DiscordantPair(a, b, False) for a, b in combinations("ABCDEF", 2)]
    return replace(
        results, rows=rows, pairs=pairs, discordant_pairs=pairs_in_another_order, sampled_full_tau=-0.43
    )


def test_many_are_summed_up() -> None:
    sampled, _, adjacent, protocols, _ = summary.summarize(crowd())
    assert sampled.startswith("On the sampled ranking 6 of the 7 models (all but G) share first place")
    assert adjacent.endswith("A > B > C > D > E > F (largest gap .0200, p = .400).")
    assert "disagree on 15 of 21 pairs" in protocols
    assert "sampled to full, are A from 1 to 6, F from 6 to 1, B from 2 to 5 and E from 5 to 2." in protocols
    all_alike = replace(crowd(), rows=crowd().rows[:6])
    assert "all 6 models share first place" in summary.summarize(all_alike)[0]
    assert summary.summarize(all_alike)[2].startswith("No two adjacent models differ significantly")


def test_searches_that_ended_early_are_told() -> None:
    results = made()
    first, second, third = results.rows
    first = replace(first, out_of_time=True, trials=2, search_seconds=60.0)
    rows = [first, replace(second, failed_trials=1), third]
    assert summary.remarks(replace(results, rows=rows)) == [
        "A: its search reached the time limit after 2 trials (60 s).",
        "B: 1 of its 3 trials failed.",
    ]


def test_figures_are_written_as_people_read_them() -> None:
    row = made().rows[0]
    assert figure(row, "sampled/ndcg@10") == ".5000 ± .0020"
    assert figure(row, "sampled/hr@10") == ".5000"
    assert [short(value, 2, "+") for value in (0.5, -0.5, 1.5, -0.001)] == ["+.50", "-.50", "+1.50", ".00"]
    assert [size(count) for count in (12, 6_728, 2_500_000, 3 * 10**9)] == [
        "12 B",
        "6.7 kB",
        "2.5 MB",
        "3.0 GB",
    ]
    assert (
        settings({"train.learning_rate": 0.00123456, "model.tower": [8, 4]})
        == "learning_rate 0.00123, tower [8, 4]"
    )
    assert settings({}) == "–"


def test_the_markdown_is_one_table_with_a_row_each() -> None:
    lines = markdown(made()).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 3
    assert len({line.count("|") for line in table}) == 1
    assert table[2].startswith("| 1 | A | .5000 | .5000 ± .0020 |")


def test_the_page_names_every_model_and_escapes_what_is_not_ours() -> None:
    results = made(0.4, swapped=True)
    hostile = replace(results.rows[0], title="<script>alert(1)</script>")
    page = leaderboard_page(replace(results, rows=[hostile, *results.rows[1:]]))
    assert "<script" not in page
    assert page.count("<svg") == 5
    assert "Far behind, not drawn: C (.1000)." in page
    for section in (
        "Summary",
        "Accuracy",
        "Lists and cost",
        "Every pair",
        "Sampled and full ranking",
        "Settings",
    ):
        assert f"<h2>{section}</h2>" in page


def test_a_leaderboard_without_results_still_makes_a_page(finished: Path, files: Path) -> None:
    nothing = read_results(finished, entries(files, ["bpr"]), 2)
    assert nothing.rows == []
    assert "BPR: It has not been run yet." in leaderboard_page(nothing)
    assert "not been run yet" in markdown(nothing)


def test_a_single_entry_is_shown_without_pairs(finished: Path, files: Path, tmp_path: Path) -> None:
    alone = read_results(finished, entries(files, ["ease"]), 2)
    write_results(alone, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "index.html",
        "leaderboard.json",
        "leaderboard.md",
    ]
    assert json.loads((tmp_path / "leaderboard.json").read_text())["entries"][0]["name"] == "ease"


def test_entries_that_were_started_with_their_current_recipes_are_shown(finished: Path, files: Path) -> None:
    everyone = entries(files)
    assert {entry.name for entry in started_entries(finished, everyone)} == {
        "gmf",
        "mlp",
        "fused",
        "popularity",
        "ease",
    }
    changed = [replace(entry, space={}) if entry.name == "gmf" else entry for entry in everyone]
    assert "gmf" not in {entry.name for entry in started_entries(finished, changed)}


def test_a_folder_without_a_leaderboard_is_refused(tmp_path: Path, files: Path) -> None:
    with pytest.raises(ConfigError, match="no leaderboard in"):
        read_results(tmp_path, entries(files, ["ease"]), 1)
