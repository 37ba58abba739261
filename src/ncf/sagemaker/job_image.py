"""Which image a training job runs: ours, AWS's, or the one that has what the job's distribution needs.

The one decision worth knowing: what an image surely lacks is said before anything is sent; what only the image can tell,
such as whether one's own has Horovod, its container says in the job's failure.

Source: "Supported frameworks, AWS Regions, and instance types" of the SMDDP library, SageMaker Developer Guide.
"""

import os

from ncf.errors import ConfigError
from ncf.sagemaker import images
from ncf.sagemaker.distribution import Distribution
from ncf.sagemaker.session import Session

HOROVOD_IMAGE = "ncf-horovod:local"
"""What `scripts/image` makes with `--build-arg HOROVOD=1`."""
SMDDP_INSTANCES = ("ml.p4d.24xlarge", "ml.p4de.24xlarge")
SMDDP_PROCESSES = 8
"""A process for each GPU of these instances: what the toolkit's launcher starts."""
SMDDP_PYTORCH = "2.5.1"
"""The last PyTorch training image of AWS that has the library."""


def image_for(
    session: Session,
    distribution: Distribution,
    instance_type: str,
    given: str | None = None,
    *,
    script_mode: bool = False,
) -> str:
    """The image of a job, with what its distribution needs; raises `ConfigError` where that cannot be."""
    if distribution.kind == "horovod":
        return _horovod_image(session, given, script_mode)
    if distribution.kind == "smddp":
        return _smddp_image(session, distribution, instance_type, given, script_mode)
    if script_mode:
        return given or images.pytorch_image(session, instance_type)
    return images.own_image(session, given)


def _horovod_image(session: Session, given: str | None, script_mode: bool) -> str:
    if script_mode:
        raise ConfigError(
            "No current image of AWS has Horovod (the last were those of PyTorch 1.13): leave out --script-mode, "
            f"and give an image made with 'scripts/image {HOROVOD_IMAGE} --build-arg HOROVOD=1'."
        )
    given = given or os.environ.get("NCF_IMAGE") or (HOROVOD_IMAGE if session.local else None)
    if given is None:
        raise ConfigError(
            "--distributed horovod needs an image with Horovod, and the usual one has none: build it with "
            f"'scripts/image {HOROVOD_IMAGE} --build-arg HOROVOD=1', push it with 'ncf sagemaker push-image --image "
            f"{HOROVOD_IMAGE} --image-tag horovod', and give --image the address that it prints."
        )
    return images.own_image(session, given)


def _smddp_image(
    session: Session, distribution: Distribution, instance_type: str, given: str | None, script_mode: bool
) -> str:
    other = "use --distributed torchrun, which runs everywhere"
    if session.local:
        raise ConfigError(
            f"Amazon's SMDDP library runs on {' and '.join(SMDDP_INSTANCES)} alone: leave out --local, or {other}."
        )
    if not script_mode and given is None:
        raise ConfigError(
            f"Amazon's SMDDP library comes in AWS's PyTorch images alone, last in that of PyTorch {SMDDP_PYTORCH}: give "
            f"--script-mode, or {other}."
        )
    if instance_type not in SMDDP_INSTANCES:
        raise ConfigError(
            f"Amazon's SMDDP library does not run on {instance_type}: give --instance-type "
            f"{' or '.join(SMDDP_INSTANCES)}, or {other}."
        )
    if distribution.processes not in (None, SMDDP_PROCESSES):
        raise ConfigError(
            f"SMDDP starts {SMDDP_PROCESSES} processes on each host, one for each GPU: leave out --processes-per-host."
        )
    return given or images.pytorch_image(session, instance_type, version=SMDDP_PYTORCH)
