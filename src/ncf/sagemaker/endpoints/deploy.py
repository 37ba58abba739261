"""Deploy, update, roll back and delete an endpoint (`endpoint_removal.py`).

In: a model (a run, an artifact, a model.tar.gz, here or in S3) and a `Hosting`. Out: an endpoint that answers, or the
endpoint as it was before, and a `CloudError` that says why, with the last lines of its log.

The one decision worth knowing: every deployment makes a model and a configuration of its own, and takes them away
again when it fails. So there is always a configuration to go back to, and nothing half made stays behind.

| it fails | then |
| --- | --- |
| before the endpoint changes | the model and the configuration are deleted |
| a new endpoint | it is deleted with them |
| an update | SageMaker, or where it does not ncf, goes back to the configuration before; then they are deleted |
| waiting (network, ctrl-C) | nothing is undone: SageMaker goes on |
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
from ncf.sagemaker.endpoints.outcome import Change, conclude
from ncf.sagemaker.endpoints.removal import delete, take_away
from ncf.sagemaker.endpoints.requests import (
    BEFORE_TAG,
    Hosting,
    config_request,
    model_request,
    update_request,
    vpc,
)
from ncf.sagemaker.endpoints.state import (
    MOVING,
    Description,
    EndpointProgress,
    check_own,
    config_named,
    find,
    new_part,
    own,
    tags_of,
)
from ncf.sagemaker.jobs import images
from ncf.sagemaker.jobs.package import pack_model
from ncf.sagemaker.names import checked
from ncf.sagemaker.session import Session

__all__ = ["Deployed", "check", "delete", "deploy", "rollback"]


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
    watch: EndpointProgress | None = None,
) -> Deployed:
    """Create the endpoint (by default named as the project), or replace what it runs without losing a request.

    Raises `ConfigError` for what cannot be, before anything is made; `CloudError` with code `Unhealthy` where the
    model does not come up, `Busy` where the endpoint is being changed by somebody else.
    """
    watch = watch or EndpointProgress()
    name = checked(endpoint or session.project, "The endpoint's name")
    check(session, hosting, scaling, wait)
    current = find(session, name)
    if current is not None:
        check_own(session, current)
        _check_free(current)
    image = _image(session, hosting, image)
    uri = _upload(session, source, hosting, watch)
    part = new_part(session, name)
    before: str | None = None if current is None else current["EndpointConfigName"]
    model = model_request(session, part, name, image, uri, hosting)
    config = config_request(session, part, name, part, hosting, before)
    client, began = session.client("sagemaker"), time.time()
    with ExitStack() as undo:
        client.create_model(**model)
        undo.callback(take_away, watch, client.delete_model, ModelName=part)
        client.create_endpoint_config(**config)
        undo.callback(take_away, watch, client.delete_endpoint_config, EndpointConfigName=part)
        suspended = None if current is None else _start_update(session, current, part, hosting, wait, watch)
        if current is None:
            _start_new(session, name, part)
        undo.pop_all()
    made = Deployed(name, part, part, uri, "Creating" if current is None else "Updating", current is None)
    if not wait:
        return made
    conclude(session, Change(name, part, before, hosting.variant, began, part, suspended), watch)
    if scaling is not None:
        autoscaling.scale(session, name, hosting.variant, scaling, hosting.asynchronous)
    return replace(made, status="InService")


def rollback(
    session: Session, endpoint: str, *, wait: bool = True, watch: EndpointProgress | None = None
) -> str:
    """Go back to the configuration before the last update; returns its name."""
    watch = watch or EndpointProgress()
    current = own(session, endpoint)
    _check_free(current)
    config = config_named(session, current["EndpointConfigName"])
    before = tags_of(session, config["EndpointConfigArn"]).get(BEFORE_TAG) if config else None
    target = config_named(session, before) if before else None
    if before is None or target is None:
        raise CloudError(
            f"The endpoint {endpoint} has no earlier configuration"
            + (f": {before} was deleted" if before else "")
            + ": deploy the model that you want."
        )
    variant, began = target["ProductionVariants"][0], time.time()
    serverless = variant.get("ServerlessConfig")
    hosting = Hosting(
        instance_type=variant.get("InstanceType", ""), variant=variant["VariantName"],
        serverless_mb=serverless and serverless["MemorySizeInMB"],
    )  # fmt: skip
    suspended = _start_update(session, current, before, hosting, wait, watch)
    if wait:
        was = current["EndpointConfigName"]
        conclude(session, Change(endpoint, before, was, hosting.variant, began, None, suspended), watch)
    return before


def check(session: Session, hosting: Hosting, scaling: Scaling | None = None, wait: bool = True) -> None:
    """Raise `ConfigError` for what cannot be asked for."""
    hosting.check()
    vpc(session, hosting)
    if scaling is not None and hosting.serverless_mb is not None:
        raise ConfigError("Serverless endpoints scale by themselves: leave out --autoscale.")
    if scaling is not None and not wait:
        raise ConfigError("Autoscaling begins when the endpoint is in service: leave out --no-wait.")
    wanted = {
        "--autoscale": scaling, "--capture": hosting.capture, "--serverless": hosting.serverless_mb,
        "--async": hosting.asynchronous or None, "--alarm": hosting.alarms or None,
        "--instance-count": hosting.instance_count if hosting.instance_count > 1 else None,
        "--traffic": None if hosting.traffic == "all-at-once" else hosting.traffic,
    }  # fmt: skip
    asked = [name for name, value in wanted.items() if value is not None]
    if session.local and asked:
        raise ConfigError(f"Local mode has no {' and no '.join(asked)}: leave it out, or leave out --local.")


def _image(session: Session, hosting: Hosting, given: str | None) -> str:
    if hosting.aws_image and given is None:
        return images.pytorch_image(session, hosting.instance_type, "inference")
    return images.own_image(session, given, verify=not hosting.aws_image)


def _check_free(current: Description) -> None:
    name, status = current["EndpointName"], current["EndpointStatus"]
    if status in MOVING:
        raise _busy(name, status)
    if status in ("Failed", "OutOfService"):
        reason = current.get("FailureReason") or "SageMaker gives no reason"
        raise CloudError(
            f"The endpoint {name} is {status} ({reason.rstrip('.')}): 'ncf sagemaker delete {name}' first, then deploy again.",
            "Failed",
        )


def _busy(name: str, status: str) -> CloudError:
    return CloudError(
        f"The endpoint {name} is being changed by another deployment ({status}): wait until it is in service "
        f"('ncf sagemaker describe {name}'), then try again; nothing was made.",
        "Busy",
    )


def _upload(session: Session, source: str, hosting: Hosting, watch: EndpointProgress) -> str:
    """Where the model's archive lies; one that is in S3 is taken as it is, others are packed and sent once."""
    if source.startswith("s3://"):
        return source
    path = source.removeprefix("file://")
    with tempfile.TemporaryDirectory(prefix="ncf-deploy-") as folder:
        archive = pack_model(path, Path(folder) / "model.tar.gz", code=hosting.aws_image)
        watch.log(f"Model: {archive.stat().st_size / 2**20:.1f} MiB packed from {source}.")
        return session.upload(archive, "models", sha256_of(archive), "model.tar.gz")


