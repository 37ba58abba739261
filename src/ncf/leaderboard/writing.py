"""What is written at the end, or from what is there: `index.html`, `leaderboard.md`, `leaderboard.json`.

In: a `Board` and its folder. Out: three files. The JSON has everything that the other two are made of.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ncf.data.files import storage_errors, write_text
from ncf.leaderboard import words
from ncf.leaderboard.board import Board
from ncf.leaderboard.markdown import markdown
from ncf.leaderboard.method import method
from ncf.leaderboard.page import leaderboard_page


def write_board(board: Board, folder: Path) -> Path:
    """Write all three; the page's path comes back. Raises `StorageError`, and `ConfigError` where matplotlib is missing."""
    with storage_errors(folder):
        write_text(
            folder / "leaderboard.json", json.dumps(to_json(board), indent=2, ensure_ascii=False) + "\n"
        )
        write_text(folder / "leaderboard.md", markdown(board))
        write_text(folder / "index.html", leaderboard_page(board))
    return folder / "index.html"


def to_json(board: Board) -> dict[str, Any]:
    """The board as one JSON object."""
    return {
        "data": board.data,
        "verdict": words.verdict(board),
        "contenders": [{"rank": place, **asdict(row)} for place, row in enumerate(board.rows, 1)],
        "not_judged": [asdict(row) for row in board.missing],
        "pairs": {measure: [asdict(pair) for pair in pairs] for measure, pairs in board.pairs.items()},
        "swaps": [asdict(swap) for swap in board.swaps],
        "tau": {"sampled_against_full": board.agreement, "validation_against_test": board.foresight},
        "users": board.users,
        "remarks": words.remarks(board),
        "method": method(board),
    }
