"""Judging: where the held-out item stands among its candidates, with which certainty, and against which other model."""

from ncf.evaluation.protocol import Judgement, judge_full, judge_sampled
from ncf.evaluation.statistics import Comparison, compare

__all__ = ["Comparison", "Judgement", "compare", "judge_full", "judge_sampled"]
