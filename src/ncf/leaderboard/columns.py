"""The columns of the table: one list for the page, the Markdown and the terminal.

In: a `Row`. Out: texts. A figure of several seeds is "mean ± standard deviation".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ncf.leaderboard.results import Row

NONE = "–"


@dataclass(frozen=True)
class Column:
    """A heading and what stands below it."""

    heading: str
    text: Callable[[Row], str]


def short(value: float, digits: int = 4, sign: str = "") -> str:
    """A figure without its leading zero: .6341; `sign` "+" writes one in any case but for what rounds to zero."""
    written = f"{value:{sign}.{digits}f}"
    if float(written) == 0.0:
        return f"{0.0:.{digits}f}"[1:]
    return written.replace("0.", ".", 1) if abs(value) < 1 else written


def figure(row: Row, name: str, digits: int = 4) -> str:
    """A mean with its deviation over seeds, where there is one."""
    if name not in row.means:
        return NONE
    mean = short(row.means[name], digits)
    return f"{mean} ± {short(row.deviations[name], digits)}" if name in row.deviations else mean


def interval(row: Row, name: str) -> str:
    """95% over users."""
    return " – ".join(map(short, row.intervals[name])) if name in row.intervals else NONE


def seconds(row: Row) -> str:
    """Of the final run; a fused model's halves come on top."""
    own = _seconds(row.seconds)
    return f"{own} + {_seconds(row.seconds_of_halves)}" if row.seconds_of_halves else own


def size(count: int) -> str:
    """Bytes in a unit of their size."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"


def settings(values: Mapping[str, Any]) -> str:
    """Chosen settings by the last part of their names."""
    return ", ".join(f"{name.rpartition('.')[2]} {setting(value)}" for name, value in values.items()) or NONE


def setting(value: Any) -> str:
    """One value, with no more digits than matter."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "[" + ", ".join(map(setting, value)) + "]" if isinstance(value, list) else str(value)


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


ACCURACY = (
    Column("HR@10 sampled", lambda row: figure(row, "sampled/hr@10")),
    Column("NDCG@10 sampled", lambda row: figure(row, "sampled/ndcg@10")),
    Column("MRR sampled", lambda row: figure(row, "sampled/mrr")),
    Column("HR@10 full", lambda row: figure(row, "full/hr@10")),
    Column("NDCG@10 full", lambda row: figure(row, "full/ndcg@10")),
)
LISTS = (
    Column("coverage@10", lambda row: figure(row, "full/coverage@10", 3)),
    Column("popularity bias@10", lambda row: figure(row, "full/popularity_bias@10", 2)),
    Column("novelty@10, bits", lambda row: figure(row, "full/novelty@10", 2)),
)
COST = (
    Column("seconds to train", seconds),
    Column("ms to serve", lambda row: f"{row.milliseconds:.2f}"),
    Column("size", lambda row: size(row.bytes)),
)
SEARCH = (
    Column("trials", lambda row: str(row.trials)),
    Column("settings chosen", lambda row: settings(row.settings)),
)
