"""Options that the SageMaker commands share, the session that they make, and the question about the cost.

A command that is decorated with `with_session(STORES)` takes a `session`; its user gives `--local`,
`--project` and the other options that `STORES` names.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.errors import ConfigError, need

if TYPE_CHECKING:
    from ncf.sagemaker.jobs.requests import TrainingOptions
    from ncf.sagemaker.prices import Estimate
    from ncf.sagemaker.session import Session

Local = Annotated[
    bool,
    typer.Option("--local", help="In Docker on this machine; needs no AWS."),
]
Project = Annotated[
    str | None,
    typer.Option(help="Tag and name of everything that is made; NCF_PROJECT, or 'ncf'.", show_default=False),
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
InstanceType = Annotated[str, typer.Option(help="SageMaker instance type.")]
InstanceCount = Annotated[
    int,
    typer.Option(
        "--instance-count", "--instances", help="Number of instances that train one model together."
    ),
]
VolumeSize = Annotated[int, typer.Option(help="Gigabytes of each instance's volume.")]
MaxRun = Annotated[int, typer.Option(help="Stop after so many seconds.")]
Spot = Annotated[bool, typer.Option("--spot", help="Spot instances: cheaper, and may be taken away.")]
MaxWait = Annotated[
    int | None, typer.Option(help="With --spot: seconds for waiting and running.", show_default=False)
]
Image = Annotated[
    str | None, typer.Option(help="Container image; NCF_IMAGE, or the one of push-image.", show_default=False)
]
ScriptMode = Annotated[
    bool, typer.Option("--script-mode", help="AWS's PyTorch image with this package's source.")
]
NoFollow = Annotated[bool, typer.Option("--no-wait", help="Start, and do not follow.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Recipe = Annotated[str, typer.Argument(help="A TOML file; recipes/ has one for each published result.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting: section.key=value; repeat.")
]
Group = Annotated[str | None, typer.Option(help="Model group; PROJECT-models.", show_default=False)]

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
    into: str, make: Callable[..., Any], names: tuple[str, ...] | None = None, needs: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `into` by the parameters of `make`, and pass what `make` returns.

    `names` are those parameters of `make` that the command takes, all by default. Before all else the command
    raises `ConfigError` unless the modules `needs` of the extra `sagemaker` are there.
    """
    parameters = inspect.signature(make).parameters
    options = [parameters[name] for name in names or parameters]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            need("sagemaker", *needs)
            made = make(**{option.name: given.pop(option.name) for option in options})
            function(**{into: made}, **given)

        signature = inspect.signature(function)
        kept = [parameter for parameter in signature.parameters.values() if parameter.name != into]
        command.__annotations__ = {option.name: option.annotation for option in (*kept, *options)}
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
        tags=pairs_of(tags, "--tag", "team=search", "key=value"), subnets=tuple(subnets or ()),
        security_groups=tuple(security_groups or ()),
    )  # fmt: skip


def with_session(names: tuple[str, ...]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `session` by the options `names` that make one."""
    return gathered("session", open_session, names, needs=("boto3",))


def training_options(
    instance_type: InstanceType = "ml.c7i.xlarge",
    instance_count: InstanceCount = 1,
    volume_size: VolumeSize = 30,
    max_run: MaxRun = 3600,
    spot: Spot = False,
    max_wait: MaxWait = None,
) -> "TrainingOptions":
    """Where the training jobs of a command run; it adds name, data and image."""
    from ncf.sagemaker.jobs.requests import TrainingOptions

    return TrainingOptions(
        "", "", "", instance_type, instance_count, volume_size, max_run, spot=spot, max_wait=max_wait
    )


def pairs_of(given: list[str] | None, option: str, example: str, form: str = "name=value") -> dict[str, str]:
    """`name=value` texts as a mapping; raises `ConfigError` that names the `option` for another text."""
    pairs = [text.partition("=") for text in given or ()]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise ConfigError(f"{option} takes {form}, such as {example}.")
    return {key: value for key, _, value in pairs}


def show_cost(session: "Session", estimate: "Estimate") -> None:
    """Print the cost; local mode costs nothing."""
    if not session.local:
        typer.echo(estimate.sentence(), err=True)


def accept_cost(session: "Session", estimate: "Estimate", most: float | None, yes: bool) -> None:
    """Print the cost, check it against `most`, and on a terminal ask; raises `ConfigError` for a no."""
    if session.local:
        return
    show_cost(session, estimate)
    estimate.check(most)
    if not yes and sys.stdin.isatty() and not typer.confirm("Start?", err=True):
        raise ConfigError("Nothing was started.")
