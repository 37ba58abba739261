"""A leaderboard as JSON and as Markdown, and the columns of its tables.

In: `LeaderboardResults`. Out: an object with everything that is shown, and a document. The columns are one
list for the page, the Markdown and the terminal; several seeds are shown as "mean ± standard deviation".
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ncf.leaderboard import summary
from ncf.leaderboard.results import LeaderboardResults, Row
from ncf.leaderboard.summary import short

NONE = "–"


@dataclass(frozen=True)
class Column:
    """The heading of a column, and how it shows a row."""

    heading: str
    text: Callable[[Row], str]


def figure(row: Row, name: str, digits: int = 4) -> str:
    """The mean of the measure `name` with its deviation over seeds, where there are several."""
    if name not in row.means:
        return NONE
    mean = short(row.means[name], digits)
    return f"{mean} ± {short(row.deviations[name], digits)}" if name in row.deviations else mean


def interval(row: Row, name: str) -> str:
    """The 95% interval over users of the measure `name`."""
    return " – ".join(map(short, row.intervals[name])) if name in row.intervals else NONE


def size(count: int) -> str:
    """A number of bytes in a unit that suits it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"


def settings(values: Mapping[str, Any]) -> str:
    """Chosen settings by the last part of their names."""
    return ", ".join(f"{name.rpartition('.')[2]} {setting(value)}" for name, value in values.items()) or NONE


def setting(value: Any) -> str:
    """The value of a setting, with no more digits than matter."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "[" + ", ".join(map(setting, value)) + "]" if isinstance(value, list) else str(value)


def _seconds(row: Row) -> str:
    """Seconds of the final run; those of a fused model's halves are added to them."""
    parts = [row.seconds, *([row.seconds_of_halves] if row.seconds_of_halves else [])]
    return " + ".join(f"{value:.1f}" if value < 100 else f"{value:,.0f}" for value in parts)


def _measure(heading: str, name: str, digits: int = 4) -> Column:
    return Column(heading, lambda row: figure(row, name, digits))


ACCURACY = (
    _measure("HR@10 sampled", "sampled/hr@10"),
    _measure("NDCG@10 sampled", "sampled/ndcg@10"),
    _measure("MRR sampled", "sampled/mrr"),
    _measure("HR@10 full", "full/hr@10"),
    _measure("NDCG@10 full", "full/ndcg@10"),
)
LISTS = (
    _measure("coverage@10", "full/coverage@10", 3),
    _measure("popularity bias@10", "full/popularity_bias@10", 2),
    _measure("novelty@10, bits", "full/novelty@10", 2),
)
COST = (
    Column("seconds to train", _seconds),
    Column("ms to serve", lambda row: f"{row.milliseconds:.2f}"),
    Column("size", lambda row: size(row.bytes)),
)
SEARCH = (
    Column("trials", lambda row: str(row.trials)),
    Column("settings chosen", lambda row: settings(row.settings)),
)


def markdown(results: LeaderboardResults) -> str:
    """The leaderboard as a Markdown document: the findings, one table, and how it was made."""
    columns = (*ACCURACY, *LISTS, *COST, *SEARCH)
    head = ["#", "model", *(column.heading for column in columns)]
    rules = ["---:", "---", *("---" if column.heading == "settings chosen" else "---:" for column in columns)]
    rows = [
        [str(rank), row.title, *(column.text(row) for column in columns)]
        for rank, row in enumerate(results.rows, 1)
    ]
    table = [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in (head, rules, *rows)
    ]
    parts = [
        _sentences(summary.summarize(results)),
        table,
        _sentences([*summary.failures(results), *summary.remarks(results)]),
        ["## How it was made"],
        _sentences(summary.method(results)),
    ]
    title = f"# Leaderboard: {results.data['name']}"
    return "\n\n".join([title, *("\n".join(part) for part in parts if part)]) + "\n"


def _sentences(sentences: list[str]) -> list[str]:
    return [f"- {sentence}" for sentence in sentences]


def to_json(results: LeaderboardResults) -> dict[str, Any]:
    """The leaderboard as one JSON object."""
    return {
        "data": results.data,
        "summary": summary.summarize(results),
        "entries": [{"rank": rank, **asdict(row)} for rank, row in enumerate(results.rows, 1)],
        "not_evaluated": [asdict(row) for row in results.missing],
        "pairwise_tests": {
            measure: [asdict(pair) for pair in pairs] for measure, pairs in results.pairs.items()
        },
        "discordant_pairs": [asdict(pair) for pair in results.discordant_pairs],
        "kendall_tau": {
            "sampled_and_full": results.sampled_full_tau,
            "validation_and_test": results.validation_test_tau,
        },
        "users": results.users,
        "remarks": summary.remarks(results),
        "method": summary.method(results),
    }
