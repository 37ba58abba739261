"""The command line. It reads what was typed, calls the package, and prints the answer.

A mistake of the caller ends with one sentence on standard error and exit code 2; ctrl-C in training with a saved
checkpoint and exit code 130. Modules are imported where a command needs them, so that `ncf --help` is quick.
"""

import json
import os
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.errors import ConfigError, Interrupted, NcfError

if TYPE_CHECKING:
    from ncf.data import Dataset, PrepareReport
    from ncf.serving.recommender import Recommendation, Recommender

app = typer.Typer(
    name="ncf",
    help="Neural collaborative filtering: prepare, train, evaluate, compare, recommend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")
]
Data = Annotated[
    str | None, typer.Option("--data", help="Prepared data folder; by default the one it was trained on.")
]
RunPath = Annotated[
    str, typer.Argument(metavar="RUN", help="Output folder of 'ncf train', or an artifact folder.")
]


@app.command()
def prepare(
    output: Annotated[str | None, typer.Option(help="Folder to write; data/NAME for a known set.")] = None,
    input: Annotated[
        str | None, typer.Option(help="CSV, TSV, Parquet, JSON lines, .inter, …; local or s3://.")
    ] = None,
    ncf: Annotated[
        str | None, typer.Option(help="PREFIX of .train.rating, .test.rating, .test.negative.")
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(help="A known set: ml-1m, ml-100k, pinterest-20, lastfm.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Folder with the files of a known set, instead of a download.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Column of user ids.")] = None,
    item: Annotated[str | None, typer.Option(help="Column of item ids.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    rating: Annotated[str | None, typer.Option(help="Column of ratings.")] = None,
    format: Annotated[str | None, typer.Option(help="Format, where the file name does not tell it.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Field delimiter of a text file.")] = None,
    header: Annotated[bool | None, typer.Option(help="Whether a text file begins with names.")] = None,
    items: Annotated[
        str | None, typer.Option(help="Table with titles and other columns of the items.")
    ] = None,
    items_id: Annotated[str | None, typer.Option(help="Its id column.")] = None,
    min_user: Annotated[int, typer.Option(help="k-core: interactions that a user must have.")] = 1,
    min_item: Annotated[int, typer.Option(help="k-core: interactions that an item must have.")] = 1,
    min_rating: Annotated[float | None, typer.Option(help="Drop interactions rated lower.")] = None,
    split: Annotated[str, typer.Option(help="last, random or time.")] = "last",
    validation: Annotated[str, typer.Option(help="auto, last, random or none.")] = "auto",
    validation_popularity_exponent: Annotated[
        float, typer.Option(help="Random validation: favour items by popularity^-exponent.")
    ] = 0.0,
    negatives: Annotated[int, typer.Option(help="Negatives in a candidate list.")] = 99,
    seed: Annotated[int, typer.Option(help="Seed of splits and candidate lists.")] = 0,
    drop_unknown_users: Annotated[
        bool, typer.Option(help="Drop test rows of users without training rows.")
    ] = False,
) -> None:
    """Make a prepared data folder from a table of interactions, a published split or a known data set."""
    from ncf.data import PrepareOptions, prepare_catalog, prepare_file, prepare_ncf_triple

    _exactly_one({"--input": input, "--ncf": ncf, "--catalog": catalog})
    options = PrepareOptions(
        user=user, item=item, time=time, rating=rating, format=format, delimiter=delimiter, header=header,  # type: ignore[arg-type]
        items_file=items, items_id=items_id, min_user=min_user, min_item=min_item, min_rating=min_rating,
        split=split, validation=validation, validation_popularity_exponent=validation_popularity_exponent,  # type: ignore[arg-type]
        negatives=negatives, seed=seed, drop_unknown_users=drop_unknown_users,
    )  # fmt: skip
    if catalog is not None:
        _finish_preparing(prepare_catalog(catalog, options, source=source), output or f"data/{catalog}")
        return
    if output is None:
        raise ConfigError("Where to? Give --output FOLDER.")
    prepared = prepare_file(input, options) if input is not None else prepare_ncf_triple(str(ncf), options)
    _finish_preparing(prepared, output)


def _finish_preparing(prepared: "tuple[Dataset, PrepareReport]", output: str) -> None:
    dataset, report = prepared
    for line in report.lines():
        typer.echo(line)
    dataset.save(output)
    typer.echo(f"wrote     {output}")


@app.command()
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
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Json = False,
) -> None:
    """Train a recipe: judge it, save checkpoints, write the artifact."""
    from ncf import console, experiment
    from ncf.config import Experiment
    from ncf.runtime import stop_requested
    from ncf.training.tracking import Silent

    if resume and output is None:
        raise ConfigError("--resume needs the --output folder of the run to go on with.")
    settings = Experiment.load(recipe, set or ())
    dataset, data_path = experiment.open_data(settings, data, console.say)
    tracker = Silent() if quiet else console.ConsoleTracker()
    with closing(tracker), stop_requested() as stop:
        manner = experiment.Manner(resume, overwrite, report_best_on_test, tracker, stop)
        run = experiment.train(
            dataset, settings, output, data_path=data_path, gmf=gmf, mlp=mlp, manner=manner
        )
    if as_json:
        _print_json({"run": str(run.folder), "artifact": str(run.artifact), **run.metrics})
        return
    means = run.metrics["test"]["metrics"]
    shown = [
        f"{label} {means[key]:.4f}"
        for key, label in (("hr@10", "HR@10"), ("ndcg@10", "NDCG@10"))
        if key in means
    ]
    typer.echo(
        f"Test, weights of {run.metrics['selected']}: {', '.join(shown) or 'nothing was held out'} "
        f"('ncf evaluate {run.folder}' tells more)."
    )
    best = run.metrics.get("best_on_test")
    if best:
        typer.echo(
            f"Best on test, as papers print it (it flatters): HR@10 {best['test_hr@10']:.4f}, "
            f"NDCG@10 {best['test_ndcg@10']:.4f} after epoch {best['epoch']}."
        )


@app.command()
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
        _print_json(result)
        return
    protocol = "full ranking" if full else "1 positive among the negatives of its list"
    _print_figures(f"{settings.name}, {split}: {protocol}, {judgement.ties} ties", result, settings)
    if judgement.nonnumbers:
        typer.echo(f"Warning: {judgement.nonnumbers} lists have scores that are not numbers.", err=True)


@app.command()
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
        _print_json({"a": a, "b": b, "metrics": {name: asdict(c) for name, c in comparisons.items()}})
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


@app.command()
def recommend(
    run: RunPath,
    user: Annotated[list[str] | None, typer.Option(help="User id; may be given more than once.")] = None,
    users_file: Annotated[str | None, typer.Option(help="File with one user id a line.")] = None,
    similar_to: Annotated[str | None, typer.Option(metavar="ITEM", help="Items similar to this one.")] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="How many items.")] = 10,
    candidate: Annotated[list[str] | None, typer.Option(help="Only among these items; repeat.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not this item; repeat.")] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Do not leave out what the user has used.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="An unknown user is an error.")] = False,
    as_json: Json = False,
) -> None:
    """The best items for users, or items similar to one."""
    from ncf.serving.recommender import Recommender

    users = list(user or [])
    _exactly_one({"--user": users or None, "--users-file": users_file, "--similar-to": similar_to})
    if users_file is not None:
        users = _read_ids(Path(users_file))
    recommender = Recommender.open(run)
    if similar_to is not None:
        answers = [recommender.similar_items(similar_to, k)]
    else:
        answers = recommender.recommend(
            users,
            k,
            exclude_seen=not include_seen,
            candidates=candidate,
            exclude=exclude or (),
            strict=strict,
        )
    if as_json:
        key = "item" if similar_to is not None else "user"
        _print_json({"recommendations": [_answer_json(recommender, answer, key) for answer in answers]})
        return
    for answer in answers:
        _print_answer(recommender, answer)


