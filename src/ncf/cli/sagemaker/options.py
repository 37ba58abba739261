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
    typer.Option("--local", help="In Docker on this machine; needs no AWS."),
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


def gathered(
    into: str, make: Callable[..., Any], names: tuple[str, ...] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `into` by the parameters of `make`, all or those named, and pass what it makes of them."""
    parameters = inspect.signature(make).parameters
    options = [parameters[name] for name in names or parameters]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            made = make(**{option.name: given.pop(option.name) for option in options})
            function(**{into: made}, **given)

        signature = inspect.signature(function)
        kept = [parameter for parameter in signature.parameters.values() if parameter.name != into]
        command.__annotations__ = {one.name: one.annotation for one in (*kept, *options)}
        command.__signature__ = signature.replace(parameters=[*kept, *options])  # type: ignore[attr-defined]
        return command

    return decorate


def open_session(
    local: Local = False,
    project: Project = None,
    region: Region = None,
    profile: Profile = None,
    role: Role = None,
    bucket: Bucket = None,
    tags: Tags = None,
    kms_key: KmsKey = None,
    subnets: Subnets = None,
    security_groups: SecurityGroups = None,
) -> "Session":
    """The session of one command."""
    from ncf.sagemaker.session import from_environment

    return from_environment(
        local, project=project, region=region, profile=profile, role=role, bucket=bucket, kms_key=kms_key,
        tags=pairs_of(tags, "--tag", "team=search", "key=value"), subnets=tuple(subnets or ()), security_groups=tuple(security_groups or ()),
    )  # fmt: skip


def with_session(names: tuple[str, ...]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `session` by the options that make one."""
    return gathered("session", open_session, names)


def pairs_of(given: list[str] | None, option: str, example: str, form: str = "name=value") -> dict[str, str]:
    """`name=value` texts as a mapping; raises `ConfigError` where one is none."""
    pairs = [text.partition("=") for text in given or ()]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise ConfigError(f"{option} takes {form}, such as {example}.")
    return {key: value for key, _, value in pairs}
