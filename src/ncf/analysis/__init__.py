"""Analysis of finished runs: both protocols, slices of users and items, cold users, and a split by time.

The evaluation wing measures whatever assigns scores. This wing knows runs: it opens them with the data they
were trained on, and it can train a recipe again on another split.
"""

from ncf.analysis.cold_items import ColdItems, evaluate_cold_items
from ncf.analysis.cold_start import ColdUsers, evaluate_cold_users
from ncf.analysis.evaluate import (
    GROUPS,
    PROTOCOLS,
    WARNING,
    compare_opened,
    compare_runs,
    evaluate,
    evaluate_both,
    grouped,
    is_quick,
    paired_runs,
    verdict_on,
)
from ncf.analysis.evaluated_run import EvaluatedRun, open_run
from ncf.analysis.temporal_split import TemporalEvaluation, evaluate_by_time, folders_of, is_split_by_time
from ncf.evaluation import EvaluationResult
from ncf.evaluation.slices import Group

__all__ = [
    "GROUPS",
    "PROTOCOLS",
    "WARNING",
    "ColdItems",
    "ColdUsers",
    "EvaluatedRun",
    "EvaluationResult",
    "Group",
    "TemporalEvaluation",
    "compare_opened",
    "compare_runs",
    "evaluate",
    "evaluate_both",
    "evaluate_by_time",
    "evaluate_cold_items",
    "evaluate_cold_users",
    "folders_of",
    "grouped",
    "is_quick",
    "is_split_by_time",
    "open_run",
    "paired_runs",
    "verdict_on",
]
