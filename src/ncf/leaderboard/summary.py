"""The results of a leaderboard in sentences, and how they were obtained.

In: `LeaderboardResults`. Out: plain sentences, the same on the page, in the Markdown and in the terminal. The
decision worth knowing: a sentence follows from tests alone. A difference that is not significant after Holm's
correction is never reported as one, however it looks in the table.
"""

from collections.abc import Sequence
from itertools import pairwise

from ncf.leaderboard.pairwise_tests import LEVEL, RESAMPLES
from ncf.leaderboard.results import FULL_ORDER, ORDER, LeaderboardResults, Row

MEASURES = {
    "sampled/ndcg@10": "NDCG@10, sampled",
    "sampled/hr@10": "HR@10, sampled",
    "full/ndcg@10": "NDCG@10, full",
    "full/hr@10": "HR@10, full",
}
_LEVEL = f"{LEVEL:g}".replace("0.", ".")
_CLOSE = 1.0
_MANY = 4
"""More models than these are counted and not named."""


def short(value: float, digits: int = 4, sign: str = "") -> str:
    """A figure without its leading zero: .6341. A `sign` of "+" is left out where it rounds to zero."""
    written = f"{value:{sign}.{digits}f}"
    if float(written) == 0.0:
        return f"{0.0:.{digits}f}"[1:]
    return written.replace("0.", ".", 1) if abs(value) < 1 else written


def summarize(results: LeaderboardResults) -> list[str]:
    """The findings: who is first, what cannot be separated, how the orders agree. Empty for fewer than two
    models.
    """
    if len(results.rows) < 2:
        return []
    return [
        *(_first_place(results, protocol) for protocol in ("sampled", "full")),
        _adjacent(results),
        _protocols(results),
        _validation(results),
    ]


def failures(results: LeaderboardResults) -> list[str]:
    """One sentence for each model that was not evaluated."""
    return [f"{row.title}: {row.failure}" for row in results.missing]


def remarks(results: LeaderboardResults) -> list[str]:
    """Remarks on single rows: searches out of time, failed trials, fewer trials than others."""
    most = max((row.trials for row in results.rows), default=0)
    sentences = [
        f"{row.title}: its search reached the time limit after {row.trials} trials "
        f"({row.search_seconds:,.0f} s)."
        for row in results.rows
        if row.out_of_time
    ]
    sentences += [
        f"{row.title}: {row.failed_trials} of its {row.trials} trials failed."
        for row in results.rows
        if row.failed_trials
    ]
    fewer = [row.title for row in results.rows if not row.out_of_time and 1 < row.trials < most]
    if fewer:
        sentences.append(f"{_list(fewer)} had fewer than {most} trials: run the same command again.")
    return sentences


def ranks(results: LeaderboardResults, measure: str) -> dict[str, int]:
    """The rank of each model by a measure, from 1."""
    order = sorted(results.rows, key=lambda row: -row.means[measure])
    return {row.name: rank for rank, row in enumerate(order, 1)}


def unbeaten(results: LeaderboardResults, measure: str) -> list[Row]:
    """The models that no other model beats significantly by `measure`."""
    return [
        row
        for row in results.rows
        if not any(
            (pair := results.pair(measure, other.name, row.name)) and pair.significant and pair.difference > 0
            for other in results.rows
            if other is not row
        )
    ]


def method(results: LeaderboardResults) -> list[str]:
    """How the figures were obtained: one or two sentences a line."""
    most = max((row.trials for row in results.rows), default=0)
    return [
        f"Data: {results.data['name']} (digest {results.data['digest'][:12]}); {results.users:,} users with "
        "test positives. All models share the split, the candidate lists, the tie rule and the evaluation "
        "code.",
        f"Settings: up to {most} trials each, drawn by Optuna's TPE with one seed. The first trial is the "
        "recipe or the defaults, no trial is pruned, and validation NDCG@10 (sampled) decides. Models "
        "without settings have one trial.",
        "Final runs: the chosen settings and number of epochs, on training and validation positives; the "
        "last epoch is evaluated once on test. ± is the standard deviation over seeds. Models without "
        "randomness are run once.",
        'Models of this package with init = "spectral" start from a closed-form solution that is already a '
        "good recommender. docs/accuracy.md shows what training adds.",
        "Sampled: the positive is ranked in its candidate list. Full: among all items that the user is not "
        "known to have used. Sampled metrics can rank models differently from full ones (Krichene & "
        "Rendle, KDD'20).",
        "Intervals: 95%, bootstrap over users of each user's mean over seeds. They cover the choice of "
        "users, not of seeds.",
        f"Tests: paired permutation tests over users ({RESAMPLES:,} draws, two-sided) of each user's mean "
        "over seeds. p is shown after Holm's correction over all pairs of the same measure, and a "
        f"difference counts at p < {_LEVEL}. The tests do not cover the choice of seeds either: a "
        "difference smaller than the ± of its models is not settled.",
        "Coverage, popularity bias and novelty describe the first 10 items of the full ranking. Coverage: "
        "the share of items that are recommended to someone. Popularity bias: training uses of a "
        "recommended item, relative to those of a used one. Novelty: mean -log2 of the recommended items' "
        "shares of all interactions (Vargas & Castells, RecSys'11).",
        'Seconds to train: one final run without evaluation; "+" adds the halves of a fused model. '
        "Milliseconds to serve: the median time of one user's first 10 items, with every item scored and "
        "used ones masked, torch on one thread. Size: the arrays that scoring needs.",
    ]


