"""`ncf sagemaker …`: the same commands for hosted SageMaker and, with `--local`, for this machine."""

from functools import cached_property
from typing import Any

import typer

from ncf.cli.help import App, Group


class _Late(Group):
    """A group whose commands are imported when one is asked for: the others need not wait for them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        del self.commands

    @cached_property
    def commands(self) -> dict[str, Any]:  # type: ignore[override]
        """The commands, by name."""
        from ncf.cli.sagemaker import commands

        return typer.main.get_command(commands.app).commands  # type: ignore[attr-defined,no-any-return]


app = App(
    cls=_Late,
    help="Amazon SageMaker, hosted or --local: train, tune, deploy, invoke, transform, pipeline, clean up.",
    callback=lambda: None,
)