@app.command()
def batch(
    run: RunPath,
    output: Annotated[str, typer.Option(help="File to write: .parquet, .csv or .jsonl.")],
    k: Annotated[int, typer.Option("--k", "-k", help="How many items a user.")] = 10,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Do not leave out what users have used.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Recommendations for every user into one file, in bounded memory."""
    from ncf.serving.batch import write_batch
    from ncf.serving.recommender import Recommender

    written = write_batch(Recommender.open(run), Path(output), k, exclude_seen=not include_seen)
    if as_json:
        _print_json(
            {"output": output, "users": written.users, "rows": written.rows, "seconds": written.seconds}
        )
        return
    typer.echo(f"{written.rows:,} rows for {written.users:,} users in {written.seconds:.1f} s: {output}")


def _exactly_one(options: dict[str, Any]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if len(given) != 1:
        verb = "none was given" if not given else f"{' and '.join(given)} were given"
        raise ConfigError(f"Give exactly one of {', '.join(options)}; {verb}.")


def _read_ids(path: Path) -> list[str]:
    try:
        ids = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The file of users {path} cannot be read ({error}): give a text file, one id a line."
        ) from None
    if not any(ids):
        raise ConfigError(f"The file of users {path} is empty: it needs one id a line.")
    return [user for user in ids if user]


def _answer_json(recommender: "Recommender", answer: "Recommendation", key: str) -> dict[str, Any]:
    described = recommender.describe(answer.items)
    items = [
        {
            "item": row.pop("id"),
            "score": score,
            **{name: value for name, value in row.items() if value is not None},
        }
        for row, score in zip(described, answer.scores, strict=True)
    ]
    return {key: answer.subject, "source": answer.source, "items": items, "ignored": answer.ignored}


def _print_answer(recommender: "Recommender", answer: "Recommendation") -> None:
    from ncf.console import OUT, items_table, say

    titles = {
        "model": f"For user {answer.subject}",
        "popularity": f"User {answer.subject} is not known to the model: the most popular items",
        "similar": f"Similar to item {answer.subject} {_title(recommender, answer)}".rstrip(),
    }
    if answer.ignored:
        say(f"Not known and ignored: {', '.join(str(item) for item in answer.ignored)}")
    OUT.print(items_table(titles[answer.source], recommender.describe(answer.items), answer.scores))


def _title(recommender: "Recommender", answer: "Recommendation") -> str:
    title = recommender.describe([answer.subject])[0].get("title")
    return f"({title})" if title else ""


def _print_figures(title: str, figures: dict[str, Any], settings: Any) -> None:
    from ncf.console import OUT, figures_table

    published = settings.published
    OUT.print(figures_table(title, figures["metrics"], figures["intervals"], published and published.metrics))
    if published:
        typer.echo(f"published: {published.source}")


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))


def main() -> None:
    """Entry point of `ncf`; the exit code tells who is to mend it."""
    try:
        app(standalone_mode=True)
    except Interrupted as stopped:
        _end(str(stopped), 130)
    except NcfError as error:
        _end(str(error), 2)
    except BrokenPipeError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _end(sentence: str, code: int) -> None:
    typer.echo(f"ncf: {sentence}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
