"""The model card: the artifact's own, and tables that Markdown reads."""

from pathlib import Path

from ncf.analysis.report.card import MARK, card, markdown
from ncf.analysis.report.inputs import open_report_inputs


def test_a_cell_cannot_end_its_column() -> None:
    assert markdown(["a"], [["b | c"]]) == "| a |\n| --- |\n| b \\| c |"


def test_without_figures_the_card_says_why(run: Path) -> None:
    inputs = open_report_inputs(run)
    text = card(inputs, {}, "page.html")
    own = (run / "artifact" / "MODEL_CARD.md").read_text()
    assert text.startswith(f"{MARK}\n\n{own.rstrip()}")
    assert "[page.html](page.html)" in text
    assert "No test interactions were held out, so nothing could be measured." in text
