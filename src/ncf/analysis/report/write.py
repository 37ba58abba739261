"""The report of a run: judge, draw, write a page and the model card beside it.

In: a run, an artifact folder or a model.tar.gz. Out: `report.html` and `MODEL_CARD.md`. What is not there is left out
and said: data, test rows, titles, curves. The decision worth knowing: the page is one function of the run and its data, with no
date of its own, so the same run gives the same bytes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncf.analysis.report import (
    calibration,
    curves,
    examples,
    figures,
    norms,
    ranked_users,
    ranks,
    settings,
    slices,
)
from ncf.analysis.report.card import MARK, card
from ncf.analysis.report.html import text
from ncf.analysis.report.inputs import ReportInputs, open_report_inputs
from ncf.analysis.report.page import Section, page
from ncf.analysis.report.svg import styled
from ncf.data.files import atomic_file, write_text
from ncf.errors import ConfigError, StorageError
from ncf.evaluation.ranking import Scorer
from ncf.models import ModelScorer
from ncf.runtime import choose_threads, workers

CARD = "MODEL_CARD.md"
_PAGE_MARK = "made by ncf report"


@dataclass(frozen=True)
class Report:
    """What was written, and the figures in it as JSON values."""

    page: Path
    card: Path
    figures: dict[str, Any]
    missing: str

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "page": str(self.page),
            "card": str(self.card),
            "missing": self.missing or None,
            **self.figures,
        }


def write_report(
    path: str | Path,
    output: str | Path | None = None,
    data: str | Path | None = None,
    *,
    overwrite: bool = False,
) -> Report:
    """Write the page and the card of a run; an earlier report is replaced, other files only with `overwrite`.

    Raises `ConfigError` where matplotlib is missing, `StorageError` for files that may not be replaced, and what
    `open_report_inputs` raises.
    """
    with styled():  # nothing is judged in vain where nothing can be drawn
        inputs = open_report_inputs(path, data)
        target = Path(output) if output is not None else _default(inputs)
        beside = target.parent / CARD
        _refuse(target, beside, overwrite)
        sections, found = _sections(inputs)
    lead = f"<p>{text(_lead(inputs))}</p>" + (
        f"<p class='note'>{text(inputs.missing)}</p>" if inputs.missing else ""
    )
    document = page(f"{inputs.name}: report", lead, sections).replace(
        "</head>", f"<!-- {_PAGE_MARK} --></head>", 1
    )
    for file, content in ((target, document), (beside, card(inputs, found, target.name))):
        with atomic_file(file) as temporary:
            write_text(temporary, content)
    missing = f"What needs the data is left out. {inputs.reason}" if inputs.reason else ""
    return Report(target, beside, found, missing)


def _sections(inputs: ReportInputs) -> tuple[list[Section], dict[str, Any]]:
    """The page's sections, and the figures in them."""
    experiment, metrics = inputs.artifact.experiment, inputs.artifact.metrics
    scorer: Scorer = ModelScorer(inputs.artifact.model)
    judged: list[Section] = [figures.recorded(metrics)]
    found: dict[str, Any] = {"name": inputs.name}
    if len(inputs.held_out):
        judged, more = _judged(inputs, scorer)
        found |= more
    learning = curves.section(
        inputs.histories,
        experiment.train.loss,
        str(metrics.get("selected", "an epoch that was not recorded")),
    )
    rest = [norms.section(inputs), examples.section(inputs, scorer), settings.section(inputs)]
    return [judged[0], learning, *judged[1:], *rest], found


def _judged(inputs: ReportInputs, scorer: Scorer) -> tuple[list[Section], dict[str, Any]]:
    experiment, dataset = inputs.artifact.experiment, inputs.dataset
    assert dataset is not None
    with workers(choose_threads()) as pool:
        rankings = ranked_users.measure(
            scorer, dataset, inputs.held_out, experiment.evaluation, experiment.train.seed, pool
        )
    rows = rankings.sampled.rows
    reliability = calibration.calibrate(scorer, rows, experiment.train.negatives)
    by_user, by_item = slices.activity(inputs, rankings), slices.popularity(inputs, rankings)
    sections = [
        figures.section(experiment, rankings),
        slices.section(by_user, by_item),
        ranks.section(rankings),
        calibration.section(reliability, experiment.train, rows.candidates.shape[1] - 1),
    ]
    found = {
        "sampled": rankings.sampled.to_json(),
        "full": rankings.full.to_json(),
        "activity": _json(by_user),
        "popularity": _json(by_item),
        "calibration": reliability.to_json(),
    }
    return sections, found


def _json(by: slices.Groups) -> dict[str, Any]:
    return {protocol: [group.to_json() for group in found] for protocol, found in by.items()}


def _lead(inputs: ReportInputs) -> str:
    kind = inputs.artifact.experiment.model.kind
    return (
        f"A model of kind {kind}, trained by ncf on {inputs.artifact.manifest['data']['name']}: {len(inputs.artifact.users):,} users, "
        f"{len(inputs.artifact.items):,} items. Weights of {inputs.artifact.metrics.get('selected', 'an epoch that was not recorded')}."
    )


def _default(inputs: ReportInputs) -> Path:
    """`report.html` in the run, or in a folder beside an artifact, whose own files the manifest vouches for."""
    if inputs.run is not None:
        return inputs.run / "report.html"
    given = Path(inputs.given)
    return given.resolve().parent / f"{given.resolve().name.removesuffix('.tar.gz')}-report" / "report.html"


def _refuse(target: Path, beside: Path, overwrite: bool) -> None:
    if target.is_dir() or target.name == CARD:
        raise ConfigError(
            f"--output is the page's file, such as {target / 'report.html'}, and {target} is none."
        )
    if (target.parent / "manifest.json").is_file():
        raise ConfigError(
            f"{target.parent} is an artifact, whose model card is its own: choose an --output outside of it."
        )
    for file, mark in ((target, _PAGE_MARK), (beside, MARK)):
        if file.is_file() and not overwrite and mark not in file.read_text("utf-8", errors="replace"):
            raise StorageError(
                f"{file} is there and was not made by 'ncf report': choose another --output, or replace it with --overwrite."
            )