def _first_place(results: LeaderboardResults, protocol: str) -> str:
    ndcg, hr = (unbeaten(results, f"{protocol}/{name}") for name in ("ndcg@10", "hr@10"))
    by = f"{_first(results, ndcg)} by NDCG@10"
    by += " and HR@10" if ndcg == hr else f", and {_first(results, hr)} by HR@10"
    certainty = f"nothing beats it at p < {_LEVEL}"
    if len(ndcg) > 1 or len(hr) > 1:
        certainty = f"the data cannot separate them (p ≥ {_LEVEL})"
    return f"On the {protocol} ranking {by}; {certainty}."


def _first(results: LeaderboardResults, rows: list[Row]) -> str:
    """Who is in first place, such as "A is first"; many models are counted and not named."""
    if len(rows) == 1:
        return f"{rows[0].title} is first"
    beaten = [row.title for row in results.rows if row not in rows]
    names = _list([row.title for row in rows])
    if not beaten:
        names = f"all {len(rows)} models"
    elif len(rows) > _MANY:
        names = f"{len(rows)} of the {len(results.rows)} models (all but {_list(beaten)})"
    return f"{names} share first place"


def _adjacent(results: LeaderboardResults) -> str:
    """Which models next to each other in the table do not differ, by either measure."""
    runs: list[list[Row]] = [results.rows[:1]]
    for row in results.rows[1:]:
        if _alike(results, runs[-1][-1], row):
            runs[-1].append(row)
        else:
            runs.append([row])
    alike = [_run(results, run) for run in runs if len(run) > 1]
    by = "by NDCG@10 or by HR@10 (sampled)"
    if not alike:
        return f"All adjacent models differ significantly, {by}."
    who = "No two adjacent models" if len(runs) == 1 else "These adjacent models do not"
    return f"{who} differ significantly, {by}: {'; '.join(alike)}."


def _alike(results: LeaderboardResults, first: Row, second: Row) -> bool:
    pairs = [results.pair(f"sampled/{name}", first.name, second.name) for name in ("ndcg@10", "hr@10")]
    return all(pair is not None and not pair.significant for pair in pairs)


def _run(results: LeaderboardResults, run: list[Row]) -> str:
    """The models in their order, with the largest gap in NDCG@10 between two that are adjacent."""
    pairs = [results.pair(ORDER, a.name, b.name) for a, b in pairwise(run)]
    largest = max((pair for pair in pairs if pair), key=lambda pair: abs(pair.difference))
    p_value = "1" if largest.p_corrected >= _CLOSE else short(largest.p_corrected, 3)
    gap = "gap" if len(run) == 2 else "largest gap"
    return f"{' > '.join(row.title for row in run)} ({gap} {short(largest.difference)}, p = {p_value})"


def _protocols(results: LeaderboardResults) -> str:
    """Whether the sampled and the full ranking order the models differently."""
    pairs = results.discordant_pairs
    if not pairs:
        return "Sampled and full ranking order the models identically (NDCG@10, Kendall's tau 1)."
    both = [f"{pair.a} and {pair.b}" for pair in pairs if pair.both_significant]
    tests = (
        f"Both tests are significant for {_list(both)}."
        if both
        else "For no pair are both tests significant."
    )
    return (
        f"Sampled and full ranking disagree on {len(pairs)} of {len(results.pairs[ORDER])} pairs (NDCG@10, "
        f"Kendall's tau {results.sampled_full_tau:.2f}): {_moves(results)}. {tests}"
    )


def _moves(results: LeaderboardResults) -> str:
    """The pairs in another order, or the models whose ranks change most where the pairs are many."""
    if len(results.discordant_pairs) <= _MANY:
        named = "; ".join(f"{pair.a} > {pair.b}" for pair in results.discordant_pairs)
        return f"the sampled ranking has {named}, the full ranking the opposite"
    sampled, full = (ranks(results, measure) for measure in (ORDER, FULL_ORDER))
    rows = sorted(results.rows, key=lambda row: -abs(full[row.name] - sampled[row.name]))[:_MANY]
    moved = [f"{row.title} from {sampled[row.name]} to {full[row.name]}" for row in rows]
    return f"the largest changes of rank, sampled to full, are {_list(moved)}"


def _validation(results: LeaderboardResults) -> str:
    """How well validation predicted test."""
    by_validation = max(results.rows, key=lambda row: row.validation or 0.0)
    by_test = results.rows[0]
    first = f"both rank {by_test.title} first"
    if by_validation is not by_test:
        first = f"validation ranks {by_validation.title} first, test ranks {by_test.title} first"
    return (
        f"Kendall's tau between validation and test NDCG@10 is {results.validation_test_tau:.2f}; {first}. "
        "Validation figures are of the best trial, test figures of the final runs."
    )


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
