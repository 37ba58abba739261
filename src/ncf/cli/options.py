"""What several commands share: options, and how answers are printed."""

import json
from typing import Annotated, Any

import typer

from ncf.errors import ConfigError

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")
]
Data = Annotated[
    str | None, typer.Option("--data", help="Prepared data folder; by default the one it was trained on.")
]
BruteForce = Annotated[
    bool, typer.Option("--exact", help="Score every item by the full model, without candidates.")
]
ExperimentName = Annotated[
    str,
    typer.Option(
        "--experiment", envvar=["NCF_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME"], help="Experiment of MLflow."
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
User = Annotated[list[str] | None, typer.Option(help="User id; may be given more than once.")]
History = Annotated[
    list[str] | None, typer.Option(help="An item used since training, or by a new visitor; repeat.")
]
SimilarTo = Annotated[
    str | None, typer.Option(metavar="ITEM", help="Items similar to this one.", show_default=False)
]
Items = Annotated[int, typer.Option("--k", "-k", help="How many items.")]
Candidate = Annotated[list[str] | None, typer.Option(help="Only among these items; repeat.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Not this item; repeat.")]
IncludeSeen = Annotated[bool, typer.Option("--include-seen", help="Do not leave out what the user has used.")]
Strict = Annotated[bool, typer.Option("--strict", help="An unknown user is an error.")]
RunPath = Annotated[
    str, typer.Argument(metavar="RUN", help="Output folder of 'ncf train', or an artifact folder.")
]


def exactly_one(options: dict[str, Any]) -> None:
    """Raise `ConfigError` unless exactly one option is given (is not None)."""
    given = [name for name, value in options.items() if value is not None]
    if len(given) != 1:
        verb = "none was given" if not given else f"{' and '.join(given)} were given"
        raise ConfigError(f"Give exactly one of {', '.join(options)}; {verb}.")


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False))
