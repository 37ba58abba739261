"""The page of a search: how it went, which settings mattered, what the best trials have in common.

In: an `StudyResult`. Out: one HTML file that needs nothing else, plotly's script included, so that it opens without a network.
Importance is PED-ANOVA's: how much the trials among the best stand out in a setting.
"""

import html
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncf.data.files import storage_errors, write_text
from ncf.errors import ConfigError
from ncf.tuning.study import StudyResult
from ncf.tuning.trials import Trial

LEAST = 3
"""Complete trials without which importances and coordinates say nothing."""
SHOWN = 20
_TICKS = [digit * 10.0**power for power in range(-8, 8) for digit in (1, 2, 5)]
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; color: #1d2733; }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem } p { margin: .2rem 0 .8rem; color: #51606f }
.table { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap }
th, td { text-align: right; padding: .25rem .8rem; border-bottom: 1px solid #dfe5eb } th { color: #51606f; font-weight: 600 }
tr.best td { background: #e8f3ec; font-weight: 600 }
"""


def write_page(outcome: StudyResult, name: str, path: Path) -> Path:
    """Write the page of a study; raises `ConfigError` where plotly is missing."""
    try:
        from plotly import graph_objects
    except ImportError:
        raise ConfigError("The page of a search needs the package plotly: pip install 'ncf[tune]'.") from None
    complete = [trial for trial in outcome.trials if trial.state == "complete"]
    sections = [("How the search went", _counts(outcome.trials), _history(graph_objects, outcome))]
    if len(complete) >= LEAST:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna.visualization calls its evaluator experimental
            importances = _importances(graph_objects, outcome.study)
        if importances is not None:
            sections.append(
                ("Which settings mattered", "Share of what sets the best trials apart.", importances)
            )
        what = "One line a complete trial; drag along an axis to keep only the trials that cross it there."
        sections.append(("Settings of the complete trials", what, _coordinates(graph_objects, complete)))
    parts = [f"<h1>{html.escape(name)}</h1>", f"<p>{_headline(outcome)}</p>"]
    for place, (title, text, figure) in enumerate(sections):
        figure.update_layout(template="plotly_white", margin={"l": 60, "r": 60, "b": 50}, font={"size": 13})
        drawn = figure.to_html(full_html=False, include_plotlyjs=place == 0, config={"displayModeBar": False})
        parts.append(f"<h2>{title}</h2><p>{text}</p>{drawn}")
    parts.append(f"<h2>The best trials</h2>{_table(outcome.trials)}")
    document = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(name)}</title>"
    )
    with storage_errors(path):
        write_text(path, f"{document}<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>")
    return path


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Complete trials, the best first."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))


def written(value: Any) -> str:
    """A setting as a person reads it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _headline(outcome: StudyResult) -> str:
    best = outcome.best
    if best is None:
        return "No trial is complete yet."
    settings = ", ".join(f"{name} = {written(value)}" for name, value in best.parameters.items())
    return f"Best validation NDCG@10: <b>{best.value:.4f}</b>, trial {best.number}: {html.escape(settings)}."


def _counts(trials: Sequence[Trial]) -> str:
    words = {
        state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed")
    }
    return ", ".join(f"{count} {state}" for state, count in words.items() if count) + "."


def _history(go: Any, outcome: StudyResult) -> Any:
    """Each trial's value, and the best so far as steps."""
    figure = go.Figure()
    colours = {"complete": "#2a6fb0", "pruned": "#b8c4cf"}
    for state, colour in colours.items():
        trials = [trial for trial in outcome.trials if trial.state == state and trial.value is not None]
        figure.add_scatter(
            x=[trial.number for trial in trials], y=[trial.value for trial in trials], mode="markers", name=state,
            marker={"color": colour, "size": 9}, text=[_hover(trial) for trial in trials], hoverinfo="text",
        )  # fmt: skip
    numbers, best = [], list[float]()
    for trial in outcome.trials:
        if trial.state == "complete" and trial.value is not None:
            numbers.append(trial.number)
            best.append(max(trial.value, best[-1] if best else trial.value))
    figure.add_scatter(
        x=numbers, y=best, mode="lines", name="best so far", line={"shape": "hv", "color": "#d1495b"}
    )
    figure.update_xaxes(title="trial", tickformat="d")
    figure.update_yaxes(title="validation NDCG@10")
    figure.update_layout(height=380, margin={"t": 30}, legend={"orientation": "h", "y": 1.12})
    return figure


def _hover(trial: Trial) -> str:
    lines = [f"trial {trial.number}: {trial.value:.4f} after {trial.epochs} epochs"]
    return "<br>".join(lines + [f"{name} = {written(value)}" for name, value in trial.parameters.items()])


def _importances(go: Any, study: Any) -> Any:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    try:
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):
        return None  # all trials have the same value, or no setting varied
    names = sorted(shares, key=lambda name: shares[name])
    values = [shares[name] for name in names]
    bars = go.Bar(
        x=values, y=names, orientation="h", text=[f"{value:.0%}" for value in values], textposition="outside",
        marker={"color": "#2a6fb0"}, cliponaxis=False,
    )  # fmt: skip
    figure = go.Figure(bars)
    figure.update_xaxes(tickformat=".0%", range=[0, max(values) * 1.15 or 1])
    figure.update_yaxes(automargin=True)
    figure.update_layout(height=100 + 34 * len(names), margin={"t": 10})
    return figure


def _coordinates(go: Any, trials: Sequence[Trial]) -> Any:
    """Parallel coordinates, the best trials darkest."""
    axes = [_axis(name, [trial.parameters[name] for trial in trials]) for name in trials[0].parameters]
    figures = [trial.value for trial in trials]
    axes.append({"label": "NDCG@10", "values": figures, "tickformat": ".4f"})
    line = {"color": figures, "colorscale": "Viridis", "reversescale": True, "showscale": False}
    figure = go.Figure(go.Parcoords(dimensions=axes, line=line, labelside="top"))
    figure.update_layout(height=430, margin={"t": 60})
    return figure


def _axis(name: str, values: list[Any]) -> dict[str, Any]:
    """An axis of numbers, of their powers of ten where they span many, or of places for choices and a few whole numbers."""
    label = name.rpartition(".")[2]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    few = len(set(map(written, values))) <= 6 and not any(isinstance(value, float) for value in values)
    if not numbers or few:
        kinds = sorted(set(values)) if numbers else sorted(set(map(written, values)))
        places = [kinds.index(value if numbers else written(value)) for value in values]
        return {
            "label": label, "values": places, "tickvals": list(range(len(kinds))), "ticktext": [written(k) for k in kinds],
        }  # fmt: skip
    if min(values) <= 0 or max(values) / min(values) < 8:
        return {"label": label, "values": values, "tickformat": ".3~g"}
    logs = [math.log10(value) for value in values]
    ticks = [tick for tick in _TICKS if min(logs) <= math.log10(tick) <= max(logs)]
    return {
        "label": label, "values": logs, "tickvals": [math.log10(tick) for tick in ticks],
        "ticktext": [f"{tick:g}" for tick in ticks],
    }  # fmt: skip


def _table(trials: Sequence[Trial]) -> str:
    best = ranked(trials)[:SHOWN]
    if not best:
        return "<p>None is complete.</p>"
    names = list(best[0].parameters)
    head = "".join(
        f"<th>{html.escape(name)}</th>" for name in ("trial", "NDCG@10", "epochs", "seconds", *names)
    )
    rows = []
    for place, trial in enumerate(best):
        cells = [str(trial.number), f"{trial.value:.4f}", str(trial.epochs), f"{trial.seconds:.1f}"]
        cells += [written(trial.parameters.get(name)) for name in names]
        inside = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        rows.append(f"<tr{' class=best' if place == 0 else ''}>{inside}</tr>")
    return f"<div class='table'><table><tr>{head}</tr>{''.join(rows)}</table></div>"
