"""The two distributions, drawn."""

import numpy as np
import pytest

from ncf.analysis.report.ranked_users import RankedUsers, Ranking, log_edges
from ncf.analysis.report.ranks import _short, section
from ncf.data import HeldOut
from ncf.evaluation import EvaluationResult
from reports import html


def ranking(edges: np.ndarray, ranked: int) -> Ranking:
    reached = np.linspace(0.2, 1.0, len(edges))
    values = {f"hr@{edge}": np.full(4, share) for edge, share in zip(edges.tolist(), reached, strict=True)}
    rows = HeldOut(np.arange(4, dtype=np.int32), np.zeros((4, 1), np.int32))
    return Ranking(
        rows, EvaluationResult("x", "expected", values, {}, np.arange(4), {}), edges, np.full(4, ranked), {}
    )


@pytest.mark.parametrize("items", [7, 3706, 2_500_000])
def test_both_distributions_have_axes_chance_and_numbers(items: int) -> None:
    body = html(section(RankedUsers(ranking(np.arange(1, 101), 100), ranking(log_edges(items), items), 4)))
    assert body.count("<svg") == 2
    assert body.count(">chance<") == body.count(">model<") == 2
    for words in (
        "In candidate lists of 100",
        "share of held-out items (%)",
        "rank of the held-out item in its list",
        "share of held-out items (%)",
    ):
        assert f">{words}<" in body
    assert f"4 test rows, each ranked among a median of {items:,} items." in body


@pytest.mark.parametrize(
    ("rank", "words"),
    [(999, "999"), (1001, "1k"), (3706, "3.7k"), (50_001, "50k"), (199_970, "200k"), (2_500_000, "2.5M")],
)
def test_a_rank_is_short_from_a_thousand_on(rank: int, words: str) -> None:
    assert _short(rank) == words


def test_large_ranks_are_shortened() -> None:
    body = html(
        section(RankedUsers(ranking(np.arange(1, 6), 5), ranking(log_edges(20_000_000), 20_000_000), 4))
    )
    for words in (">501<", "–1k", "–2k", "–10k", "–500k", "–1M", "–20M"):
        assert words in body
