"""What the run was: its settings, the facts of its data, and the commands that make it again.

In: the inputs of a report. Out: a section of facts. Paths are told as the caller gave them, or by their last part only, since pages
are passed on.
"""

import json
import shlex
from pathlib import Path
from typing import Any

from ncf.analysis.report.html import Markup, facts, table, text
from ncf.analysis.report.inputs import ReportInputs
from ncf.analysis.report.page import Section


def section(inputs: ReportInputs) -> Section:
    """Model, data, audit, settings and commands."""
    reading = "Everything that decides the figures; the same settings on the same data give them again."
    body = f"<h3>Model</h3>{facts(_model(inputs))}<h3>Data</h3>{facts(_data(inputs))}{_audit(inputs)}"
    body += f"<h3>Make it again</h3><pre>{text(_commands(inputs))}</pre>"
    body += f"<h3>Settings</h3><pre class='settings'>{text(_settings(inputs))}</pre>"
    return Section("Settings and data", reading, body)


def _settings(inputs: ReportInputs) -> str:
    """A line a setting, as `--set` takes them."""
    sections = inputs.artifact.experiment.model_dump(mode="json", include={"model", "train", "evaluation"})
    return "\n".join(
        f"{section}.{key} = {json.dumps(value)}"
        for section, values in sections.items()
        for key, value in values.items()
    )


def _model(inputs: ReportInputs) -> list[tuple[str, object]]:
    artifact = inputs.artifact
    manifest, metrics = artifact.manifest, artifact.metrics
    size = sum(int(file["bytes"]) for file in manifest["files"].values())
    found: list[tuple[str, object]] = [
        (
            "kind",
            artifact.experiment.model.kind + (", pre-trained" if artifact.experiment.pretraining else ""),
        ),
        ("parameters", f"{sum(value.size for value in artifact.weights.values()):,}"),
        ("artifact", f"{size / 2**20:,.1f} MiB, written {manifest['created']}"),
        ("weights", metrics.get("selected", "not recorded")),
        ("seed", artifact.experiment.train.seed),
        ("versions", ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())),
        ("digest of the settings", _code(manifest["experiment"]["digest"][:16])),
    ]
    if "seconds" in metrics:
        found.insert(4, ("seconds, training and judging", f"{metrics['seconds']:,.1f}"))
    return found


def _data(inputs: ReportInputs) -> list[tuple[str, object]]:
    trained_on = inputs.artifact.manifest["data"]
    found: list[tuple[str, object]] = [
        ("name", trained_on["name"]),
        ("digest", _code(trained_on["digest"][:16])),
    ]
    if inputs.dataset is None:
        return [*found, ("users", f"{len(inputs.artifact.users):,}"), ("items", f"{len(inputs.artifact.items):,}"),
                ("note", inputs.missing)]  # fmt: skip
    told = inputs.dataset.description
    counts = {
        "users": len(inputs.dataset.users), "items": len(inputs.dataset.items), "training interactions": len(inputs.dataset.train),
        "validation rows": len(inputs.dataset.validation), "test rows": len(inputs.dataset.test),
    }  # fmt: skip
    found += [(name, f"{count:,}") for name, count in counts.items()]
    split = told.get("split", {})
    found += [
        (f"split, {name.replace('_', ' ')}", value) for name, value in split.items() if isinstance(value, str)
    ]
    found += [("note", note) for note in split.get("notes", [])]
    return found + [(name, told[name]) for name in ("title", "licence", "citation") if told.get(name)]


def _audit(inputs: ReportInputs) -> str:
    audit: dict[str, Any] = {} if inputs.dataset is None else inputs.dataset.description.get("audit", {})
    if not audit:
        return ""
    names = list(dict.fromkeys(name for counts in audit.values() for name in counts))
    rows = [
        (name.replace("_", " "), *(f"{counts.get(name, 0):,}" for counts in audit.values())) for name in names
    ]
    return table(["audit of the candidate lists", *audit], rows)


def _commands(inputs: ReportInputs) -> str:
    run = shlex.quote(Path(inputs.given).name)
    config = f"{run}/config.json" if inputs.run is None else f"{run}/artifact/config.json"
    data = shlex.quote(Path(inputs.data).name) if inputs.data else "DATA"
    known = "" if inputs.dataset is not None and inputs.data is None else f" --data {data}"
    return "\n".join(
        [
            f"ncf train {config} --data {data} --output again",
            f"ncf evaluate {run}{known}",
            f"ncf report {run}{known}",
        ]
    )


def _code(value: str) -> Markup:
    return Markup(f"<code>{text(value)}</code>")