def _start_new(session: Session, name: str, config: str) -> None:
    try:
        session.client("sagemaker").create_endpoint(
            EndpointName=name, EndpointConfigName=config, Tags=session.tags()
        )
    except CloudError as error:
        raise _busy(name, "Creating") if "already exist" in str(error) else error from error


def _start_update(
    session: Session, current: Description, config: str, hosting: Hosting, wait: bool, watch: EndpointProgress
) -> Registered | None:
    """Begin the update; returns the autoscaling that had to be taken away for it."""
    name = current["EndpointName"]
    was = config_named(session, current["EndpointConfigName"])
    variant = was["ProductionVariants"][0] if was else {"VariantName": hosting.variant}
    registered = autoscaling.find(session, name, variant["VariantName"])
    same = (variant["VariantName"], variant.get("InstanceType")) == (hosting.variant, hosting.instance_type)
    if registered and not same:
        if not wait:
            raise ConfigError(
                "The instance type or variant of an endpoint with autoscaling changes: leave out --no-wait, "
                "so that its scaling can be put back."
            )
        watch.log(f"{name}: autoscaling rests until the update is done.")
        autoscaling.unregister(session, name, variant["VariantName"])
    try:
        session.client("sagemaker").update_endpoint(
            **update_request(name, config, hosting, keep_capacity=bool(registered and same))
        )
    except CloudError as error:
        if registered and not same:
            autoscaling.register_again(session, registered, variant["VariantName"])
        said = str(error)
        raise _busy(name, "Updating") if "in-progress" in said or "in status" in said else error from error
    return None if same else registered
