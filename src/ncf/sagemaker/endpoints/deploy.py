"""Deploy, update and roll back an endpoint; `ncf.sagemaker.endpoints.outcome` ends a change, and deletes.

In: a model (a run, an artifact, a model.tar.gz, here or in S3) and a `Hosting`. Out: an endpoint that
answers; or the endpoint as it was before, and a `CloudError` that says why, with the last lines of its log.

The one decision worth knowing: every deployment makes a model and a configuration of its own, and deletes
them when it fails. So there is always a configuration to return to, and no half-made resources stay behind.

| what fails | then |
| --- | --- |
| a call before the endpoint changes | the model and the configuration are deleted |
| a new endpoint | it is deleted with them |
| an update | SageMaker, or otherwise ncf, restores the configuration before; then they are deleted |
| waiting (network, ctrl-C) | nothing is undone: SageMaker continues |
"""

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ncf.data.files import sha256_of
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.endpoints import autoscaling
from ncf.sagemaker.endpoints.autoscaling import Registered, Scaling
from ncf.sagemaker.endpoints.describe import (
    MOVING,
    Description,
    EndpointProgress,
    check_own,
    find,
    find_config,
    new_part,
    own,
    tags_of,
)
from ncf.sagemaker.endpoints.outcome import Change, conclude, discard
from ncf.sagemaker.endpoints.requests import (
    BEFORE_TAG,
    Hosting,
    config_request,
    model_request,
    update_request,
    vpc,
)
from ncf.sagemaker.jobs import images
from ncf.sagemaker.jobs.package import pack_model
from ncf.sagemaker.names import checked
from ncf.sagemaker.session import Session


@dataclass(frozen=True)
class Deployed:
    """What a deployment has made."""

    endpoint: str
    config: str
    model: str
    model_uri: str
    status: str
    created: bool
    """Whether the endpoint is new; an update otherwise."""


def deploy(
    session: Session,
    source: str,
    hosting: Hosting,
    *,
    endpoint: str | None = None,
    image: str | None = None,
    scaling: Scaling | None = None,
    wait: bool = True,
    progress: EndpointProgress | None = None,
) -> Deployed:
    """Create the endpoint, or replace what it serves without losing a request.

    `source` is a run, an artifact or a model.tar.gz, here or in S3. `endpoint` is the project's name by
    default, `image` the project's image; `scaling` adds autoscaling. Without `wait` the call returns when the
    change has begun. Raises `ConfigError` for options that cannot be, before anything is made; `CloudError`
    with code `Unhealthy` where the model does not come up, `Busy` where somebody else is changing the
    endpoint.
    """
    progress = progress or EndpointProgress()
    name = checked(endpoint or session.project, "The endpoint's name")
    check(session, hosting, scaling, wait)
    current = find(session, name)
    if current is not None:
        check_own(session, current)
        _check_free(current)
    image = _image(session, hosting, image)
    uri = _upload(session, source, hosting, progress)
    part = new_part(session, name)
    before: str | None = None if current is None else current["EndpointConfigName"]
    model = model_request(session, part, name, image, uri, hosting)
    config = config_request(session, part, name, part, hosting, before)
    client, began = session.client("sagemaker"), time.time()
    with ExitStack() as undo:
        client.create_model(**model)
        undo.callback(discard, progress, client.delete_model, ModelName=part)
        client.create_endpoint_config(**config)
        undo.callback(discard, progress, client.delete_endpoint_config, EndpointConfigName=part)
        suspended = None
        if current is None:
            _start_new(session, name, part)
        else:
            suspended = _start_update(session, current, part, hosting, wait, progress)
        undo.pop_all()
    made = Deployed(name, part, part, uri, "Creating" if current is None else "Updating", current is None)
    if not wait:
        return made
    conclude(session, Change(name, part, before, hosting.variant, began, part, suspended), progress)
    if scaling is not None:
        autoscaling.scale(session, name, hosting.variant, scaling, hosting.asynchronous)
    return replace(made, status="InService")


def rollback(
    session: Session, endpoint: str, *, wait: bool = True, progress: EndpointProgress | None = None
) -> str:
    """Restore the configuration before the last update; returns its name. Other arguments as in `deploy`."""
    progress = progress or EndpointProgress()
    current = own(session, endpoint)
    _check_free(current)
    now = current["EndpointConfigName"]
    config = find_config(session, now)
    before = tags_of(session, config["EndpointConfigArn"]).get(BEFORE_TAG) if config else None
    target = find_config(session, before) if before else None
    if before is None or target is None:
        deleted = f": {before} was deleted" if before else ""
        sentence = (
            f"The endpoint {endpoint} has no earlier configuration{deleted}: deploy the model that you want."
        )
        raise CloudError(sentence)
    variant, began = target["ProductionVariants"][0], time.time()
    serverless = variant.get("ServerlessConfig")
    hosting = Hosting(
        instance_type=variant.get("InstanceType", ""), variant=variant["VariantName"],
        serverless_mb=serverless and serverless["MemorySizeInMB"],
    )  # fmt: skip
    suspended = _start_update(session, current, before, hosting, wait, progress)
    if wait:
        conclude(session, Change(endpoint, before, now, hosting.variant, began, None, suspended), progress)
    return before


