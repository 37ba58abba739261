"""Options that several commands share, and how JSON is printed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ncf.errors import ConfigError

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, and nothing else, on standard output.")
]
Data = Annotated[
    str | None,
    typer.Option("--data", help="Prepared data folder; by default the one the run was trained on."),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting: section.key=value. Repeatable.")
]
RecipeData = Annotated[
    str | None, typer.Option("--data", help="Prepared data folder, instead of the recipe's.")
]
BruteForce = Annotated[
    bool, typer.Option("--exact", help="Score every item with the full model, without candidate retrieval.")
]
ExperimentName = Annotated[
    str,
    typer.Option(
        "--experiment",
        envvar=["NCF_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME"],
        help="Name of the MLflow experiment.",
    ),
]
Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        envvar=["NCF_TRACK", "MLFLOW_TRACKING_URI"],
        help="Where runs are recorded: sqlite:///FILE (mlflow.db), a folder, http(s)://SERVER or an ARN.",
        show_default=False,
    ),
]
User = Annotated[list[str] | None, typer.Option(help="User id. Repeatable.")]
History = Annotated[
    list[str] | None,
    typer.Option(help="Item that a new visitor has used, or a user since training. Repeatable."),
]
SimilarTo = Annotated[
    str | None, typer.Option(metavar="ITEM", help="Find items similar to this one.", show_default=False)
]
Items = Annotated[int, typer.Option("--k", "-k", help="Number of items.")]
Candidate = Annotated[list[str] | None, typer.Option(help="Rank only these items. Repeatable.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Leave this item out. Repeatable.")]
ExcludeItems = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Leave this item out, or the items of this file. Repeatable."),
]
IncludeSeen = Annotated[
    bool, typer.Option("--include-seen", help="Include items that the user has already used.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail if a user is unknown.")]
RunPath = Annotated[
    str, typer.Argument(metavar="RUN", help="Output folder of 'ncf train', or an artifact folder.")
]


def exactly_one(options: dict[str, Any]) -> None:
    """Raise `ConfigError` unless exactly one of `options` (by name, with its value) is not None."""
    given = [name for name, value in options.items() if value is not None]
    if len(given) != 1:
        verb = "none was given" if not given else f"{' and '.join(given)} were given"
        raise ConfigError(f"Give exactly one of {', '.join(options)}; {verb}.")


def items_to_exclude(given: Sequence[str] | None, name: str | None = None) -> list[int | str]:
    """The items of `--exclude`: ids, or those in files. `name`: of the column of items in the data."""
    from ncf.data.id_lists import read_ids

    items: list[int | str] = []
    for text in given or ():
        items += read_ids(text, "item", name) if Path(text).is_file() else [text]
    return items


def print_verdict(verdict: Mapping[str, Any] | None) -> None:
    """Print the line of a verdict on standard output and its warning, if any, on standard error."""
    if verdict:
        typer.echo(verdict["line"])
        if verdict["warning"]:
            typer.echo(f"Warning: {verdict['warning']}", err=True)


def print_json(value: dict[str, Any]) -> None:
    """Print `value` as one JSON object on standard output."""
    from ncf.data.files import json_text

    typer.echo(json_text(value, ascii=False))
