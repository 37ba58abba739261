"""The command line. It reads what was typed, calls the package, and prints the answer.

A mistake of the caller ends with one sentence on standard error and exit code 2; ctrl-C in training with a saved
checkpoint and exit code 130; a process that lost another one of its training with 75. Modules are imported where a command needs them, so that `ncf --help` is quick.
"""

import os
import sys
from contextlib import suppress

import typer

from ncf.cli import (
    artifact,
    data,
    doctor,
    evaluation,
    leaderboard,
    report,
    sagemaker,
    serving,
    training,
    tune,
)
from ncf.errors import Interrupted, LostProcess, NcfError

app = typer.Typer(
    name="ncf",
    help="Neural collaborative filtering: prepare, train, evaluate, compare, recommend, serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    data.prepare, training.train, evaluation.evaluate, evaluation.compare, tune.tune, leaderboard.leaderboard,
    report.report, serving.recommend, serving.batch, serving.serve, doctor.doctor,
):  # fmt: skip
    app.command()(command)
app.add_typer(artifact.app, name="artifact")
app.add_typer(training.experiments_app, name="experiments")
app.add_typer(sagemaker.app, name="sagemaker")


def main() -> None:
    """Entry point of `ncf`; the exit code tells who is to mend it."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from ncf.runtime import end_with

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
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _end(sentence: str, code: int) -> None:
    if not training.told(sentence, code):
        typer.echo(f"ncf: {sentence}", err=True)
    sys.exit(code)
