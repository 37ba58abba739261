"""`ncf sagemaker …`: the same commands for hosted SageMaker and, with `--local`, for this machine."""

from functools import cached_property
from typing import Any

import typer

from ncf.cli.help import App, SectionedGroup


class _Late(SectionedGroup):
    """A group whose commands are imported when one is asked for: the others need not wait for them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        del self.commands  # so that the property below is asked

    @cached_property
    def commands(self) -> dict[str, Any]:  # type: ignore[override]
        """The commands, by name."""
        loaded: Any = typer.main.get_command(_loaded())
        return dict(loaded.commands)


app = App(
    cls=_Late,
    help="Amazon SageMaker, hosted or --local: train, tune, deploy, invoke, transform, pipeline, clean up.",
    callback=lambda: None,
)


def _loaded() -> App:
    """All commands, in their groups."""
    from ncf.cli.sagemaker import endpoints, invoke, jobs, models, pipeline, prepare, transform, tune, upkeep

    loaded = App()
    groups: dict[str, tuple[Any, ...]] = {
        "Data": (prepare.prepare,),
        "Train": (jobs.push_image, jobs.train, tune.tune, jobs.fetch, jobs.jobs, jobs.logs, jobs.stop),
        "Serve": (
            endpoints.deploy, invoke.invoke, endpoints.endpoints, endpoints.describe, endpoints.rollback,
            endpoints.captured, endpoints.delete, transform.transform,
        ),
        "Account": (upkeep.status, upkeep.cleanup, upkeep.policy, upkeep.double),
    }  # fmt: skip
    loaded.add_commands(groups)
    loaded.add_typer(pipeline.app, name="pipeline", rich_help_panel="Train")
    loaded.add_typer(models.app, name="models", rich_help_panel="Serve")
    return loaded
