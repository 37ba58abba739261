"""The model card beside a report: the artifact's own, and what the report measured, as Markdown.

In: the inputs of a report and the figures of its report. Out: the text of `MODEL_CARD.md`. The artifact's card is left as it is, since
its manifest vouches for it.
"""

from collections.abc import Sequence
from typing import Any

from ncf.analysis.report.figures import WARNING
from ncf.analysis.report.html import interval, number
from ncf.analysis.report.inputs import ReportInputs
from ncf.analysis.report.ranked_users import K

MARK = "<!-- made by ncf report -->"


def card(inputs: ReportInputs, figures: dict[str, Any], page: str) -> str:
    """`figures` as `ncf report --json` prints them; `page` is the name of the HTML file."""
    own = (inputs.artifact.folder / "MODEL_CARD.md").read_text("utf-8").rstrip()
    parts = [own, "## Measured afterwards", f"By `ncf report`; drawn in [{page}]({page})."]
    if figures.get("sampled"):
        parts += [WARNING, _headline(figures)]
        parts += ["### By user activity", _groups("training interactions of the user", figures["activity"])]
        parts += [
            "### By item popularity",
            _groups("training interactions of the item", figures["popularity"]),
        ]
        words = figures["calibration"]
        parts += [
            "### Calibration",
            f"Corrected for the share of positives in the lists, the model gives a candidate {words['mean_predicted']:.2%} on average, where "
            f"{words['observed']:.2%} are positives; expected calibration error {words['expected_calibration_error']:.4f}.",
        ]
    else:
        parts.append(inputs.missing or "No test interactions were held out, so nothing could be measured.")
    return "\n\n".join([MARK, *parts]) + "\n"


def _headline(figures: dict[str, Any]) -> str:
    sampled, full = figures["sampled"], figures["full"]
    rows = [
        [
            name, number(sampled["metrics"][name]), interval(sampled["intervals"][name]),
            number(full["metrics"][name]), interval(full["intervals"][name]),
        ]
        for name in sampled["intervals"]
    ]  # fmt: skip
    said = f"{sampled['rows']:,} rows in lists, {full['rows']:,} in the full ranking, {sampled['ties']} ties."
    return (
        said
        + "\n\n"
        + markdown(["metric", "candidate lists", "95% interval", "full ranking", "95% interval"], rows)
    )


def _groups(head: str, groups: dict[str, Any]) -> str:
    full = {group["group"]: group for group in groups["full"]}
    rows = []
    for group in groups["sampled"]:
        other = full.get(group["group"])
        value = other["metrics"][f"hr@{K}"] if other else None
        rows.append(
            [
                group["group"], f"{group['rows']:,}", number(group["metrics"][f"hr@{K}"]),
                interval(group["intervals"].get(f"hr@{K}")), number(value),
            ]
        )  # fmt: skip
    return markdown([head, "rows", f"HR@{K}, lists", "95% interval", f"HR@{K}, full"], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
