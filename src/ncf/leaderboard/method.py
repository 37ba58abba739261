"""How the figures of a board were made, for those who want to trust them.

In: a `LeaderboardResults`. Out: sentences, the same on the page and in the Markdown.
"""

from ncf.leaderboard.pairwise_tests import RESAMPLES
from ncf.leaderboard.results import LeaderboardResults


def method(board: LeaderboardResults) -> list[str]:
    """One sentence or two a line."""
    most = max((row.trials for row in board.rows), default=0)
    return [
        f"Data: {board.data['name']} (digest {board.data['digest'][:12]}); {board.users:,} users with test positives. All "
        "contenders have the same split, candidate lists, rules for ties and code for judging.",
        f"Settings: up to {most} trials each, drawn by Optuna's TPE with one seed; the first trial is the recipe or the "
        "defaults, none is given up early, and validation NDCG@10 (sampled) decides. Contenders without settings have one "
        "trial.",
        "Final runs: the chosen settings and number of epochs, on training and validation positives, the last epoch, judged "
        "once on test. ± is the standard deviation over seeds; what does not depend on a seed is run once.",
        'Models of this package that start from a closed form (init = "auto") begin at a good recommender: their recipes '
        "say so, and docs/accuracy.md what training adds.",
        "Sampled: the positive among its candidate list. Full: among all items that the user is not known to have used. "
        "Sampled metrics can put models in another order than full ones (Krichene & Rendle, KDD'20).",
        "Intervals: 95%, bootstrap over users of each user's mean over seeds. They cover the choice of users, not of seeds.",
        f"Tests: paired permutation tests over users ({RESAMPLES:,} draws, two-sided) of each user's mean over seeds. p is "
        "shown after Holm's correction over all pairs of the same measure; a difference counts at p < .05. They do not "
        "cover the choice of seeds: a difference smaller than the ± of its models is not settled by them.",
        "Coverage, popularity bias and novelty are of the first 10 items of the full ranking. Coverage: the share of items "
        "that anybody is shown. Popularity bias: training uses of a shown item, over those of a used one. Novelty: mean "
        "-log2 of the shown items' shares of all interactions (Vargas & Castells, RecSys'11).",
        'Seconds to train: one final run, its start included, writing and judging not; "+" are the halves of a pre-trained '
        "model. Milliseconds to serve: the median time of one user's first 10 items out of the whole catalogue, every item "
        "scored, used ones masked, torch on one thread. Size: the arrays that scoring needs.",
    ]
