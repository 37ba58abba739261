"""The command line: it reads what was typed, calls the package and prints the answer.

A mistake of the user ends with one sentence on standard error and exit code 2. Ctrl-C during training saves a
checkpoint and exits with 130. A process that lost another one of its training exits with 75. Modules are
imported by the command that needs them, so that `ncf --help` is quick.
"""

import os
import sys
from contextlib import suppress
from typing import Annotated, ClassVar

import typer

from ncf.cli.help import App, LateGroup
from ncf.errors import Interrupted, LostProcess, NcfError


class _Ncf(LateGroup):
    homes: ClassVar = {
        "Data": {"prepare": "data:prepare"},
        "Train": {
            "train": "training:train",
            "update": "training:update",
            "suggest": "tune:suggest",
            "tune": "tune:tune",
            "recipes": "recipes:recipes_app",
            "experiments": "training:experiments_app",
        },
        "Evaluate": {
            "evaluate": "evaluation:evaluate",
            "compare": "evaluation:compare",
            "report": "evaluation:report",
            "leaderboard": "leaderboard:leaderboard",
        },
        "Serve": {
            "recommend": "serving:recommend",
            "batch": "serving:batch",
            "serve": "serving:serve",
            "artifact": "serving:artifact_app",
        },
        "Cloud": {"doctor": "doctor:doctor", "sagemaker": "sagemaker:app"},
    }


app = App(
    name="ncf",
    cls=_Ncf,
    help="Neural collaborative filtering: prepare data, train, evaluate, compare, recommend, serve.",
    pretty_exceptions_enable=False,
    add_completion=True,
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


def main() -> None:
    """Run `ncf`; the exit code tells what kind of error ended it."""
    # Pydantic would read what every installed package declares, to find plugins that no command uses.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
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
    if "NCF_ENDINGS" in os.environ:
        from ncf.cli.training import left_to_launcher

        if left_to_launcher(message, code):
            sys.exit(code)
    typer.echo(f"ncf: {message}", err=True)
    sys.exit(code)
