"""What the run was: its settings, the facts of its data, and the commands that make it again.

In: a subject. Out: a section of facts. Paths are told as the caller gave them, or by their last part only, since pages
are passed on.
"""

import json
import shlex
from pathlib import Path
from typing import Any

from ncf.analysis.report.html import Markup, facts, table, text
from ncf.analysis.report.inputs import ReportInputs
from ncf.analysis.report.page import Section


def section(subject: ReportInputs) -> Section:
    """Model, data, audit, settings and commands."""
    reading = "Everything that decides the figures; the same settings on the same data give them again."
    body = f"<h3>Model</h3>{facts(_model(subject))}<h3>Data</h3>{facts(_data(subject))}{_audit(subject)}"
    body += f"<h3>Make it again</h3><pre>{text(_commands(subject))}</pre>"
    body += f"<h3>Settings</h3><pre class='settings'>{text(_settings(subject))}</pre>"
    return Section("Settings and data", reading, body)


def _settings(subject: ReportInputs) -> str:
    """A line a setting, as `--set` takes them."""
    sections = subject.artifact.experiment.model_dump(mode="json", include={"model", "train", "evaluation"})
    return "\n".join(
        f"{section}.{key} = {json.dumps(value)}"
        for section, values in sections.items()
        for key, value in values.items()
    )


def _model(subject: ReportInputs) -> list[tuple[str, object]]:
    artifact = subject.artifact
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


def _data(subject: ReportInputs) -> list[tuple[str, object]]:
    trained_on = subject.artifact.manifest["data"]
    found: list[tuple[str, object]] = [
        ("name", trained_on["name"]),
        ("digest", _code(trained_on["digest"][:16])),
    ]
    if subject.dataset is None:
        return [*found, ("users", f"{len(subject.artifact.users):,}"), ("items", f"{len(subject.artifact.items):,}"),
                ("note", subject.missing)]  # fmt: skip
    told = subject.dataset.description
    counts = {
        "users": len(subject.dataset.users), "items": len(subject.dataset.items), "training interactions": len(subject.dataset.train),
        "validation rows": len(subject.dataset.validation), "test rows": len(subject.dataset.test),
    }  # fmt: skip
    found += [(name, f"{count:,}") for name, count in counts.items()]
    split = told.get("split", {})
    found += [
        (f"split, {name.replace('_', ' ')}", value) for name, value in split.items() if isinstance(value, str)
    ]
    found += [("note", note) for note in split.get("notes", [])]
    return found + [(name, told[name]) for name in ("title", "licence", "citation") if told.get(name)]


def _audit(subject: ReportInputs) -> str:
    audit: dict[str, Any] = {} if subject.dataset is None else subject.dataset.description.get("audit", {})
    if not audit:
        return ""
    names = list(dict.fromkeys(name for counts in audit.values() for name in counts))
    rows = [
        (name.replace("_", " "), *(f"{counts.get(name, 0):,}" for counts in audit.values())) for name in names
    ]
    return table(["audit of the candidate lists", *audit], rows)


def _commands(subject: ReportInputs) -> str:
    run = shlex.quote(Path(subject.given).name)
    config = f"{run}/config.json" if subject.run is None else f"{run}/artifact/config.json"
    data = shlex.quote(Path(subject.data).name) if subject.data else "DATA"
    known = "" if subject.dataset is not None and subject.data is None else f" --data {data}"
    return "\n".join(
        [
            f"ncf train {config} --data {data} --output again",
            f"ncf evaluate {run}{known}",
            f"ncf report {run}{known}",
        ]
    )


def _code(value: str) -> Markup:
    return Markup(f"<code>{text(value)}</code>")
