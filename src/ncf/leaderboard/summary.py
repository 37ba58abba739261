"""What the tests say, in sentences.

In: a `LeaderboardResults`. Out: plain sentences. The decision worth knowing: a sentence is made from tests alone; a difference that
is not significant after Holm's correction is never told as one, however it looks in the table.
"""

from collections.abc import Sequence
from itertools import pairwise

from ncf.leaderboard.columns import short
from ncf.leaderboard.pairwise_tests import LEVEL
from ncf.leaderboard.results import FULL_ORDER, ORDER, LeaderboardResults, Row

MEASURES = {
    "sampled/ndcg@10": "NDCG@10, sampled",
    "sampled/hr@10": "HR@10, sampled",
    "full/ndcg@10": "NDCG@10, full",
    "full/hr@10": "HR@10, full",
}
_SURE = f"p < {LEVEL:g}".replace("0.", ".")
_CLOSE = 1.0
_MANY, _PAIR = 4, 2


def verdict(board: LeaderboardResults) -> list[str]:
    """The sentences at the head of the board."""
    if len(board.rows) < 2:
        return []
    return [
        *(_unbeaten(board, protocol) for protocol in ("sampled", "full")),
        *_neighbours(board),
        *_protocols(board),
        *_foresight(board),
    ]


def failures(board: LeaderboardResults) -> list[str]:
    """One sentence for each that is not judged."""
    return [f"{row.title}: {row.failure}" for row in board.missing]


def remarks(board: LeaderboardResults) -> list[str]:
    """What must be known of single rows: searches that ran out of time, trials that failed, fewer seeds than others."""
    most = max((row.trials for row in board.rows), default=0)
    said = [
        f"{row.title}: its search ended after {row.trials} trials by the limit of time ({row.search_seconds:,.0f} s)."
        for row in board.rows
        if row.out_of_time
    ]
    said += [
        f"{row.title}: {row.failed_trials} of its {row.trials} trials failed."
        for row in board.rows
        if row.failed_trials
    ]
    fewer = [row.title for row in board.rows if not row.out_of_time and 1 < row.trials < most]
    if fewer:
        said.append(
            f"{_list(fewer)} had fewer trials than the others, which had {most}: run the same command once more."
        )
    return said


def ranks(board: LeaderboardResults, measure: str) -> dict[str, int]:
    """Place of each contender by a measure, from 1."""
    order = sorted(board.rows, key=lambda row: -row.means[measure])
    return {row.name: place for place, row in enumerate(order, 1)}


def unbeaten(board: LeaderboardResults, measure: str) -> list[Row]:
    """Those than whom nobody is significantly better."""
    return [
        row
        for row in board.rows
        if not any(
            (pair := board.pair(measure, other.name, row.name)) and pair.significant and pair.difference > 0
            for other in board.rows
            if other is not row
        )
    ]


def _unbeaten(board: LeaderboardResults, protocol: str) -> str:
    """Nothing here beats X: by NDCG@10 and by HR@10 of one protocol."""
    by = {name: unbeaten(board, f"{protocol}/{name}") for name in ("ndcg@10", "hr@10")}
    how = f"{protocol} ranking, test"
    ndcg, hr = (_those(board, rows) for rows in by.values())
    if ndcg == hr:
        return f"Nothing here beats {ndcg} at {_SURE} (NDCG@10 and HR@10, {how})."
    return f"Nothing here beats {ndcg} at {_SURE} by NDCG@10, nor {hr} by HR@10 ({how})."


def _those(board: LeaderboardResults, rows: list[Row]) -> str:
    """The unbeaten by name, or where they are many the others."""
    beaten = [row.title for row in board.rows if row not in rows]
    if len(rows) <= _MANY:
        return _list([row.title for row in rows], "or")
    return f"{len(rows)} of the {len(board.rows)} (all but {_list(beaten)})" if beaten else "any other"


def _neighbours(board: LeaderboardResults) -> list[str]:
    """Runs of neighbours in the order that cannot be told apart, by neither measure."""
    runs: list[list[Row]] = [board.rows[:1]]
    for row in board.rows[1:]:
        if _alike(board, runs[-1][-1], row):
            runs[-1].append(row)
        else:
            runs.append([row])
    said = [_run(board, run) for run in runs if len(run) > 1]
    if not said:
        return [
            "All neighbours in the order by NDCG@10 (sampled) differ significantly, by NDCG@10 or by HR@10."
        ]
    return [
        "Neighbours in the order that cannot be told apart, by NDCG@10 (differences here) or by HR@10 (sampled): "
        + "; ".join(said)
        + "."
    ]


def _alike(board: LeaderboardResults, first: Row, second: Row) -> bool:
    pairs = [board.pair(f"sampled/{name}", first.name, second.name) for name in ("ndcg@10", "hr@10")]
    return all(pair is not None and not pair.significant for pair in pairs)


def _run(board: LeaderboardResults, run: list[Row]) -> str:
    """Two by name with their difference; more as a run, with the largest difference of two neighbours."""
    pairs = [board.pair(ORDER, a.name, b.name) for a, b in pairwise(run)]
    largest = max((pair for pair in pairs if pair), key=lambda pair: abs(pair.difference))
    step = f"{short(largest.difference, sign='+')}, p = {_p(largest.corrected)}"
    if len(run) == _PAIR:
        return f"{run[0].title} and {run[1].title} ({step})"
    return f"{_list([row.title for row in run])}, each and the next (at most {step})"


def _protocols(board: LeaderboardResults) -> list[str]:
    """Whether sampled and full ranking put the contenders in another order."""
    if not board.swaps:
        return ["Sampled and full ranking put the contenders in the same order (NDCG@10, Kendall's tau 1)."]
    certain = [f"{swap.a} and {swap.b}" for swap in board.swaps if swap.certain]
    significant = (
        f"Both tests are significant for {_list(certain)}."
        if certain
        else "For none of them are both tests significant."
    )
    return [
        f"Sampled and full ranking put {len(board.swaps)} of {_pairs(board)} pairs in another order (NDCG@10, Kendall's tau "
        f"{board.agreement:.2f}): {_moves(board)}. {significant}"
    ]


def _moves(board: LeaderboardResults) -> str:
    """The pairs in another order, or where they are many the contenders whose places differ most."""
    if len(board.swaps) <= _MANY:
        named = "; ".join(f"{swap.a} before {swap.b}" for swap in board.swaps)
        return f"sampled ranking has {named}, and full ranking the other way round"
    sampled, full = (ranks(board, measure) for measure in (ORDER, FULL_ORDER))
    rows = sorted(board.rows, key=lambda row: -abs(full[row.name] - sampled[row.name]))[:_MANY]
    moved = [f"{row.title} {sampled[row.name]} and {full[row.name]}" for row in rows]
    return f"the places that differ most, sampled and full, are {', '.join(moved)}"


def _foresight(board: LeaderboardResults) -> list[str]:
    """How well validation predicted test."""
    by_validation = max(board.rows, key=lambda row: row.validation or 0.0)
    by_test = board.rows[0]
    first = (
        f"both put {by_test.title} first"
        if by_validation is by_test
        else f"validation puts {by_validation.title} first, and test {by_test.title}"
    )
    return [
        f"The order by validation NDCG@10 predicts that by test with Kendall's tau {board.validation_test_tau:.2f}; {first}. "
        "Validation is of the best trial, test of the final runs."
    ]


def _pairs(board: LeaderboardResults) -> int:
    return len(board.pairs[ORDER])


def _list(names: Sequence[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def _p(value: float) -> str:
    return "1" if value >= _CLOSE else short(value, 3)
