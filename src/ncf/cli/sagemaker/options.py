"""Options that the SageMaker commands share, and the session that they make.

A command that is decorated with `with_session(STORES)` takes a `session`; its user gives `--local`, `--project` and what else
`STORES` names.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.errors import ConfigError

if TYPE_CHECKING:
    from ncf.sagemaker.session import Session

Local = Annotated[
    bool,
    typer.Option("--local", help="In Docker on this machine, through the SDK's local mode; needs no AWS."),
]
Project = Annotated[
    str | None,
    typer.Option(help="Tag and name of all that is made; NCF_PROJECT, or 'ncf'.", show_default=False),
]
Region = Annotated[
    str | None, typer.Option(help="AWS region; AWS_REGION or the profile's.", show_default=False)
]
Profile = Annotated[str | None, typer.Option(help="AWS profile; AWS_PROFILE.", show_default=False)]
Role = Annotated[str | None, typer.Option(help="Execution role, name or ARN; NCF_ROLE.", show_default=False)]
Bucket = Annotated[
    str | None, typer.Option(help="S3 bucket; NCF_BUCKET, or SageMaker's default one.", show_default=False)
]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Further tag, key=value; repeat.")]
KmsKey = Annotated[str | None, typer.Option(help="KMS key for volumes and results.", show_default=False)]
Subnets = Annotated[list[str] | None, typer.Option("--subnet", help="VPC subnet; repeat.")]
SecurityGroups = Annotated[
    list[str] | None, typer.Option("--security-group", help="VPC security group; repeat.")
]
MaxCost = Annotated[
    float | None,
    typer.Option(help="Refuse to start what may cost more US dollars than this.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


HOSTED_READS = ("project", "region", "profile")
"""For commands that look at or stop what is there, without --local."""
READS = ("local", *HOSTED_READS)
HOSTED_STORES = (*HOSTED_READS, "bucket")
STORES = ("local", *HOSTED_STORES)
"""For those that also look into the bucket."""
HOSTED_MAKES = (*HOSTED_STORES, "role", "tags", "kms_key", "subnets", "security_groups")
MAKES = ("local", *HOSTED_MAKES)
"""For those that start or make something."""
_KINDS: dict[str, Any] = {
    "local": Local, "project": Project, "region": Region, "profile": Profile, "bucket": Bucket, "role": Role,
    "tags": Tags, "kms_key": KmsKey, "subnets": Subnets, "security_groups": SecurityGroups,
}  # fmt: skip


def with_session(names: tuple[str, ...]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `session` by the options that make one."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            session = open_session(**{name: given.pop(name) for name in names})
            function(session=session, **given)

        signature = inspect.signature(function)
        own = [parameter for parameter in signature.parameters.values() if parameter.name != "session"]
        shared = [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=False if name == "local" else None,
                annotation=_KINDS[name],
            )
            for name in names
        ]
        annotations = {name: hint for name, hint in function.__annotations__.items() if name != "session"}
        command.__annotations__ = annotations | {name: _KINDS[name] for name in names}
        command.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        return command

    return decorate


def open_session(
    local: bool = False,
    project: str | None = None,
    region: str | None = None,
    profile: str | None = None,
    role: str | None = None,
    bucket: str | None = None,
    tags: list[str] | None = None,
    kms_key: str | None = None,
    subnets: list[str] | None = None,
    security_groups: list[str] | None = None,
) -> "Session":
    """The session of one command."""
    from ncf.sagemaker.session import from_environment

    return from_environment(
        local, project=project, region=region, profile=profile, role=role, bucket=bucket, kms_key=kms_key,
        tags=_pairs(tags), subnets=tuple(subnets or ()), security_groups=tuple(security_groups or ()),
    )  # fmt: skip


def _pairs(tags: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in tags or ()]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise ConfigError("--tag takes key=value, such as team=search.")
    return {key: value for key, _, value in pairs}
