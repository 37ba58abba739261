"""The page of a leaderboard, and the files that are written with it.

In: `LeaderboardResults`. Out: one HTML document that needs nothing else: the findings first, then the table,
the pairs, the drawings, and how it was made.
"""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from ncf.analysis.report.page import Block, Facts, Heading, Section, Sentences, TableBlock, Text, page
from ncf.data.files import json_text, storage_errors, write_text
from ncf.leaderboard import plots, summary
from ncf.leaderboard.export import ACCURACY, COST, LISTS, Column, interval, markdown, setting, to_json
from ncf.leaderboard.results import LeaderboardResults, Row
from ncf.leaderboard.summary import short

_FEW = 2


def write_results(results: LeaderboardResults, folder: Path) -> Path:
    """Write `index.html`, `leaderboard.md` and `leaderboard.json` into `folder`, and return the path of the
    page.

    Raises `StorageError`, and `ConfigError` where matplotlib or jinja2 is missing.
    """
    document = json_text(to_json(results), 2, ascii=False)
    with storage_errors(folder):
        write_text(folder / "leaderboard.json", document + "\n")
        write_text(folder / "leaderboard.md", markdown(results))
        write_text(folder / "index.html", leaderboard_page(results))
    return folder / "index.html"


def leaderboard_page(results: LeaderboardResults) -> str:
    """The document; where no model was evaluated yet, it only says why."""
    data, several = results.data["name"], len(results.rows) >= _FEW
    models = f"{len(results.rows)} models" if len(results.rows) != 1 else "One model"
    lead = Text(f"{models}, tuned with the same budget and evaluated by the same rules on {data}.")
    sections = [Section("Summary", "", [Sentences(summary.summarize(results))])] if several else []
    if results.rows:
        sections += [_table(results), _cost(results)]
    if several:
        sections += [_pairs(results), _protocols(results), _validation(results)]
    sections += [_search(results)] if results.rows else []
    if results.missing:
        sections.append(Section("Not evaluated", "", [Sentences(summary.failures(results))]))
    sections.append(Section("How it was made", "", [Sentences(summary.method(results))]))
    return page(f"Leaderboard: {data}", [lead], sections, "made by ncf leaderboard")


def _table(results: LeaderboardResults) -> Section:
    reading = (
        "Ordered by NDCG@10, sampled. ± is the standard deviation over seeds. No other model beats the "
        "highlighted ones at p < .05 by that measure."
    )
    best = {row.name for row in summary.unbeaten(results, "sampled/ndcg@10")}
    marked = [
        index for index, row in enumerate(results.rows) if row.name in best and len(results.rows) >= _FEW
    ]
    spans = [
        Column("HR@10 sampled", lambda row: interval(row, "sampled/hr@10")),
        Column("NDCG@10 sampled", lambda row: interval(row, "sampled/ndcg@10")),
        Column("HR@10 full", lambda row: interval(row, "full/hr@10")),
        Column("NDCG@10 full", lambda row: interval(row, "full/ndcg@10")),
    ]
    blocks: list[Block] = [_rows(results, ACCURACY, marked), plots.accuracy(results)]
    blocks += [Heading("95% intervals over users, of the mean over seeds"), _rows(results, spans)]
    return Section("Accuracy", reading, blocks)


def _cost(results: LeaderboardResults) -> Section:
    reading = "What the first 10 items of the full ranking are like, and what each model costs."
    blocks: list[Block] = [_rows(results, (*LISTS, *COST)), plots.cost(results), plots.popularity(results)]
    return Section("Lists and cost", reading, blocks)


def _rows(results: LeaderboardResults, columns: Sequence[Column], marked: Sequence[int] = ()) -> TableBlock:
    rows = [[_title(row), *(column.text(row) for column in columns)] for row in results.rows]
    return TableBlock(["model", *(column.heading for column in columns)], rows, marked=marked)


def _pairs(results: LeaderboardResults) -> Section:
    reading = (
        "The figure of the row minus that of the column, and below it p after Holm's correction over all "
        "pairs; bold where p < .05. The numbers in the header are the ranks of the models."
    )
    blocks: list[Block] = []
    for measure, title in summary.MEASURES.items():
        blocks += [Heading(title), Text(f"1 is {results.rows[0].title}."), _matrix(results, measure)]
    return Section("Every pair", reading, blocks)


def _matrix(results: LeaderboardResults, measure: str) -> TableBlock:
    """The models in their order; only the lower half, because the upper one mirrors it."""
    head = ["", *(str(rank) for rank in range(1, len(results.rows)))]
    rows = []
    for index, row in enumerate(results.rows[1:], 1):
        cells = [_cell(results, measure, row, other) for other in results.rows[:index]]
        rows.append([_title(row, f"{index + 1} "), *cells, *[""] * (len(results.rows) - 1 - index)])
    return TableBlock(head, rows)


def _cell(results: LeaderboardResults, measure: str, row: Row, other: Row) -> Markup:
    pair = results.pair(measure, row.name, other.name)
    assert pair is not None
    form = "<b>{}</b><br><small>p {}</small>" if pair.significant else "{}<br><small>p {}</small>"
    p_value = "< .001" if pair.p_corrected < 0.001 else short(pair.p_corrected, 3)
    return Markup(form).format(short(pair.difference, sign="+").replace("-", "−"), p_value)


def _protocols(results: LeaderboardResults) -> Section:
    reading = (
        "Sampled metrics can rank models differently from full ones (Krichene & Rendle, KDD'20). Where the "
        "two disagree, the full ranking is what a user of the catalogue would see."
    )
    pairs: Block = Text("No pair is ordered differently.")
    if results.discordant_pairs:
        head = ["first on the sampled ranking", "first on the full ranking", "both tests significant"]
        rows = [
            [pair.a, pair.b, "yes" if pair.both_significant else "no"] for pair in results.discordant_pairs
        ]
        pairs = TableBlock(head, rows, left=3)
    return Section("Sampled and full ranking", reading, [plots.orders(results), pairs])


def _validation(results: LeaderboardResults) -> Section:
    reading = (
        "Whether the validation set, by which settings were chosen, orders the models as the test set does."
    )
    return Section("Validation and test", reading, [plots.validation(results)])


def _search(results: LeaderboardResults) -> Section:
    reading = "The settings that each search chose; other settings are those of the model's recipe."
    head = ["model", "settings chosen", "validation NDCG@10", "trials", "seconds of search", "seeds"]
    rows = []
    for row in results.rows:
        figures = [short(row.validation or 0.0), row.trials, f"{row.search_seconds:,.0f}", row.seeds]
        rows.append([_title(row), _settings(row), *figures])
    blocks: list[Block] = [
        TableBlock(head, rows, left=2),
        Sentences(summary.remarks(results)),
        Heading("Sources"),
    ]
    return Section("Settings", reading, [*blocks, Facts([(row.title, row.source) for row in results.rows])])


def _title(row: Row, rank: str = "") -> Markup:
    """A name that is not broken into lines."""
    return Markup('<span class="unbroken">{}{}</span>').format(rank, row.title)


def _settings(row: Row) -> Markup:
    lines = [Markup("{} = {}").format(name, setting(value)) for name, value in row.settings.items()]
    return Markup("<br>").join(lines) or Markup("–")
