"""The page of a search: how it went, which settings mattered, and what the best trials have in common.

In: a `StudyResult`. Out: one HTML file that needs nothing else; plotly's script is in it, so it opens without
a network. The importance of a setting is PED-ANOVA's: how much the best trials stand out in it.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncf.analysis.report.page import Block, Drawing, Section, TableBlock, Text, page
from ncf.analysis.report.svg import SERIES, SOFT
from ncf.data.files import storage_errors, write_text
from ncf.errors import imported
from ncf.tuning.study import StudyResult
from ncf.tuning.trials import Trial

LEAST = 3
"""With fewer complete trials, importances and coordinates say nothing."""
SHOWN = 20
_TICKS = [digit * 10.0**power for power in range(-8, 8) for digit in (1, 2, 5)]
_GRID = "rgba(122, 135, 148, .3)"
_LAYOUT = {
    "template": "none", "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"size": 13, "color": SOFT}, "margin": {"l": 60, "r": 60, "b": 50},
}  # fmt: skip


def write_page(result: StudyResult, name: str, path: Path) -> Path:
    """Write the page of the study `name` to `path`; `ConfigError` where plotly or jinja2 is missing."""
    graph_objects = imported("tune", "plotly.graph_objects")
    complete = [trial for trial in result.trials if trial.state == "complete"]
    plots = [("How the search went", _counts(result.trials), _history(graph_objects, result))]
    if len(complete) >= LEAST:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna.visualization calls its evaluator experimental
            importances = _importances(graph_objects, result.study)
        if importances is not None:
            plots.append(
                ("Which settings mattered", "Share of what sets the best trials apart.", importances)
            )
        reading = "One line for each complete trial. Drag along an axis to filter the trials."
        plots.append(("Settings of the complete trials", reading, _coordinates(graph_objects, complete)))
    sections = []
    for index, (title, reading, figure) in enumerate(plots):
        figure.update_layout(**_LAYOUT)
        figure.update_xaxes(gridcolor=_GRID, zerolinecolor=_GRID).update_yaxes(
            gridcolor=_GRID, zerolinecolor=_GRID
        )
        options = {"full_html": False, "include_plotlyjs": index == 0, "config": {"displayModeBar": False}}
        sections.append(Section(title, reading, [Drawing(figure.to_html(**options), title)]))
    sections.append(Section("The best trials", "", [_table(result.trials)]))
    document = page(name, [Text(_headline(result))], sections, "made by ncf tune", script=True)
    with storage_errors(path):
        write_text(path, document)
    return path


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials, best first."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))


def written(value: Any) -> str:
    """The value of a setting as a person reads it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _headline(result: StudyResult) -> str:
    best = result.best
    if best is None:
        return "No trial is complete yet."
    settings = ", ".join(f"{name} = {written(value)}" for name, value in best.parameters.items())
    return f"Best validation NDCG@10: {best.value:.4f}, trial {best.number}: {settings}."


def _counts(trials: Sequence[Trial]) -> str:
    counts = {
        state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed")
    }
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) + "."


def _history(go: Any, result: StudyResult) -> Any:
    """The value of each trial, and the best so far as steps."""
    figure = go.Figure()
    for state, colour in {"complete": SERIES[0], "pruned": SOFT}.items():
        trials = [trial for trial in result.trials if trial.state == state and trial.value is not None]
        x, y = [trial.number for trial in trials], [trial.value for trial in trials]
        form = {"mode": "markers", "marker": {"color": colour, "size": 9}, "hoverinfo": "text"}
        figure.add_scatter(x=x, y=y, name=state, text=[_hover(trial) for trial in trials], **form)
    numbers, best = [], list[float]()
    for trial in result.trials:
        if trial.state == "complete" and trial.value is not None:
            numbers.append(trial.number)
            best.append(max(trial.value, best[-1] if best else trial.value))
    line = {"shape": "hv", "color": SERIES[1]}
    figure.add_scatter(x=numbers, y=best, mode="lines", name="best so far", line=line)
    figure.update_xaxes(title="trial", tickformat="d")
    figure.update_yaxes(title="validation NDCG@10")
    return figure.update_layout(height=380, margin={"t": 30}, legend={"orientation": "h", "y": 1.12})


def _hover(trial: Trial) -> str:
    settings = [f"{name} = {written(value)}" for name, value in trial.parameters.items()]
    return "<br>".join([f"trial {trial.number}: {trial.value:.4f} after {trial.epochs} epochs", *settings])


def _importances(go: Any, study: Any) -> Any:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    try:
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):
        return None  # all trials have the same value, or no setting varied
    names = sorted(shares, key=lambda name: shares[name])
    values = [shares[name] for name in names]
    labels = {"text": [f"{value:.0%}" for value in values], "textposition": "outside", "cliponaxis": False}
    figure = go.Figure(go.Bar(x=values, y=names, orientation="h", marker={"color": SERIES[0]}, **labels))
    figure.update_xaxes(tickformat=".0%", range=[0, max(values) * 1.15 or 1])
    figure.update_yaxes(automargin=True, showgrid=False)
    return figure.update_layout(height=100 + 34 * len(names), margin={"t": 10})


def _coordinates(go: Any, trials: Sequence[Trial]) -> Any:
    """Parallel coordinates of the settings, coloured by NDCG@10."""
    axes = [_axis(name, [trial.parameters[name] for trial in trials]) for name in trials[0].parameters]
    figures = [trial.value for trial in trials]
    axes.append({"label": "NDCG@10", "values": figures, "tickformat": ".4f"})
    line = {"color": figures, "colorscale": [[0, SOFT], [1, SERIES[1]]], "showscale": False}
    figure = go.Figure(go.Parcoords(dimensions=axes, line=line, labelside="top"))
    return figure.update_layout(height=430, margin={"t": 60})


def _axis(name: str, values: list[Any]) -> dict[str, Any]:
    """An axis of numbers, of powers of ten where they span many, or of positions for choices and a few
    integers.
    """
    label = name.rpartition(".")[2]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    few = len(set(map(written, values))) <= 6 and not any(isinstance(value, float) for value in values)
    if not numbers or few:
        kinds = sorted(set(values)) if numbers else sorted(set(map(written, values)))
        positions = [kinds.index(value if numbers else written(value)) for value in values]
        return {"label": label, "values": positions} | _ticks(range(len(kinds)), map(written, kinds))
    if min(values) <= 0 or max(values) / min(values) < 8:
        return {"label": label, "values": values, "tickformat": ".3~g"}
    logs = [math.log10(value) for value in values]
    ticks = [tick for tick in _TICKS if min(logs) <= math.log10(tick) <= max(logs)]
    return {"label": label, "values": logs} | _ticks(map(math.log10, ticks), (f"{tick:g}" for tick in ticks))


def _ticks(positions: Any, labels: Any) -> dict[str, Any]:
    return {"tickvals": list(positions), "ticktext": list(labels)}


def _table(trials: Sequence[Trial]) -> Block:
    best = ranked(trials)[:SHOWN]
    if not best:
        return Text("None is complete.")
    names = list(best[0].parameters)
    rows = []
    for trial in best:
        cells = [str(trial.number), f"{trial.value:.4f}", str(trial.epochs), f"{trial.seconds:.1f}"]
        rows.append([*cells, *(written(trial.parameters.get(name)) for name in names)])
    return TableBlock(["trial", "NDCG@10", "epochs", "seconds", *names], rows, marked=[0])
