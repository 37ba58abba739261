"""`ncf sagemaker models …`: the versions in the model registry; approve, reject, deploy."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.cli.sagemaker.options import MaxCost, Yes

if TYPE_CHECKING:
    from ncf.sagemaker.session import Session

app = typer.Typer(
    help="Versions of the model in the registry: list, show, approve, reject, deploy.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Group = Annotated[str | None, typer.Option(help="Model group; PROJECT-models.", show_default=False)]
Version = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", help="Number or ARN; by default the newest that fits.")
]
Why = Annotated[str, typer.Option(help="Kept with the decision.")]


@app.command("list")
@shared.with_session(shared.READS)
def list_(
    session: "Session",
    group: Group = None,
    as_json: Json = False,
) -> None:
    """The versions, the newest first."""
    from ncf.sagemaker.pipelines import registry

    name = registry.group_name(session, group)
    found = [registry.find(session, name, one.version) for one in registry.packages(session, name)]
    if as_json:
        print_json({"group": name, "models": [_record(one) for one in found]})
        return
    for one in found:
        figures = one.properties
        typer.echo(
            f"{one.version:>4}  {one.approval:<22} {one.described['CreationTime']:%Y-%m-%d %H:%M}  "
            f"HR@10 {figures.get('hr_at_10', '-')}  NDCG@10 {figures.get('ndcg_at_10', '-')}  {figures.get('recipe', '')}"
        )
    if not found:
        typer.echo(f"The group {name} has no models yet.")


@app.command()
@shared.with_session(shared.STORES)
def show(
    session: "Session",
    version: Version = None,
    group: Group = None,
    as_json: Json = False,
) -> None:
    """One version: where it comes from, and what it was compared with."""
    from ncf.sagemaker.pipelines import registry

    package = registry.find(session, registry.group_name(session, group), registry.check_version(version))
    found = registry.evaluation(session, package.evaluation) if package.evaluation else None
    if as_json:
        print_json({**_record(package), "evaluation": found})
        return
    typer.echo(f"{package.arn}\n{package.approval}; {package.model}")
    for name, value in sorted(package.properties.items()):
        typer.echo(f"{name:<18} {value}")
    if found:
        typer.echo(found["verdict"]["sentence"])


@app.command()
@shared.with_session((*shared.STORES, "kms_key"))
def approve(
    session: "Session",
    version: Version = None,
    why: Why = "",
    group: Group = None,
) -> None:
    """Approve a version, by default the newest that waits; it is what the next model must beat."""
    _decide(session, group, version, "Approved", why)


@app.command()
@shared.with_session((*shared.STORES, "kms_key"))
def reject(
    session: "Session",
    version: Version = None,
    why: Why = "",
    group: Group = None,
) -> None:
    """Reject a version; one that was approved is no longer what the next must beat."""
    _decide(session, group, version, "Rejected", why)


@app.command()
@shared.with_session((*shared.STORES, "role", "kms_key"))
def deploy(
    session: "Session",
    version: Version = None,
    endpoint: Annotated[str | None, typer.Option(help="The endpoint; PROJECT.", show_default=False)] = None,
    instance_type: Annotated[str, typer.Option(help="Instance that serves.")] = "ml.c7i.large",
    instance_count: Annotated[int, typer.Option(help="How many of them.")] = 1,
    group: Group = None,
    max_cost: MaxCost = None,
    yes: Yes = False,
) -> None:
    """Deploy an approved version, by default the newest; 'ncf sagemaker deploy' with its address has every option."""
    from ncf.cli.sagemaker.cost import accept_cost
    from ncf.errors import ConfigError
    from ncf.sagemaker.endpoints.deploy import deploy
    from ncf.sagemaker.endpoints.describe import cost
    from ncf.sagemaker.endpoints.requests import Hosting
    from ncf.sagemaker.pipelines import registry

    number = registry.check_version(version)
    name = registry.group_name(session, group)
    package = registry.find(session, name, number, None if number else registry.APPROVED)
    if package.approval != registry.APPROVED:
        raise ConfigError(
            f"Version {package.version} is not approved ({package.approval}): 'ncf sagemaker models approve {package.version}' first."
        )
    hosting = Hosting(instance_type=instance_type, instance_count=instance_count)
    accept_cost(session, cost(hosting), max_cost, yes)
    made = deploy(session, package.model, hosting, endpoint=endpoint, image=package.image)
    typer.echo(f"Version {package.version} is in service at the endpoint {made.endpoint}.")


def _decide(session: Any, group: str | None, version: str | None, approval: str, why: str) -> None:
    from ncf.sagemaker.pipelines import registry

    name, number = registry.group_name(session, group), registry.check_version(version)
    package = registry.decide(session, name, number, approval, why)
    typer.echo(f"Version {package.version} of {name}: {package.approval}.")


def _record(package: Any) -> dict[str, Any]:
    return {
        "version": package.version, "arn": package.arn, "approval": package.approval, "model": package.model,
        "properties": package.properties,
    }  # fmt: skip
