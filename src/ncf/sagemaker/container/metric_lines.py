"""Metric lines: what a training container prints, and the regular expressions that SageMaker finds figures with.

`[ncf] epoch=3 loss=0.2431 validation_hr@10=0.8301` is one line. The definitions go into a job's request, so that the
console's charts, `DescribeTrainingJob` and the tuner see the same names as `events.jsonl` has.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncf.tracking.tracker import Silent

OBJECTIVE = "validation_ndcg@10"
_NAMES = (
    "loss", "samples_per_second", "validation_hr@10", "validation_ndcg@10", "validation_mrr",
    "test_hr@10", "test_ndcg@10", "test_mrr",
)  # fmt: skip
_NUMBER = r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)"


class MetricLines(Silent):
    """Prints to standard output; each line is written at once."""

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        """The name of the run and of its model."""
        self.log(f"Training {run}: {settings['model']['kind']}, {settings['train']['epochs']} epochs.")

    def epoch(self, epoch: int, figures: Mapping[str, float]) -> None:
        """One line with every figure of the epoch."""
        self._line({"epoch": epoch, **figures})

    def log(self, sentence: str) -> None:
        """A line without figures."""
        _print(sentence)

    def finish(self, figures: Mapping[str, Any]) -> None:
        """The figures of the weights that were kept: validation once more, since a tuner takes the last value."""
        document = Path(figures["artifact"]) / "metrics.json"
        measured = json.loads(document.read_text("utf-8")) if document.is_file() else {}
        kept = measured.get("validation", {}).get("metrics", {})
        self._line(
            {f"validation_{name}": value for name, value in kept.items()}
            | {f"test_{name}": value for name, value in figures["metrics"].items()}
        )

    def _line(self, figures: Mapping[str, Any]) -> None:
        words = [f"{name}={value:.6g}" for name, value in figures.items() if isinstance(value, int | float)]
        _print(" ".join(words))


def _print(text: str) -> None:
    """In one write: AWS's toolkit puts what it reads at once on lines of its own, and would tear a line apart."""
    sys.stdout.write(f"[ncf] {text}\n")
    sys.stdout.flush()


def metric_definitions() -> list[dict[str, str]]:
    """`MetricDefinitions` of a training job (CreateTrainingJob, AlgorithmSpecification)."""
    return [{"Name": name, "Regex": rf"\[ncf\].*\b{re.escape(name)}={_NUMBER}"} for name in _NAMES]
