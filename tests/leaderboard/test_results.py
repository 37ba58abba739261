"""The board as it is read from a folder, and what is said and written of it."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from ncf.errors import ConfigError
from ncf.leaderboard import summary
from ncf.leaderboard.columns import figure, settings, short, size
from ncf.leaderboard.entries import entries
from ncf.leaderboard.export import markdown, write_board
from ncf.leaderboard.folder import begun
from ncf.leaderboard.page import leaderboard_page
from ncf.leaderboard.pairwise_tests import PairwiseTest
from ncf.leaderboard.results import LeaderboardResults, Row, Swap, read_board

MEASURES = ("sampled/ndcg@10", "sampled/hr@10", "full/ndcg@10", "full/hr@10")


def made(p_value: float = 0.001, swapped: bool = False) -> LeaderboardResults:
    """Three rows, the first two `p_value` apart and the last far behind; the second may be first by the full ranking."""
    level = {"A": 0.5, "B": 0.49, "C": 0.1}
    full = level | ({"B": 0.51} if swapped else {})
    rows = [
        Row(
            name.lower(), name, "somewhere", name == "C", {"train.epochs": 2}, level[name] + 0.01, 3, seeds=3,
            means={
                **{f"sampled/{one}": level[name] for one in ("ndcg@10", "hr@10", "mrr")},
                **{f"full/{one}": full[name] for one in ("ndcg@10", "hr@10", "mrr")},
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
    swaps = [Swap("A", "B", p_value < 0.05)] if swapped else []
    return LeaderboardResults(
        {"name": "set", "digest": "0" * 64}, rows, [], pairs, swaps, 1 / 3 if swapped else 1.0, 1.0, 100
    )


def test_rows_are_ordered_and_summed_up_over_seeds(board: LeaderboardResults, finished: Path) -> None:
    order = [row.means["sampled/ndcg@10"] for row in board.rows]
    assert order == sorted(order, reverse=True)
    gmf = next(row for row in board.rows if row.name == "gmf")
    of_seeds = [
        json.loads((finished / "gmf" / f"seed-{seed}.json").read_text())["figures"] for seed in (0, 1)
    ]
    ndcg = [one["sampled/ndcg@10"] for one in of_seeds]
    assert gmf.means["sampled/ndcg@10"] == pytest.approx(np.mean(ndcg))
    assert gmf.deviations["sampled/ndcg@10"] == pytest.approx(np.std(ndcg, ddof=1))
    low, high = gmf.intervals["sampled/ndcg@10"]
    assert low < gmf.means["sampled/ndcg@10"] < high
    ease = next(row for row in board.rows if row.name == "ease")
    assert (ease.seeds, ease.deviations, ease.baseline) == (1, {}, True)
    assert board.users == 120


def test_every_pair_is_tested_on_the_means_over_seeds(board: LeaderboardResults) -> None:
    assert {measure: len(pairs) for measure, pairs in board.pairs.items()} == dict.fromkeys(MEASURES, 10)
    means = {row.name: row.means for row in board.rows}
    for measure in MEASURES:
        for pair in board.pairs[measure]:
            assert pair.difference == pytest.approx(means[pair.a][measure] - means[pair.b][measure])
            turned = board.pair(measure, pair.b, pair.a)
            assert turned is not None
            assert (turned.difference, turned.low, turned.high) == (-pair.difference, -pair.high, -pair.low)


def test_what_nothing_beats_follows_from_the_tests_and_not_from_the_table() -> None:
    assert summary.verdict(made())[:2] == [
        "Nothing here beats A at p < .05 (NDCG@10 and HR@10, sampled ranking, test).",
        "Nothing here beats A at p < .05 (NDCG@10 and HR@10, full ranking, test).",
    ]
    unsure = summary.verdict(made(0.4))
    assert unsure[0] == "Nothing here beats A or B at p < .05 (NDCG@10 and HR@10, sampled ranking, test)."
    assert (
        "that cannot be told apart, by NDCG@10 (differences here) or by HR@10 (sampled): A and B (+.0100, p = .400)."
        in unsure[2]
    )


def test_an_order_that_the_protocols_do_not_share_is_named() -> None:
    assert "the same order" in summary.verdict(made())[3]
    said = summary.verdict(made(0.4, swapped=True))[3]
    assert "put 1 of 3 pairs in another order" in said
    assert (
        "A before B, and full ranking the other way round. For none of them are both tests significant."
        in said
    )
    assert "Both tests are significant for A and B." in summary.verdict(made(0.001, swapped=True))[3]


def crowd() -> LeaderboardResults:
    """Six that cannot be told apart and are the other way round by the full ranking, and G far behind."""
    board, one = made(), made().rows[0]
    sampled = dict(zip("ABCDEFG", (0.50, 0.49, 0.48, 0.46, 0.45, 0.44, 0.1), strict=True))
    rows = []
    for name, level in sampled.items():
        full = level if name == "G" else 0.9 - level
        means = {key: full if key.startswith("full/") else level for key in one.means}
        rows.append(replace(one, name=name.lower(), title=name, means=means))
    pairs = {
        measure: [
            PairwiseTest(a.name, b.name, *(3 * [a.means[measure] - b.means[measure]]), p, p)
            for a, b in combinations(rows, 2)
            for p in [0.001 if b.title == "G" else 0.4]
        ]
        for measure in MEASURES
    }
    swaps = [Swap(a, b, False) for a, b in combinations("ABCDEF", 2)]
    return replace(board, rows=rows, pairs=pairs, swaps=swaps, agreement=-0.43)


def test_many_are_summed_up() -> None:
    sampled, _, neighbours, protocols, _ = summary.verdict(crowd())
    assert (
        sampled
        == "Nothing here beats 6 of the 7 (all but G) at p < .05 (NDCG@10 and HR@10, sampled ranking, test)."
    )
    assert neighbours.endswith("A, B, C, D, E and F, each and the next (at most +.0200, p = .400).")
    assert "put 15 of 21 pairs in another order" in protocols
    assert "differ most, sampled and full, are A 1 and 6, F 6 and 1, B 2 and 5, E 5 and 2." in protocols


def test_searches_that_ended_early_are_told() -> None:
    board = made()
    rows = [replace(board.rows[0], out_of_time=True, trials=2, search_seconds=60.0), replace(board.rows[1], failed_trials=1), board.rows[2]]  # fmt: skip
    assert summary.remarks(replace(board, rows=rows)) == [
        "A: its search ended after 2 trials by the limit of time (60 s).",
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


def test_the_page_names_everybody_and_escapes_what_is_not_ours() -> None:
    board = made(0.4, swapped=True)
    hostile = replace(board.rows[0], title="<script>alert(1)</script>")
    page = leaderboard_page(replace(board, rows=[hostile, *board.rows[1:]]))
    assert "<script" not in page
    assert page.count("<svg") == 5
    assert "Far behind, and not drawn: C (.1000)." in page
    for section in (
        "Verdict",
        "Accuracy",
        "Lists and cost",
        "Every pair",
        "Sampled against full",
        "Settings",
    ):
        assert f"<h2>{section}</h2>" in page


def test_a_board_on_which_nobody_is_judged_yet_still_makes_a_page(finished: Path, files: Path) -> None:
    nobody = read_board(finished, entries(files, ["bpr"]), 2)
    assert nobody.rows == []
    assert "BPR: It is not done yet." in leaderboard_page(nobody).replace("&#x27;", "'")
    assert "not done yet" in markdown(nobody)


def test_a_single_contender_is_shown_without_pairs(finished: Path, files: Path, tmp_path: Path) -> None:
    alone = read_board(finished, entries(files, ["ease"]), 2)
    write_board(alone, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "index.html",
        "leaderboard.json",
        "leaderboard.md",
    ]
    assert json.loads((tmp_path / "leaderboard.json").read_text())["contenders"][0]["name"] == "ease"


def test_those_who_were_begun_with_the_recipes_of_now_are_shown(finished: Path, files: Path) -> None:
    everyone = entries(files)
    assert {one.name for one in begun(finished, everyone)} == {"gmf", "mlp", "fused", "popularity", "ease"}
    changed = [replace(one, space={}) if one.name == "gmf" else one for one in everyone]
    assert "gmf" not in {one.name for one in begun(finished, changed)}


def test_a_folder_without_a_leaderboard_is_refused(tmp_path: Path, files: Path) -> None:
    with pytest.raises(ConfigError, match="no leaderboard in"):
        read_board(tmp_path, entries(files, ["ease"]), 1)
