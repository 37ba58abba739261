"""`ncf sagemaker models …`: list, show, approve, reject and deploy versions in the model registry."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.cli.help import App
from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared

if TYPE_CHECKING:
    from ncf.sagemaker.session import Session

app = App(help="Versions of the model in the registry: list, show, approve, reject, deploy.")
Version = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", help="Number or ARN; by default the newest that fits.")
]
Why = Annotated[str, typer.Option(help="Kept with the decision.")]


@app.command("list")
@shared.with_session(shared.READS)
def list_(session: "Session", group: shared.Group = None, as_json: Json = False) -> None:
    """List the versions, the newest first.

    Examples:
        ncf sagemaker models list
        ncf sagemaker models list --group shop-models --json
    """
    from ncf.sagemaker.pipelines import registry

    name = registry.group_name(session, group)
    versions = [package.version for package in registry.packages(session, name)]
    packages = [registry.find(session, name, version) for version in versions]
    if as_json:
        print_json({"group": name, "models": [_record(package) for package in packages]})
        return
    for package in packages:
        figures, created = package.properties, package.described["CreationTime"]
        typer.echo(
            f"{package.version:>4}  {package.approval:<22} {created:%Y-%m-%d %H:%M}  HR@10 "
            f"{figures.get('hr_at_10', '-')}  NDCG@10 {figures.get('ndcg_at_10', '-')}  "
            f"{figures.get('recipe', '')}"
        )
    if not packages:
        typer.echo(f"The group {name} has no models yet.")


@app.command()
@shared.with_session(shared.STORES)
def show(
    session: "Session", version: Version = None, group: shared.Group = None, as_json: Json = False
) -> None:
    """Show one version: its origin, and what it was compared with.

    Examples:
        ncf sagemaker models show
        ncf sagemaker models show 3 --json
    """
    from ncf.sagemaker.pipelines import registry

    package = registry.find(session, registry.group_name(session, group), registry.check_version(version))
    document = registry.evaluation(session, package.evaluation) if package.evaluation else None
    if as_json:
        print_json({**_record(package), "evaluation": document})
        return
    typer.echo(f"{package.arn}\n{package.approval}; {package.model}")
    for name, value in sorted(package.properties.items()):
        typer.echo(f"{name:<18} {value}")
    if document:
        typer.echo(document["verdict"]["sentence"])


@app.command()
@shared.with_session((*shared.STORES, "kms_key"))
def approve(session: "Session", version: Version = None, why: Why = "", group: shared.Group = None) -> None:
    """Approve a version, by default the newest pending one; the next model must beat it.

    Examples:
        ncf sagemaker models approve
        ncf sagemaker models approve 3 --why "figures and spot checks"
    """
    _decide(session, group, version, "Approved", why)


@app.command()
@shared.with_session((*shared.STORES, "kms_key"))
def reject(session: "Session", version: Version = None, why: Why = "", group: shared.Group = None) -> None:
    """Reject a version; if it was approved, the next model need not beat it any more.

    Examples:
        ncf sagemaker models reject
        ncf sagemaker models reject 3 --why "worse for new users"
    """
    _decide(session, group, version, "Rejected", why)


@app.command()
@shared.with_session((*shared.STORES, "role", "kms_key"))
def deploy(
    session: "Session",
    version: Version = None,
    endpoint: Annotated[str | None, typer.Option(help="The endpoint; PROJECT.", show_default=False)] = None,
    instance_type: Annotated[str, typer.Option(help="Instance that serves.")] = "ml.c7i.large",
    instance_count: Annotated[int, typer.Option(help="How many of them.")] = 1,
    group: shared.Group = None,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
) -> None:
    """Deploy an approved version, by default the newest; 'ncf sagemaker deploy' has more options.

    Examples:
        ncf sagemaker models deploy
        ncf sagemaker models deploy 3 --endpoint shop --max-cost 5
    """
    from ncf.errors import ConfigError
    from ncf.sagemaker.endpoints.deploy import deploy
    from ncf.sagemaker.endpoints.describe import cost
    from ncf.sagemaker.endpoints.requests import Hosting
    from ncf.sagemaker.pipelines import registry

    number = registry.check_version(version)
    name = registry.group_name(session, group)
    package = registry.find(session, name, number, None if number else registry.APPROVED)
    if package.approval != registry.APPROVED:
        first = f"'ncf sagemaker models approve {package.version}' first."
        raise ConfigError(f"Version {package.version} is not approved ({package.approval}): {first}")
    hosting = Hosting(instance_type=instance_type, instance_count=instance_count)
    shared.accept_cost(session, cost(hosting), max_cost, yes)
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
