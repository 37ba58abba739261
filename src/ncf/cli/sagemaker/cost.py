"""The cost line: printed before anything is started or sent, with a question on a terminal."""

import sys
from typing import TYPE_CHECKING

import typer

from ncf.errors import ConfigError

if TYPE_CHECKING:
    from ncf.sagemaker.prices import Estimate
    from ncf.sagemaker.session import Session


def tell_cost(session: "Session", estimate: "Estimate") -> None:
    """Say what it costs; local mode costs nothing."""
    if not session.local:
        typer.echo(estimate.sentence(), err=True)


def accept_cost(session: "Session", estimate: "Estimate", most: float | None, yes: bool) -> None:
    """Say what it costs, hold the limit, ask on a terminal; raises `ConfigError` for a no. Local mode costs nothing."""
    if session.local:
        return
    tell_cost(session, estimate)
    estimate.check(most)
    if not yes and sys.stdin.isatty() and not typer.confirm("Start?", err=True):
        raise ConfigError("Nothing was started.")
