"""What the run was: its settings, the facts of its data, and the commands that reproduce it.

In: the inputs of a report. Out: a section of facts. Only the last part of a path is shown, because pages are
passed on.
"""

import json
import shlex
from pathlib import Path
from typing import Any

from ncf.analysis.report.inputs import ReportInputs
from ncf.analysis.report.page import Block, Code, Facts, Heading, Section, TableBlock


def section(inputs: ReportInputs) -> Section:
    """Model, data, audit, commands and settings."""
    reading = "Everything that determines the figures; the same settings on the same data reproduce them."
    blocks = [Heading("Model"), Facts(_model(inputs)), Heading("Data"), Facts(_data(inputs)), *_audit(inputs)]
    blocks += [Heading("Reproduce it"), Code(_commands(inputs))]
    return Section(
        "Settings and data", reading, [*blocks, Heading("Settings"), Code(_settings(inputs), columns=True)]
    )


def _settings(inputs: ReportInputs) -> str:
    """One setting a line, as `--set` takes them."""
    sections = inputs.artifact.experiment.model_dump(mode="json", include={"model", "train", "evaluation"})
    return "\n".join(
        f"{section}.{key} = {json.dumps(value)}"
        for section, values in sections.items()
        for key, value in values.items()
    )


def _model(inputs: ReportInputs) -> list[tuple[str, object]]:
    artifact = inputs.artifact
    manifest, metrics, experiment = artifact.manifest, artifact.metrics, artifact.experiment
    size = sum(int(file["bytes"]) for file in manifest["files"].values())
    facts: list[tuple[str, object]] = [
        ("kind", experiment.model.kind + (", pre-trained" if experiment.pretraining else "")),
        ("parameters", f"{sum(value.size for value in artifact.weights.values()):,}"),
        ("artifact", f"{size / 2**20:,.1f} MiB, written {manifest['created']}"),
        ("weights", metrics.get("selected", "not recorded")),
        ("seed", experiment.train.seed),
        ("versions", ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())),
        ("digest of the settings", manifest["experiment"]["digest"][:16]),
    ]
    if "seconds" in metrics:
        facts.insert(4, ("seconds, training and evaluation", f"{metrics['seconds']:,.1f}"))
    return facts


def _data(inputs: ReportInputs) -> list[tuple[str, object]]:
    trained_on, dataset = inputs.artifact.manifest["data"], inputs.dataset
    facts: list[tuple[str, object]] = [("name", trained_on["name"]), ("digest", trained_on["digest"][:16])]
    if dataset is None:
        counts = {"users": len(inputs.artifact.users), "items": len(inputs.artifact.items)}
        return [*facts, *((name, f"{count:,}") for name, count in counts.items()), ("note", inputs.missing)]
    counts = {
        "users": len(dataset.users), "items": len(dataset.items), "training interactions": len(dataset.train),
        "validation rows": len(dataset.validation), "test rows": len(dataset.test),
    }  # fmt: skip
    facts += [(name, f"{count:,}") for name, count in counts.items()]
    description = dataset.description
    split = description.get("split", {})
    facts += [
        (f"split, {name.replace('_', ' ')}", value) for name, value in split.items() if isinstance(value, str)
    ]
    facts += [("note", note) for note in split.get("notes", [])]
    return facts + [
        (name, description[name]) for name in ("title", "licence", "citation") if description.get(name)
    ]


def _audit(inputs: ReportInputs) -> list[Block]:
    audit: dict[str, Any] = {} if inputs.dataset is None else inputs.dataset.description.get("audit", {})
    if not audit:
        return []
    names = list(dict.fromkeys(name for counts in audit.values() for name in counts))
    rows = [
        (name.replace("_", " "), *(f"{counts.get(name, 0):,}" for counts in audit.values())) for name in names
    ]
    return [TableBlock(["audit of the candidate lists", *audit], rows)]


def _commands(inputs: ReportInputs) -> str:
    run = shlex.quote(Path(inputs.given).name)
    config = f"{run}/config.json" if inputs.run is None else f"{run}/artifact/config.json"
    data = shlex.quote(Path(inputs.data).name) if inputs.data else "DATA"
    known = "" if inputs.dataset is not None and inputs.data is None else f" --data {data}"
    return (
        f"ncf train {config} --data {data} --output again\nncf evaluate {run}{known}\nncf report {run}{known}"
    )
