"""`ncf train`, `ncf evaluate`, `ncf compare`."""

from contextlib import ExitStack, closing
from typing import Annotated, Any

import typer

from ncf.cli.options import Data, ExperimentName, Json, RunPath, print_json
from ncf.errors import ConfigError


def train(
    recipe: Annotated[str, typer.Argument(help="A TOML file; recipes/ has one for each published result.")],
    output: Annotated[
        str | None, typer.Option(help="Folder of the run; a new one in runs/ by default.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Prepared data folder, instead of the recipe's.")] = None,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: section.key=value.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of --output.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --output.")] = False,
    gmf: Annotated[
        str | None, typer.Option(help="Pre-trained GMF run to fuse, instead of training one.")
    ] = None,
    mlp: Annotated[
        str | None, typer.Option(help="Pre-trained MLP run to fuse, instead of training one.")
    ] = None,
    report_best_on_test: Annotated[
        bool,
        typer.Option(
            "--report-best-on-test", help="Also judge every epoch on test, as papers do (it flatters)."
        ),
    ] = False,
    track: Annotated[
        str | None,
        typer.Option(
            envvar="NCF_TRACK",
            help="Record in MLflow: sqlite:///FILE, a folder, http(s)://SERVER or an ARN.",
            show_default=False,
        ),
    ] = None,
    track_as: ExperimentName = "ncf",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Json = False,
) -> None:
    """Train a recipe: judge it, save checkpoints, write the artifact."""
    from ncf import console, experiment
    from ncf.config import Experiment
    from ncf.runtime import stop_requested
    from ncf.training.mlflow import open_tracker
    from ncf.training.tracking import Silent, Trackers

    if resume and output is None:
        raise ConfigError("--resume needs the --output folder of the run to go on with.")
    settings = Experiment.load(recipe, set or ())
    dataset, data_path = experiment.open_data(settings, data, console.say)
    shown = Silent() if quiet else console.ConsoleTracker()
    with ExitStack() as stack:
        stack.enter_context(closing(shown))
        recorder = stack.enter_context(open_tracker(track, track_as, console.say)) if track else Silent()
        stop = stack.enter_context(stop_requested())
        manner = experiment.Manner(resume, overwrite, report_best_on_test, Trackers([shown, recorder]), stop)
        run = experiment.train(
            dataset, settings, output, data_path=data_path, gmf=gmf, mlp=mlp, manner=manner
        )
    if as_json:
        print_json({"run": str(run.folder), "artifact": str(run.artifact), **run.metrics})
        return
    means = run.metrics["test"]["metrics"]
    figures = [
        f"{label} {means[key]:.4f}"
        for key, label in (("hr@10", "HR@10"), ("ndcg@10", "NDCG@10"))
        if key in means
    ]
    typer.echo(
        f"Test, weights of {run.metrics['selected']}: {', '.join(figures) or 'nothing was held out'} "
        f"('ncf evaluate {run.folder}' tells more)."
    )
    best = run.metrics.get("best_on_test")
    if best:
        typer.echo(
            f"Best on test, as papers print it (it flatters): HR@10 {best['test_hr@10']:.4f}, "
            f"NDCG@10 {best['test_ndcg@10']:.4f} after epoch {best['epoch']}."
        )


def evaluate(
    run: RunPath,
    data: Data = None,
    full: Annotated[
        bool, typer.Option("--full", help="Rank the whole catalogue, what is known masked.")
    ] = False,
    split: Annotated[str, typer.Option(help="test or validation.")] = "test",
    ties: Annotated[str | None, typer.Option(help="expected, pessimistic or optimistic.")] = None,
    k: Annotated[
        list[int] | None, typer.Option("--k", "-k", help="Cutoff; may be given more than once.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge a run on held-out interactions: sampled protocol, or --full."""
    from ncf import experiment

    if split not in ("test", "validation"):
        raise ConfigError(f"--split must be test or validation, not {split!r}.")
    judgement, artifact = experiment.judge(
        run, data, full=full, split=split, ties=ties, cutoffs=tuple(k) if k else None
    )
    settings = artifact.experiment
    result = {"run": run, "name": settings.name, "split": split, **judgement.to_json()}
    if settings.published:
        result["published"] = settings.published.model_dump()
    if as_json:
        print_json(result)
        return
    protocol = "full ranking" if full else "1 positive among the negatives of its list"
    _print_figures(f"{settings.name}, {split}: {protocol}, {judgement.ties} ties", result, settings)
    if judgement.nonnumbers:
        typer.echo(f"Warning: {judgement.nonnumbers} lists have scores that are not numbers.", err=True)


def compare(
    a: Annotated[str, typer.Argument(metavar="RUN_A")],
    b: Annotated[str, typer.Argument(metavar="RUN_B")],
    data: Data = None,
    full: Annotated[bool, typer.Option("--full", help="Rank the whole catalogue.")] = False,
    k: Annotated[int, typer.Option("--k", "-k", help="Cutoff.")] = 10,
    as_json: Json = False,
) -> None:
    """Two runs on the same held-out interactions: paired permutation test."""
    from dataclasses import asdict

    from ncf import experiment

    comparisons = experiment.compare_runs(a, b, data, full=full, k=k)
    if as_json:
        print_json({"a": a, "b": b, "metrics": {name: asdict(c) for name, c in comparisons.items()}})
        return
    from rich.table import Table

    from ncf.console import OUT

    table = Table(title=f"a = {a}, b = {b}", title_justify="left")
    for heading in ("metric", "a", "b", "b - a", "95% interval", "p"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, c in comparisons.items():
        table.add_row(
            name, f"{c.mean_a:.4f}", f"{c.mean_b:.4f}", f"{c.difference:+.4f}", f"{c.low:+.4f} – {c.high:+.4f}",
            f"{c.p_value:.4f}",
        )  # fmt: skip
    OUT.print(table)


def _print_figures(title: str, figures: dict[str, Any], settings: Any) -> None:
    from ncf.console import OUT, figures_table

    published = settings.published
    OUT.print(figures_table(title, figures["metrics"], figures["intervals"], published and published.metrics))
    if published:
        typer.echo(f"published: {published.source}")
