"""Metric lines: what a training container prints, and the regular expressions by which SageMaker reads it.

`[ncf] epoch=3 loss=0.2431 validation_hr@10=0.8301` is one line. The definitions go into a job's request, so
the console's charts, `DescribeTrainingJob` and the tuner use the names of `events.jsonl`.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncf.tracking.tracker import Phase, Silent

OBJECTIVE = "validation_ndcg@10"
_NAMES = (
    "loss", "samples_per_second", "validation_hr@10", "validation_ndcg@10", "validation_mrr",
    "test_hr@10", "test_ndcg@10", "test_mrr",
)  # fmt: skip
_NUMBER = r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)"


class MetricLines(Silent):
    """A tracker that prints to standard output, each line in one write."""

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        """Print the name of the run and the kind of its model."""
        self.log(f"Training {run}: {settings['model']['kind']}, {settings['train']['epochs']} epochs.")

    def phase_began(self, phase: Phase) -> None:
        """Print what begins, but for epochs, which end with a line of their own."""
        if not phase.of:
            self.log(f"Phase: {phase}.")

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Print one line with every figure of the epoch."""
        self._line({"epoch": epoch, **figures})

    def log(self, sentence: str) -> None:
        """Print a line without figures."""
        _print(sentence)

    def finish(self, figures: Mapping[str, Any]) -> None:
        """Print the figures of the kept weights; validation again, since a tuner reads the last value."""
        document = Path(figures["artifact"]) / "metrics.json"
        results = json.loads(document.read_text("utf-8")) if document.is_file() else {}
        kept = results.get("validation", {}).get("metrics", {})
        self._line(
            {f"validation_{name}": value for name, value in kept.items()}
            | {f"test_{name}": value for name, value in figures["metrics"].items()}
        )
        verdict = results.get("verdict") or {}
        for sentence in filter(None, (verdict.get("line"), verdict.get("warning"))):
            self.log(sentence)

    def _line(self, figures: Mapping[str, Any]) -> None:
        words = [f"{name}={value:.6g}" for name, value in figures.items() if isinstance(value, int | float)]
        _print(" ".join(words))


def _print(text: str) -> None:
    """Print in one write: AWS's toolkit would tear apart a line of several writes."""
    sys.stdout.write(f"[ncf] {text}\n")
    sys.stdout.flush()


def metric_definitions() -> list[dict[str, str]]:
    """`MetricDefinitions` of a training job (CreateTrainingJob, AlgorithmSpecification)."""
    return [{"Name": name, "Regex": rf"\[ncf\].*\b{re.escape(name)}={_NUMBER}"} for name in _NAMES]
