"""The model card next to a report: the artifact's own card, and what the report measured, as Markdown.

In: the inputs of a report and its figures. Out: the text of `MODEL_CARD.md`. The artifact's own card stays as
it is, because the manifest has its checksum.
"""

from collections.abc import Sequence
from typing import Any

from ncf.analysis.report.figures import WARNING
from ncf.analysis.report.inputs import ReportInputs
from ncf.analysis.report.page import interval, number
from ncf.analysis.report.ranked_users import K

MARK = "<!-- made by ncf report -->"


def card(inputs: ReportInputs, figures: dict[str, Any], page: str) -> str:
    """The card. `figures` are those of `ncf report --json`, `page` is the name of the HTML file."""
    own = (inputs.artifact.folder / "MODEL_CARD.md").read_text("utf-8").rstrip()
    parts = [MARK, own, "## Measured afterwards", f"By `ncf report`; drawn in [{page}]({page})."]
    if figures.get("sampled"):
        verdict = figures["verdict"] or {}
        parts += [text for text in (verdict.get("line"), verdict.get("warning"), WARNING) if text]
        parts.append(_headline(figures))
        for name, of in (("activity", "user"), ("popularity", "item")):
            parts += [f"### By {of} {name}", _groups(f"training interactions of the {of}", figures[name])]
        parts += ["### Calibration", _calibration(figures["calibration"])]
    else:
        parts.append(inputs.missing or "No test interactions were held out, so nothing could be measured.")
    return "\n\n".join(parts) + "\n"


def _calibration(figures: dict[str, float]) -> str:
    return (
        "Corrected for the share of positives in the lists, the mean predicted probability of a candidate "
        f"is {figures['mean_predicted']:.2%}, and {figures['observed']:.2%} are positives. The expected "
        f"calibration error is {figures['expected_calibration_error']:.4f}."
    )


def _headline(figures: dict[str, Any]) -> str:
    sampled, full = figures["sampled"], figures["full"]
    rows = []
    for name, pair in sampled["intervals"].items():
        row = [name, number(sampled["metrics"][name]), interval(pair)]
        rows.append([*row, number(full["metrics"][name]), interval(full["intervals"][name])])
    counts = (
        f"{sampled['rows']:,} rows in lists, {full['rows']:,} in the full ranking, {sampled['ties']} ties."
    )
    table = markdown(["metric", "candidate lists", "95% interval", "full ranking", "95% interval"], rows)
    return f"{counts}\n\n{table}"


def _groups(head: str, groups: dict[str, Any]) -> str:
    full = {group["group"]: group["metrics"][f"hr@{K}"] for group in groups["full"]}
    rows = []
    for group in groups["sampled"]:
        hits = [number(group["metrics"][f"hr@{K}"]), interval(group["intervals"].get(f"hr@{K}"))]
        rows.append([group["group"], f"{group['rows']:,}", *hits, number(full.get(group["group"]))])
    return markdown([head, "rows", f"HR@{K}, lists", "95% interval", f"HR@{K}, full"], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with the headings `head`."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
