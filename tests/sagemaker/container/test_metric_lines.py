"""What is printed is what SageMaker's regular expressions find."""

import json
import re
from pathlib import Path

import pytest

from ncf.sagemaker.container.metric_lines import OBJECTIVE, MetricLines, metric_definitions


def found(text: str) -> dict[str, list[float]]:
    """As SageMaker searches a log: every match of every definition, line by line."""
    return {
        one["Name"]: [float(value) for line in text.splitlines() for value in re.findall(one["Regex"], line)]
        for one in metric_definitions()
    }


def test_figures_of_epochs_and_of_the_end_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {"hr@10": 0.625, "ndcg@10": 0.375, "mrr": 0.125}
    (tmp_path / "metrics.json").write_text(json.dumps({"validation": {"metrics": kept}}), "utf-8")
    lines = MetricLines()
    lines.start("small", {"model": {"kind": "gmf"}, "train": {"epochs": 2}})
    lines.epoch(1, {"loss": 0.25, "samples_per_second": 123456.7, "validation_hr@10": 0.5})
    lines.epoch(2, {"loss": 1.5e-7, "validation_ndcg@10": 1.0, "best": True})
    lines.finish({"metrics": {"hr@10": 0.75, "ndcg@10": 0.5, "mrr": 0.25}, "artifact": str(tmp_path)})
    figures = found(capsys.readouterr().out)
    assert figures["loss"] == [0.25, 1.5e-7]
    assert figures["samples_per_second"] == [123457]
    assert (figures["validation_hr@10"], figures["validation_ndcg@10"]) == ([0.5, 0.625], [1.0, 0.375])
    assert (figures["test_hr@10"], figures["test_ndcg@10"], figures["test_mrr"]) == ([0.75], [0.5], [0.25])
    assert figures["validation_mrr"] == [0.125]


def test_sentences_are_no_figures(capsys: pytest.CaptureFixture[str]) -> None:
    MetricLines().log("The loss fell.")
    printed = capsys.readouterr().out
    assert printed == "[ncf] The loss fell.\n"
    assert not any(found(printed).values())


def test_the_objective_is_one_of_them_and_names_are_unique() -> None:
    names = [one["Name"] for one in metric_definitions()]
    assert OBJECTIVE in names
    assert len(set(names)) == len(names) <= 40  # CreateTrainingJob admits 40.


def test_a_line_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's toolkit tears apart what comes in several."""
    writes: list[str] = []
    monkeypatch.setattr("sys.stdout.write", writes.append)
    MetricLines().epoch(1, {"loss": 0.5, "validation_mrr": 0.25})
    MetricLines().log("Halfway.")
    assert writes == ["[ncf] epoch=1 loss=0.5 validation_mrr=0.25\n", "[ncf] Halfway.\n"]
