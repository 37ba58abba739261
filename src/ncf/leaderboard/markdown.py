"""The board as Markdown: one table and the sentences.

In: a `Board`. Out: text that stands as it is in a README or an issue.
"""

from ncf.leaderboard import words
from ncf.leaderboard.board import Board
from ncf.leaderboard.columns import ACCURACY, COST, LISTS, SEARCH
from ncf.leaderboard.method import method


def markdown(board: Board) -> str:
    """The whole document."""
    columns = (*ACCURACY, *LISTS, *COST, *SEARCH)
    head = ["#", "model", *(column.heading for column in columns)]
    rules = ["---:", "---", *("---" if column.heading == "settings chosen" else "---:" for column in columns)]
    rows = [
        [str(place), row.title, *(column.text(row) for column in columns)]
        for place, row in enumerate(board.rows, 1)
    ]
    lines = [f"# Leaderboard: {board.data['name']}", ""]
    lines += [f"- {sentence}" for sentence in words.verdict(board)]
    lines += ["", *(_line(cells) for cells in (head, rules, *rows)), ""]
    said = [*words.failures(board), *words.remarks(board)]
    lines += [*(f"- {sentence}" for sentence in said), *([""] if said else [])]
    lines += ["## How it was made", "", *(f"- {sentence}" for sentence in method(board))]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
