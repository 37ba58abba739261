"""The command line: it reads what was typed, calls the package and prints the answer.

A mistake of the user ends with one sentence on standard error and exit code 2. Ctrl-C during training saves a
checkpoint and exits with 130. A process that lost another one of its training exits with 75. Modules are
imported by the command that needs them, so that `ncf --help` is quick.
"""

import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from ncf.cli import data, doctor, evaluation, leaderboard, recipes, sagemaker, serving, training, tune
from ncf.cli.help import App
from ncf.errors import Interrupted, LostProcess, NcfError

app = App(
    name="ncf",
    help="Neural collaborative filtering: prepare data, train, evaluate, compare, recommend, serve.",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ncf {version('ncf')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


GROUPS: dict[str, tuple[Any, ...]] = {
    "Data": (data.prepare,),
    "Train": (training.train, training.update, tune.suggest, tune.tune),
    "Evaluate": (evaluation.evaluate, evaluation.compare, evaluation.report, leaderboard.leaderboard),
    "Serve": (serving.recommend, serving.batch, serving.serve),
    "Cloud": (doctor.doctor,),
}
app.add_commands(GROUPS)
for name, group, below in (
    ("recipes", "Train", recipes.recipes_app),
    ("experiments", "Train", training.experiments_app),
    ("artifact", "Serve", serving.artifact_app),
    ("sagemaker", "Cloud", sagemaker.app),
):
    app.add_typer(below, name=name, rich_help_panel=group)


def main() -> None:
    """Run `ncf`; the exit code tells what kind of error ended it."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from ncf.runtime import end_with

        # If the launcher is killed, nothing else would end the processes that it started.
        end_with(int(os.environ.get("NCF_LAUNCHER", os.getppid())))
    try:
        app(standalone_mode=True)
    except Interrupted as stopped:
        _end(str(stopped), 130)
    except LostProcess as error:
        _end(str(error), 75)
    except NcfError as error:
        _end(str(error), 2)
    except BrokenPipeError:
        # The reader of a pipe is gone. Python would fail once more when it flushes standard output at exit.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _end(message: str, code: int) -> None:
    if not training.left_to_launcher(message, code):
        typer.echo(f"ncf: {message}", err=True)
    sys.exit(code)
