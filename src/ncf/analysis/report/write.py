"""The report of a run: evaluate it, draw it, and write a page and a model card.

In: a run, an artifact folder or a model.tar.gz. Out: `report.html` and `MODEL_CARD.md`. Whatever is missing
(data, test rows, titles, curves) is left out, and the page says so. The decision worth knowing: the page
depends on the run and its data alone and has no date of its own, so the same run gives the same bytes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncf.analysis.evaluate import verdict_on
from ncf.analysis.evaluated_run import EvaluatedRun
from ncf.analysis.report import calibration, curves, examples, figures, norms, ranks, settings, slices, svg
from ncf.analysis.report.card import MARK, card
from ncf.analysis.report.inputs import ReportInputs, open_report_inputs
from ncf.analysis.report.page import Section, Text, page
from ncf.analysis.report.ranked_users import rank_users
from ncf.data.files import atomic_file, write_text
from ncf.errors import ConfigError, DataError, StorageError
from ncf.evaluation.ranking import Scorer
from ncf.models import ModelScorer
from ncf.runtime import choose_threads, workers

CARD = "MODEL_CARD.md"
_PAGE_MARK = "made by ncf report"


@dataclass(frozen=True)
class Report:
    """The files of a report, its `figures` as JSON values, and a sentence on `missing` data, which may be
    empty.
    """

    page: Path
    card: Path
    figures: dict[str, Any]
    missing: str

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        paths = {"page": str(self.page), "card": str(self.card), "missing": self.missing or None}
        return {**paths, **self.figures}


def write_report(
    path: str | Path,
    output: str | Path | None = None,
    data: str | Path | None = None,
    *,
    overwrite: bool = False,
) -> Report:
    """Write the page and the card of a run.

    `path` is the run or artifact, `output` the page's file (by default in the run), `data` the prepared
    folder if the run does not name one. An earlier report is replaced, other files only with `overwrite`.
    Raises `ConfigError` where matplotlib or jinja2 is missing, `StorageError` for files that may not be
    replaced, and what `open_report_inputs` raises.
    """
    with svg.styled():  # a missing matplotlib is noticed before the evaluation, not after it
        inputs = open_report_inputs(path, data)
        if len(inputs.held_out) and not inputs.held_out.has_lists:
            raise DataError(
                "A report draws candidate lists, which these data do not have: 'ncf evaluate' has the "
                "figures of their full ranking."
            )
        target = Path(output) if output is not None else _default(inputs)
        card_file = target.parent / CARD
        _refuse(target, card_file, overwrite)
        sections, values = _sections(inputs)
    lead = [Text(_lead(inputs)), *([Text(inputs.missing, note=True)] if inputs.missing else [])]
    document = page(f"{inputs.name}: report", lead, sections, _PAGE_MARK)
    for file, content in ((target, document), (card_file, card(inputs, values, target.name))):
        with atomic_file(file) as temporary:
            write_text(temporary, content)
    missing = f"Sections that need the data are left out. {inputs.reason}" if inputs.reason else ""
    return Report(target, card_file, values, missing)


def _sections(inputs: ReportInputs) -> tuple[list[Section], dict[str, Any]]:
    """The page's sections, and the figures in them."""
    experiment, metrics = inputs.artifact.experiment, inputs.artifact.metrics
    scorer: Scorer = ModelScorer(inputs.artifact.model)
    selected = str(metrics.get("selected", "an epoch that was not recorded"))
    learning = curves.section(inputs.histories, experiment.train.loss, selected)
    evaluated: list[Section] = [figures.recorded(metrics)]
    values: dict[str, Any] = {}
    verdict = metrics.get("verdict")
    if len(inputs.held_out):
        evaluated, values = _evaluated(inputs, scorer)
        verdict = _verdict(inputs)
    evaluated[0] = figures.with_verdict(evaluated[0], verdict)
    rest = [norms.section(inputs), examples.section(inputs, scorer), settings.section(inputs)]
    values |= {"name": inputs.name, "verdict": verdict}
    return [evaluated[0], learning, *evaluated[1:], *rest], values


def _verdict(inputs: ReportInputs) -> dict[str, Any] | None:
    """The verdict of the run, made now if training did not."""
    assert inputs.dataset is not None
    rules = inputs.artifact.experiment.evaluation
    run = EvaluatedRun(inputs.given, inputs.artifact, inputs.dataset, "test", inputs.held_out, rules)
    return verdict_on(run, {})


def _evaluated(inputs: ReportInputs, scorer: Scorer) -> tuple[list[Section], dict[str, Any]]:
    experiment, dataset = inputs.artifact.experiment, inputs.dataset
    assert dataset is not None
    rules, train = experiment.evaluation, experiment.train
    with workers(choose_threads()) as pool:
        rankings = rank_users(scorer, dataset, inputs.held_out, rules, train.seed, pool)
    rows = rankings.sampled.rows
    reliability = calibration.calibrate(scorer, rows, train.negatives)
    by_user, by_item = slices.activity(inputs, rankings), slices.popularity(inputs, rankings)
    sections = [
        figures.section(experiment, rankings),
        slices.section(by_user, by_item),
        ranks.section(rankings),
        calibration.section(reliability, train, rows.candidates.shape[1] - 1),
    ]
    values = {
        "sampled": rankings.sampled.to_json(),
        "full": rankings.full.to_json(),
        "activity": {protocol: [group.to_json() for group in groups] for protocol, groups in by_user.items()},
        "popularity": {
            protocol: [group.to_json() for group in groups] for protocol, groups in by_item.items()
        },
        "calibration": reliability.to_json(),
    }
    return sections, values


def _lead(inputs: ReportInputs) -> str:
    artifact = inputs.artifact
    selected = artifact.metrics.get("selected", "an epoch that was not recorded")
    return (
        f"A {artifact.experiment.model.kind} model, trained by ncf on {artifact.manifest['data']['name']}: "
        f"{len(artifact.users):,} users, {len(artifact.items):,} items. Weights of {selected}."
    )


def _default(inputs: ReportInputs) -> Path:
    """`report.html` in the run, or in a folder next to an artifact, because an artifact's files have
    checksums.
    """
    if inputs.run is not None:
        return inputs.run / "report.html"
    given = Path(inputs.given).resolve()
    return given.parent / f"{given.name.removesuffix('.tar.gz')}-report" / "report.html"


def _refuse(target: Path, card_file: Path, overwrite: bool) -> None:
    if target.is_dir() or target.name == CARD:
        raise ConfigError(
            f"--output must be a file for the page, such as {target / 'report.html'}, not {target}."
        )
    if (target.parent / "manifest.json").is_file():
        raise ConfigError(
            f"{target.parent} is an artifact and has a model card of its own: choose an --output outside of "
            "it."
        )
    for file, mark in ((target, _PAGE_MARK), (card_file, MARK)):
        if file.is_file() and not overwrite and mark not in file.read_text("utf-8", errors="replace"):
            raise StorageError(
                f"{file} exists and was not made by 'ncf report': choose another --output, or replace it "
                "with --overwrite."
            )
