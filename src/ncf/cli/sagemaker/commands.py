"""All commands of `ncf sagemaker`, in their groups."""

from ncf.cli.help import App
from ncf.cli.sagemaker import endpoints, invoke, jobs, models, pipeline, prepare, transform, tune, upkeep

app = App()
app.command(group="Data")(prepare.prepare)
for command in (jobs.push_image, jobs.train, tune.tune, jobs.fetch, jobs.jobs, jobs.logs, jobs.stop):
    app.command(group="Train")(command)
app.add_typer(pipeline.app, name="pipeline", rich_help_panel="Train")
for command in (
    endpoints.deploy, invoke.invoke, endpoints.endpoints, endpoints.describe, endpoints.rollback,
    endpoints.captured, endpoints.delete, transform.transform,
):  # fmt: skip
    app.command(group="Serve")(command)
app.add_typer(models.app, name="models", rich_help_panel="Serve")
for command in (upkeep.status, upkeep.cleanup, upkeep.policy, upkeep.double):
    app.command(group="Account")(command)
