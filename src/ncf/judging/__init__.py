"""Judging a run again: both protocols side by side, by groups of users and items, cold users, and a split by time.

The evaluation wing judges whatever scores; this one knows runs, the data that they were trained on, and how to train a
recipe once more on another split.
"""

from ncf.evaluation import Judgement
from ncf.evaluation.groups import Group
from ncf.judging.cold import ColdUsers, judge_cold_users
from ncf.judging.groups import GROUPS, grouped
from ncf.judging.runs import PROTOCOLS, WARNING, compare_runs, is_quick, judge, judge_both
from ncf.judging.subject import Subject, open_subject
from ncf.judging.temporal import Temporal, folders_of, is_split_by_time, judge_by_time

__all__ = [
    "GROUPS",
    "PROTOCOLS",
    "WARNING",
    "ColdUsers",
    "Group",
    "Judgement",
    "Subject",
    "Temporal",
    "compare_runs",
    "folders_of",
    "grouped",
    "is_quick",
    "is_split_by_time",
    "judge",
    "judge_both",
    "judge_by_time",
    "judge_cold_users",
    "open_subject",
]