def check(session: Session, hosting: Hosting, scaling: Scaling | None = None, wait: bool = True) -> None:
    """Raise `ConfigError` for options of `deploy` that cannot be, or not together."""
    hosting.check()
    vpc(session, hosting)
    if scaling is not None and hosting.serverless_mb is not None:
        raise ConfigError("Serverless endpoints scale by themselves: leave out --autoscale.")
    if scaling is not None and not wait:
        raise ConfigError("Autoscaling begins when the endpoint is in service: leave out --no-wait.")
    hosted_only = {
        "--autoscale": scaling, "--capture": hosting.capture, "--serverless": hosting.serverless_mb,
        "--async": hosting.asynchronous or None, "--alarm": hosting.alarms or None,
        "--instance-count": hosting.instance_count if hosting.instance_count > 1 else None,
        "--traffic": None if hosting.traffic == "all-at-once" else hosting.traffic,
    }  # fmt: skip
    given = [name for name, value in hosted_only.items() if value is not None]
    if session.local and given:
        raise ConfigError(f"Local mode has no {' and no '.join(given)}: leave it out, or leave out --local.")


def _image(session: Session, hosting: Hosting, given: str | None) -> str:
    if hosting.aws_image and given is None:
        return images.pytorch_image(session, hosting.instance_type, "inference")
    return images.own_image(session, given, verify=not hosting.aws_image)


def _check_free(current: Description) -> None:
    """Raise `CloudError` for an endpoint that is being changed, or has failed."""
    name, status = current["EndpointName"], current["EndpointStatus"]
    if status in MOVING:
        raise _busy(name, status)
    if status in ("Failed", "OutOfService"):
        reason = (current.get("FailureReason") or "SageMaker gives no reason").rstrip(".")
        first = f"'ncf sagemaker delete {name}' first, then deploy again."
        raise CloudError(f"The endpoint {name} is {status} ({reason}): {first}", "Failed")


def _busy(name: str, status: str) -> CloudError:
    return CloudError(
        f"The endpoint {name} is being changed by another deployment ({status}): wait until it is in service "
        f"('ncf sagemaker describe {name}'), then try again; nothing was made.",
        "Busy",
    )


def _upload(session: Session, source: str, hosting: Hosting, progress: EndpointProgress) -> str:
    """The URI of the model's archive: one in S3 is used as it is, others are packed and uploaded once."""
    if source.startswith("s3://"):
        return source
    path = source.removeprefix("file://")
    with tempfile.TemporaryDirectory(prefix="ncf-deploy-") as folder:
        archive = pack_model(path, Path(folder) / "model.tar.gz", code=hosting.aws_image)
        progress.log(f"Model: {archive.stat().st_size / 2**20:.1f} MiB packed from {source}.")
        return session.upload(archive, "models", sha256_of(archive), "model.tar.gz")


def _start_new(session: Session, name: str, config: str) -> None:
    client = session.client("sagemaker")
    try:
        client.create_endpoint(EndpointName=name, EndpointConfigName=config, Tags=session.tags())
    except CloudError as error:
        raise _busy(name, "Creating") if "already exist" in str(error) else error from error


def _start_update(
    session: Session,
    current: Description,
    config: str,
    hosting: Hosting,
    wait: bool,
    progress: EndpointProgress,
) -> Registered | None:
    """Begin the update to `config`; returns the autoscaling that had to be suspended for it."""
    name = current["EndpointName"]
    before = find_config(session, current["EndpointConfigName"])
    variant = before["ProductionVariants"][0] if before else {"VariantName": hosting.variant}
    registered = autoscaling.find(session, name, variant["VariantName"])
    same = (variant["VariantName"], variant.get("InstanceType")) == (hosting.variant, hosting.instance_type)
    suspended = None if same else registered
    if suspended:
        if not wait:
            raise ConfigError(
                "The instance type or variant of an endpoint with autoscaling changes: leave out --no-wait, "
                "so that its scaling can be restored."
            )
        progress.log(f"{name}: autoscaling is suspended until the update is done.")
        autoscaling.unregister(session, name, variant["VariantName"])
    request = update_request(name, config, hosting, keep_capacity=bool(registered and same))
    try:
        session.client("sagemaker").update_endpoint(**request)
    except CloudError as error:
        if suspended:
            autoscaling.register_again(session, suspended, variant["VariantName"])
        busy = "in-progress" in str(error) or "in status" in str(error)
        raise _busy(name, "Updating") if busy else error from error
    return suspended
