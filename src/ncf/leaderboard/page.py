"""The page of a leaderboard: the verdict first, then the table, the pairs, the drawings, and how it was made.

In: a `LeaderboardResults`. Out: one HTML document that needs nothing else.
"""

from collections.abc import Sequence

from ncf.analysis.report.html import Markup, facts, table, text
from ncf.analysis.report.page import Section, page
from ncf.leaderboard import plots, summary
from ncf.leaderboard.columns import ACCURACY, COST, LISTS, Column, interval, setting, short
from ncf.leaderboard.method import method
from ncf.leaderboard.results import LeaderboardResults, Row

_FEW = 2


def leaderboard_page(board: LeaderboardResults) -> str:
    """The document; of a board on which nobody is judged yet it holds only why."""
    data = board.data["name"]
    judged = f"{len(board.rows)} contenders" if len(board.rows) != 1 else "One contender"
    lead = f"<p>{judged}, tuned with the same budget and judged by the same rules on {text(data)}.</p>"
    sections = [Section("Verdict", "", _sentences(summary.verdict(board)))] if len(board.rows) >= _FEW else []
    if board.rows:
        sections += [_table(board), _cost(board)]
    if len(board.rows) >= _FEW:
        sections += [_pairs(board), _protocols(board), _foresight(board)]
    sections += [_search(board)] if board.rows else []
    if board.missing:
        sections.append(Section("Not judged", "", _sentences(summary.failures(board))))
    sections.append(Section("How it was made", "", _sentences(method(board))))
    return page(f"Leaderboard: {data}", lead, sections)


def _table(board: LeaderboardResults) -> Section:
    explained = (
        "Ordered by NDCG@10, sampled. ± is the standard deviation over seeds; marked rows are those that nothing here beats "
        "at p &lt; .05 by that measure."
    )
    best = {row.name for row in summary.unbeaten(board, "sampled/ndcg@10")}
    marked = [place for place, row in enumerate(board.rows) if row.name in best and len(board.rows) >= _FEW]
    body = _rows(board, ACCURACY, marked) + plots.accuracy(board)
    spans = [
        Column("HR@10 sampled", lambda row: interval(row, "sampled/hr@10")),
        Column("NDCG@10 sampled", lambda row: interval(row, "sampled/ndcg@10")),
        Column("HR@10 full", lambda row: interval(row, "full/hr@10")),
        Column("NDCG@10 full", lambda row: interval(row, "full/ndcg@10")),
    ]
    body += "<h3>95% intervals over users, of the mean over seeds</h3>" + _rows(board, spans)
    return Section("Accuracy", explained, body)


def _cost(board: LeaderboardResults) -> Section:
    explained = "What the first 10 items of the full ranking are like, and what each contender costs."
    return Section(
        "Lists and cost",
        explained,
        _rows(board, (*LISTS, *COST)) + plots.cost(board) + plots.popularity(board),
    )


def _rows(board: LeaderboardResults, columns: Sequence[Column], marked: Sequence[int] = ()) -> str:
    head = ["model", *(column.heading for column in columns)]
    rows = [[_title(row), *(column.text(row) for column in columns)] for row in board.rows]
    return table(head, rows, marked=marked)


def _pairs(board: LeaderboardResults) -> Section:
    explained = (
        "The row's figure less the column's, and p after Holm's correction over all pairs below it; bold where p &lt; .05. "
        "Numbers at the head are the rows' places."
    )
    body = "".join(
        f"<h3>{text(title)}</h3>{_matrix(board, measure)}" for measure, title in summary.MEASURES.items()
    )
    return Section("Every pair", explained, body)


def _matrix(board: LeaderboardResults, measure: str) -> str:
    """Rows in the order of the board; the lower half only, since the upper is its mirror."""
    head = ["", *(str(place) for place in range(1, len(board.rows)))]
    rows = []
    for place, row in enumerate(board.rows[1:], 1):
        cells: list[object] = [_title(row, f"{place + 1} ")]
        cells += [_cell(board, measure, row, other) for other in board.rows[:place]]
        rows.append(cells + [""] * (len(board.rows) - 1 - place))
    return f"<p>1 is {text(board.rows[0].title)}.</p>" + table(head, rows)


def _cell(board: LeaderboardResults, measure: str, row: Row, other: Row) -> Markup:
    pair = board.pair(measure, row.name, other.name)
    assert pair is not None
    shown = short(pair.difference, sign="+").replace("-", "−")
    shown = f"<b>{shown}</b>" if pair.significant else shown
    p = "&lt; .001" if pair.corrected < 0.001 else short(pair.corrected, 3)
    return Markup(f"{shown}<br><small>p {p}</small>")


def _protocols(board: LeaderboardResults) -> Section:
    explained = (
        "Sampled metrics can put models in another order than full ones (Krichene &amp; Rendle, KDD'20). Where the two "
        "disagree, the full ranking is what a user of the catalogue would see."
    )
    return Section("Sampled against full", explained, plots.orders(board) + _swaps(board))


def _swaps(board: LeaderboardResults) -> str:
    if not board.swaps:
        return "<p>No pair is in another order.</p>"
    head = ["sampled puts first", "full puts first", "both tests significant"]
    return table(head, [[swap.a, swap.b, "yes" if swap.certain else "no"] for swap in board.swaps], left=3)


def _foresight(board: LeaderboardResults) -> Section:
    explained = "Whether the hold-out by which settings were chosen orders the contenders as test does."
    return Section("Validation against test", explained, plots.validation_test_tau(board))


def _search(board: LeaderboardResults) -> Section:
    explained = (
        "What the search found for each; settings that are not named are those of the contender's recipe."
    )
    head = ["model", "settings chosen", "validation NDCG@10", "trials", "seconds of search", "seeds"]
    rows = [
        [
            _title(row),
            _settings(row),
            short(row.validation or 0.0),
            row.trials,
            f"{row.search_seconds:,.0f}",
            row.seeds,
        ]
        for row in board.rows
    ]
    sources = "<h3>Where they come from</h3>" + facts([(row.title, row.source) for row in board.rows])
    return Section(
        "Settings", explained, table(head, rows, left=2) + _sentences(summary.remarks(board)) + sources
    )


def _title(row: Row, place: str = "") -> Markup:
    """A name that is not broken into lines."""
    return Markup(f"<span style='white-space: nowrap'>{place}{text(row.title)}</span>")


def _settings(row: Row) -> Markup:
    lines = [f"{text(name)} = {text(setting(value))}" for name, value in row.settings.items()]
    return Markup("<br>".join(lines) or "–")


def _sentences(sentences: Sequence[str]) -> str:
    return (
        "<ul>" + "".join(f"<li>{text(sentence)}</li>" for sentence in sentences) + "</ul>"
        if sentences
        else ""
    )
