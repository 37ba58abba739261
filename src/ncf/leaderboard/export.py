"""What is written at the end, or from what is there: `index.html`, `leaderboard.md`, `leaderboard.json`.

In: a `LeaderboardResults` and its folder. Out: three files. The JSON has everything that the other two are made of.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ncf.data.files import storage_errors, write_text
from ncf.leaderboard import summary
from ncf.leaderboard.columns import ACCURACY, COST, LISTS, SEARCH
from ncf.leaderboard.method import method
from ncf.leaderboard.page import leaderboard_page
from ncf.leaderboard.results import LeaderboardResults


def markdown(board: LeaderboardResults) -> str:
    """The whole document."""
    columns = (*ACCURACY, *LISTS, *COST, *SEARCH)
    head = ["#", "model", *(column.heading for column in columns)]
    rules = ["---:", "---", *("---" if column.heading == "settings chosen" else "---:" for column in columns)]
    rows = [
        [str(place), row.title, *(column.text(row) for column in columns)]
        for place, row in enumerate(board.rows, 1)
    ]
    lines = [f"# Leaderboard: {board.data['name']}", ""]
    lines += [f"- {sentence}" for sentence in summary.verdict(board)]
    lines += ["", *(_line(cells) for cells in (head, rules, *rows)), ""]
    said = [*summary.failures(board), *summary.remarks(board)]
    lines += [*(f"- {sentence}" for sentence in said), *([""] if said else [])]
    lines += ["## How it was made", "", *(f"- {sentence}" for sentence in method(board))]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def write_board(board: LeaderboardResults, folder: Path) -> Path:
    """Write all three; the page's path comes back. Raises `StorageError`, and `ConfigError` where matplotlib is missing."""
    with storage_errors(folder):
        write_text(
            folder / "leaderboard.json", json.dumps(to_json(board), indent=2, ensure_ascii=False) + "\n"
        )
        write_text(folder / "leaderboard.md", markdown(board))
        write_text(folder / "index.html", leaderboard_page(board))
    return folder / "index.html"


def to_json(board: LeaderboardResults) -> dict[str, Any]:
    """The board as one JSON object."""
    return {
        "data": board.data,
        "verdict": summary.verdict(board),
        "contenders": [{"rank": place, **asdict(row)} for place, row in enumerate(board.rows, 1)],
        "not_judged": [asdict(row) for row in board.missing],
        "pairs": {measure: [asdict(pair) for pair in pairs] for measure, pairs in board.pairs.items()},
        "swaps": [asdict(swap) for swap in board.swaps],
        "tau": {
            "sampled_against_full": board.agreement,
            "validation_against_test": board.validation_test_tau,
        },
        "users": board.users,
        "remarks": summary.remarks(board),
        "method": method(board),
    }
